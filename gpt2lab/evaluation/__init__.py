"""Scores of a model on text: perplexity, tasks, quality of its samples, use of its context."""
