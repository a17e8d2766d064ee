"""Scores of a model, and text drawn from it."""

import math
from dataclasses import dataclass

from gpt2lab.config.errors import check


@dataclass
class PerplexityConfig:
    """Which text is scored, and with how much context."""

    text_file: str | None = None
    """a UTF-8 text to score; null: the run's validation split"""
    stride: int | None = None
    """tokens between windows; null: the window's length. A smaller stride gives each token more context"""
    batch_size: int = 8
    """windows a forward pass; the figures do not depend on it"""

    def __post_init__(self) -> None:
        check(
            self.stride is None or self.stride >= 1, "eval.stride", self.stride, "a whole number of at least 1, or null"
        )
        check(self.batch_size >= 1, "eval.batch_size", self.batch_size, "a whole number of at least 1")


@dataclass
class SamplingConfig:
    """How the next token is drawn."""

    temperature: float = 1.0
    """divides the logits; 0: the most likely token (greedy)"""
    top_k: int | None = None
    """keep the k most likely tokens; null: all"""
    top_p: float | None = None
    """keep the smallest set of tokens whose probabilities reach p (Holtzman et al. 2020); null: all"""
    max_new_tokens: int = 128
    """tokens to add at most; end-of-text ends a sample early"""
    num_samples: int = 1
    """continuations of the prompt"""
    batch_size: int = 16
    """rows that are decoded together; the samples do not depend on it"""
    seed: int = 0
    """sample i depends on (seed, i) alone"""

    def __post_init__(self) -> None:
        check(
            self.temperature >= 0 and math.isfinite(self.temperature),
            "sampling.temperature", self.temperature, "0 (greedy) or a finite number above it",
        )  # fmt: skip
        check(
            self.top_k is None or self.top_k >= 1, "sampling.top_k", self.top_k, "a whole number of at least 1, or null"
        )
        check(self.top_p is None or 0 < self.top_p <= 1, "sampling.top_p", self.top_p, "0 < top_p <= 1, or null")
        for key in ("max_new_tokens", "num_samples", "batch_size"):
            check(getattr(self, key) >= 1, f"sampling.{key}", getattr(self, key), "a whole number of at least 1")
        check(self.seed >= 0, "sampling.seed", self.seed, "0 or more")
