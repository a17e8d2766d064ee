"""Perplexity of a corpus under a named protocol."""
