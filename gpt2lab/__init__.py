"""gpt2lab: train, ablate and evaluate GPT-2-style language models."""

__version__ = "0.1.0"
