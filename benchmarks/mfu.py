"""Model FLOPs utilization: the operations of a model's training tokens in a second, as a share of the GPU's peak.

Two conventions are in use. Ours (gpt2lab.training.throughput, after Chowdhery et al. 2022) counts 6 operations per
weight of a matrix product, and attention as if every token saw all others. llm.c's counts 6 per parameter, with
position embeddings and the head padded to 50,304 rows, and half of attention (train_gpt2.cu of
github.com/karpathy/llm.c).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.models import SHAPES
from gpt2lab.config import ModelConfig
from gpt2lab.model import GPT
from gpt2lab.model.init import shapes_only
from gpt2lab.training.throughput import flops_per_token

LLM_C_VOCAB_SIZE = 50_304


class Utilization(NamedTuple):
    """Of the training step of one pair; shares of the peak."""

    work: str
    theirs_name: str
    ours: float
    theirs: float
    ours_llm_c: float
    """ours, by llm.c's convention"""
    target: float


def utilization(
    work: str, theirs_name: str, case: Mapping[str, Any], rates: tuple[float, float], peak: float, target: float
) -> Utilization:
    """From tokens per second, ours and theirs, and the peak in operations per second."""
    ours, theirs = (rate * operations(case) / peak for rate in rates)
    return Utilization(work, theirs_name, ours, theirs, rates[0] * operations_llm_c(case) / peak, target)


def operations(case: Mapping[str, Any]) -> int:
    """Per token, by our convention."""
    return flops_per_token(_model(case), case["T"])


def operations_llm_c(case: Mapping[str, Any]) -> int:
    """Per token, by llm.c's convention."""
    model = _model(case)
    config = model.config
    parameters = model.num_parameters() + (LLM_C_VOCAB_SIZE - config.vocab_size) * config.n_embd
    return 6 * (parameters + config.n_layer * config.n_embd * case["T"])


def _model(case: Mapping[str, Any]) -> GPT:
    with shapes_only():
        return GPT(ModelConfig(**SHAPES[case["shape"]]))


def table(rows: Sequence[Utilization], peak: float) -> str:
    """As Markdown."""
    lines = [
        f"Model FLOPs utilization, of {peak / 1e12:,.0f} TFLOP/s:",
        "",
        "| work | gpt2lab | target | by llm.c's convention | other side | other side's |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        reached = "met" if row.ours >= row.target else "not met"
        lines.append(
            f"| {row.work} | {row.ours:.1%} | {row.target:.0%} {reached} | {row.ours_llm_c:.1%} | {row.theirs_name} "
            f"| {row.theirs:.1%} |"
        )
    return "\n".join(lines) + "\n"
