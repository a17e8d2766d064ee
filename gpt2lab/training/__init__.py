"""Training: optimizer, schedule, metrics, the loop and how they are built from a configuration."""
