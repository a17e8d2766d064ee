"""What is asked of a model's samples, and of its context."""

import math
from dataclasses import dataclass, field

from gpt2lab.config.checked import CheckedConfig
from gpt2lab.config.errors import UserError, check
from gpt2lab.config.sampling import DecodingConfig


def _default_grid() -> list[DecodingConfig]:
    """Holtzman et al. 2020, Table 1, as far as it has no beam search."""
    return [
        DecodingConfig(temperature=0.0),
        DecodingConfig(temperature=0.7),
        DecodingConfig(temperature=1.0),
        DecodingConfig(top_k=40),
        DecodingConfig(top_k=40, temperature=0.7),
        DecodingConfig(top_p=0.95),
    ]


@dataclass
class SampleQualityConfig(CheckedConfig):
    """Which samples are drawn, and what scores them."""

    decoding: list[DecodingConfig] = field(default_factory=_default_grid)
    """the settings that are compared: [{temperature: 0}, {top_p: 0.9}, ...]"""
    num_prompts: int = 32
    """stretches of validation text to continue, none overlapping another"""
    prompt_tokens: int = 32
    """tokens of a prompt"""
    new_tokens: int = 64
    """tokens of a continuation at most, a human's too"""
    scorer: str | None = None
    """a checkpoint, Hugging Face directory or name whose perplexity is taken; null: the model itself"""
    mauve_seeds: int = 0
    """k-means runs that MAUVE is averaged over (needs pip install 'gpt2lab[mauve]'); 0: no MAUVE"""
    batch_size: int = 16
    """rows that are decoded or scored together; the results do not depend on it"""
    seed: int = 0
    """seed of the choice of prompts and of the samples"""

    def __post_init__(self) -> None:
        check(
            len(self.decoding) >= 1,
            "eval.sample_quality.decoding",
            self.decoding,
            "at least one, such as [{top_p: 0.95}]",
        )
        labels = [setting.label for setting in self.decoding]
        twice = next((label for label in labels if labels.count(label) > 1), None)
        if twice is not None:
            raise UserError(f"eval.sample_quality.decoding has {twice} twice: expected each setting once")
        check(self.num_prompts >= 2, "eval.sample_quality.num_prompts", self.num_prompts, "at least 2, to be compared")
        for key in ("prompt_tokens", "new_tokens", "batch_size"):
            check(
                getattr(self, key) >= 1,
                f"eval.sample_quality.{key}",
                getattr(self, key),
                "a whole number of at least 1",
            )
        check(
            self.mauve_seeds >= 0,
            "eval.sample_quality.mauve_seeds",
            self.mauve_seeds,
            "0 (no MAUVE) or more, such as 5",
        )
        check(self.seed >= 0, "eval.sample_quality.seed", self.seed, "0 or more")


@dataclass
class ContextConfig(CheckedConfig):
    """How much text a model is shown, and where it stands. Lengths are multiples of the context it was trained on."""

    lengths: list[float] = field(default_factory=lambda: [0.125, 0.25, 0.5, 1.0, 2.0, 4.0])
    """contexts whose perplexity is taken"""
    offsets: list[float] = field(default_factory=lambda: [0.0, 0.25, 0.5, 1.0, 2.0, 3.5])
    """positions at which a window of half the trained context begins"""
    max_tokens: int = 4096
    """longest window, whatever the multiples say"""
    num_blocks: int = 64
    """stretches of text that are scored at every length and offset, spread over the text"""
    block_tokens: int = 16
    """scored tokens of each; a context of c tokens is c + 1 - block_tokens to c of them"""
    position_windows: int = 64
    """windows of the longest context, scored whole for the loss by position"""
    batch_size: int = 8
    """windows per forward pass; the results do not depend on it"""

    def __post_init__(self) -> None:
        check(
            len(self.lengths) >= 1 and all(0 < length < math.inf for length in self.lengths),
            "eval.context.lengths", self.lengths, "multiples of the trained context above 0, such as [0.5, 1, 2]",
        )  # fmt: skip
        check(
            all(0 <= offset < math.inf for offset in self.offsets),
            "eval.context.offsets", self.offsets, "multiples of the trained context, 0 or more, such as [0, 0.5, 1]",
        )  # fmt: skip
        for key in ("max_tokens", "num_blocks", "block_tokens", "position_windows", "batch_size"):
            check(getattr(self, key) >= 1, f"eval.context.{key}", getattr(self, key), "a whole number of at least 1")
