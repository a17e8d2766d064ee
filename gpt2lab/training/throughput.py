"""How fast a run is: tokens per second, the share of time spent waiting for data, and model FLOPs utilization."""

import re
from collections import deque
from dataclasses import dataclass, field

import torch

from gpt2lab.model import GPT

PEAK_FLOPS = {
    "GB200": 2500e12,
    "B200": 2250e12,
    "GH200": 989e12,
    "H200 NVL": 835e12,
    "H200": 989e12,
    "H100 NVL": 835e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}
"""bf16 matrix products without sparsity, a second, by words of the device's name; the first that fits (data sheets)"""

OTHER_CARDS = {"Laptop", "D", "Ti", "MIG"}
"""words that make the name of a card that of another one, or of a part: RTX 4090 Laptop GPU, RTX 4090 D, RTX 3090 Ti,
H100 80GB HBM3 MIG 1g.10gb"""


def flops_per_token(model: GPT, sequence_length: int) -> int:
    """Floating-point operations of forward and backward, a token; recomputed activations do not count.

    6 a weight of every matrix product (the head is one, the embedding is a look-up) and 12 n_layer n_embd T for the
    scores and their sums, as if every token saw all others (Chowdhery et al. 2022, appendix B).
    """
    config = model.config
    in_blocks = sum(p.numel() for block in model.blocks for p in block.parameters() if p.ndim == 2)
    head = config.vocab_size * config.n_embd
    return 6 * (in_blocks + head) + 12 * config.n_layer * config.n_embd * sequence_length


def peak_flops(device: torch.device, precision: str) -> float | None:
    """Peak FLOPs per second of the device in 16-bit formats; None: not in the table, or another format."""
    if device.type != "cuda" or precision == "fp32":
        return None
    words = " ".join(re.split(r"[\s-]+", torch.cuda.get_device_name(device)))  # A100-SXM4-80GB
    if OTHER_CARDS & set(words.split()):
        return None
    return next((flops for part, flops in PEAK_FLOPS.items() if f" {part} " in f" {words} "), None)


RECENT_STEPS = 20
"""that the rate on the progress bar is of"""


@dataclass
class Throughput:
    """Sums since the last line of ``metrics.jsonl``."""

    flops_per_token: int
    peak_flops: float | None
    """of all devices together"""
    tokens: int = 0
    seconds: float = 0.0
    waiting: float = 0.0
    """seconds of it before the batch was there"""
    recent: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=RECENT_STEPS))
    """tokens and seconds of the last steps"""

    def add(self, tokens: int, seconds: float) -> None:
        """Count a step."""
        self.tokens += tokens
        self.seconds += seconds
        self.recent.append((tokens, seconds))

    def recent_rate(self) -> float:
        """Tokens per second of the last steps.

        Not of one alone: on a GPU the host waits for a step while the next one is queued, and for both where a line is
        logged, so that the step after a logged one takes it no time.
        """
        tokens, seconds = map(sum, zip(*self.recent, strict=True))
        return tokens / seconds

    def take(self) -> dict[str, float]:
        """The metrics since the last call; ``mfu`` where the device's peak is known."""
        rate = self.tokens / self.seconds
        metrics = {"tokens_per_second": round(rate), "data_wait": round(self.waiting / self.seconds, 4)}
        if self.peak_flops:
            metrics["mfu"] = round(rate * self.flops_per_token / self.peak_flops, 4)
        self.tokens, self.seconds, self.waiting = 0, 0.0, 0.0
        return metrics
