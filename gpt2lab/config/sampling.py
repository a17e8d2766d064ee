"""Sampling: how the next token is chosen, and how many samples are drawn."""

import math
from dataclasses import dataclass

from gpt2lab.config.checked import CheckedConfig
from gpt2lab.config.errors import UserError, check


@dataclass
class DecodingConfig(CheckedConfig):
    """How the next token is chosen from the logits."""

    own_key = "sampling"
    """where it stands in a job of its own; elsewhere ``from_dict`` puts the whole key into error lines"""

    temperature: float = 1.0
    """divides the logits; 0: always the most likely token (greedy)"""
    top_k: int | None = None
    """keep the k most likely tokens; null: all"""
    top_p: float | None = None
    """keep the smallest set of most likely tokens whose probabilities sum to p (Holtzman et al. 2020); null: all"""

    def __post_init__(self) -> None:
        check(
            self.temperature >= 0 and math.isfinite(self.temperature),
            "sampling.temperature", self.temperature, "0 (greedy) or a finite number above it",
        )  # fmt: skip
        check(
            self.top_k is None or self.top_k >= 1, "sampling.top_k", self.top_k, "a whole number of at least 1, or null"
        )
        check(self.top_p is None or 0 < self.top_p <= 1, "sampling.top_p", self.top_p, "0 < top_p <= 1, or null")
        filters = [key for key in ("top_k", "top_p") if getattr(self, key) is not None]
        if self.temperature == 0 and filters:
            given = f"sampling.{filters[0]}={getattr(self, filters[0])}"
            raise UserError(
                f"{given}: greedy decoding (sampling.temperature=0) ignores it; expected null; try "
                f"{' '.join(f'sampling.{key}=null' for key in filters)}"
            )

    @property
    def label(self) -> str:
        """A short name of these settings: greedy, temperature=0.7, top_k=40 temperature=0.7, ..."""
        if self.temperature == 0:
            return "greedy"
        parts = [f"top_k={self.top_k}"] if self.top_k is not None else []
        parts += [f"top_p={self.top_p:g}"] if self.top_p is not None else []
        parts += [f"temperature={self.temperature:g}"] if self.temperature != 1 or not parts else []
        return " ".join(parts)


@dataclass
class SamplingConfig(DecodingConfig):
    """How samples are drawn: the decoding settings, length, number and seed."""

    max_new_tokens: int = 128
    """longest sample in tokens; an end-of-text token ends a sample early"""
    num_samples: int = 1
    """number of samples"""
    batch_size: int = 16
    """samples that are decoded together; the samples do not depend on it, but for rounding: some do in bf16"""
    seed: int = 0
    """sample i depends on (seed, i) only"""

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("max_new_tokens", "num_samples", "batch_size"):
            check(getattr(self, key) >= 1, f"sampling.{key}", getattr(self, key), "a whole number of at least 1")
        check(self.seed >= 0, "sampling.seed", self.seed, "0 or more")
