"""Speed and memory beside the usual tools; docs/speed.md explains the results."""
