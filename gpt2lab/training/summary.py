"""``summary.json``: the status and the final metrics of a run."""

import math
from collections.abc import Sequence
from typing import Any

import torch

from gpt2lab.evaluation.scoring import Perplexity
from gpt2lab.runs import SCHEMA_VERSION, write_json
from gpt2lab.runs.layout import SUMMARY
from gpt2lab.runs.records import finite_or_none
from gpt2lab.training.metrics import peak_memory_bytes
from gpt2lab.training.plan import RunPlan
from gpt2lab.training.references import Reference
from gpt2lab.training.state import TrainState


def summarize(
    plan: RunPlan,
    state: TrainState,
    status: str,
    *,
    loss: float | None = None,
    validation: Perplexity | None = None,
    references: Sequence[Reference] = (),
) -> dict[str, Any]:
    """The content of ``summary.json``; NaN and infinity are None. Seconds are summed over all starts of the run.

    Args:
        plan: the run's fixed facts.
        state: where it is.
        status: ``running``, ``completed``, ``stopped`` or ``failed: <error>``.
        loss: training loss of the last step.
        validation: of the last step, of a completed run.
        references: scores of models that only count tokens.
    """
    tokens = state.step * plan.batch_tokens
    summary: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "status": status,
        "run_id": state.run_id,
        "steps": state.step,
        "tokens": tokens,
        "parameters": plan.parameters,
        "parameters_without_embeddings": plan.parameters_without_embeddings,
        "flops_per_token": plan.flops_per_token,
        "processes": plan.processes,
        "tokens_per_second": tokens / state.train_seconds if state.train_seconds else None,
        "wall_seconds": state.wall_seconds,
        "peak_memory_bytes": peak_memory_bytes(torch.device(plan.device)),
        "precision": plan.precision,
        "device": plan.device_name,
        "learning_rate": plan.peak_lr,
        "skipped_steps": state.skipped_steps,
        "loss_spikes": state.spikes.count,
        "loss": loss,
        "best_val_loss": state.best_val_loss,
        "best_step": state.best_step if math.isfinite(state.best_val_loss) else None,
        "data_fingerprint": plan.data_fingerprint,
    }
    if validation:
        summary |= {
            "val_loss": validation.loss,
            "val_perplexity": validation.token_perplexity,
            "val_bits_per_byte": validation.bits_per_byte,
            "val_tokens": validation.tokens,
        }
    for reference in references:
        summary[f"{reference.name}_loss"] = reference.score.loss
        summary[f"{reference.name}_bits_per_byte"] = reference.score.bits_per_byte
    return finite_or_none(summary)


def write_summary(plan: RunPlan, summary: dict[str, Any]) -> None:
    """Write ``summary.json`` into the run directory."""
    write_json(plan.run_dir / SUMMARY, summary)
