"""Scores of a model on text."""

from gpt2lab.evaluation.perplexity import Perplexity, perplexity

__all__ = ["Perplexity", "perplexity"]
