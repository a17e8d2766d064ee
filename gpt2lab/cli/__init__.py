"""Hydra and the shell: from a command line to a job, and from its end to an exit status."""
