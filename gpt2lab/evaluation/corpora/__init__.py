"""Texts to score: where they come from, how they are read, how their own tokenization is undone."""
