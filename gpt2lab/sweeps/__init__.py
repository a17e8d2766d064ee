"""A sweep: the runs that belong together, planned, run as processes of their own, and recorded."""
