"""Shards -> a token stream -> sequences -> batches in a fixed order."""
