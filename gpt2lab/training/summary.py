"""What a run says of itself: a line at the start, ``summary.json`` and a table at the end."""

import math
from pathlib import Path
from typing import Any

from gpt2lab.config import TrainJob
from gpt2lab.data import Manifest
from gpt2lab.evaluation.scoring import Perplexity
from gpt2lab.runs import SCHEMA_VERSION, write_json
from gpt2lab.runs.layout import SUMMARY
from gpt2lab.training.metrics import peak_memory_bytes
from gpt2lab.training.trainer import Trainer


def start_line(trainer: Trainer, job: TrainJob, run_dir: Path) -> str:
    """What is about to be trained, with the products that are easy to get wrong."""
    epochs = trainer.total_steps * job.batch_size / trainer.batches.num_sequences
    world_size = trainer.world.size
    rows = trainer.update.micro_batch_size
    accumulated = job.batch_size // world_size // rows
    processes = f" x {world_size} processes" if world_size > 1 else ""
    batches, tokens = trainer.batches, job.training.batch_tokens
    return (
        f"{trainer.model.num_parameters():,} parameters on {trainer.runtime.device} ({trainer.runtime.precision})\n"
        f"{trainer.total_steps:,} steps x {tokens:,} tokens = {rows} sequences x {job.sequence_length} tokens x "
        f"{accumulated} micro-batches{processes}; {epochs:.3g} epochs of {batches.num_tokens:,} tokens "
        f"({batches.dropped_tokens:,} at the end fill no sequence); peak learning rate {job.peak_lr:.2g}\n"
        f"run folder {run_dir}"
    )


def write_summary(
    trainer: Trainer,
    run_dir: Path,
    status: str,
    validation: Perplexity | None = None,
    manifest: Manifest | None = None,
) -> dict[str, Any]:
    """Write and return ``summary.json``: the run's final figures. Seconds are over all processes the run has had."""
    progress = trainer.progress
    tokens = progress.step * trainer.settings.batch_tokens
    figures: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "status": status,
        "steps": progress.step,
        "tokens": tokens,
        "parameters": trainer.model.num_parameters(),
        "processes": trainer.world.size,
        "tokens_per_second": tokens / progress.train_seconds if progress.train_seconds else None,
        "wall_seconds": progress.wall_seconds,
        "peak_memory_bytes": peak_memory_bytes(trainer.runtime.device),
        "precision": trainer.runtime.precision,
        "skipped_steps": trainer.update.skips.total,
        "loss_spikes": trainer.spikes.count,
    }
    if validation and manifest:
        figures |= {
            "val_loss": validation.loss,
            "val_perplexity": validation.token_perplexity,
            "val_bits_per_byte": validation.bits_per_byte,
            "val_tokens": validation.tokens,
            "unigram_loss": manifest.splits["val"].unigram_entropy,
            "unigram_bits_per_byte": unigram(manifest).bits_per_byte,
            "data_fingerprint": manifest.fingerprint,
        }
    write_json(run_dir / SUMMARY, figures)
    return figures


def unigram(manifest: Manifest) -> Perplexity:
    """What a model would score that knows how frequent each token of the validation split is, and nothing else."""
    split = manifest.splits["val"]
    return Perplexity(split.unigram_entropy * split.tokens, split.tokens, split.bytes)


def report(validation: Perplexity, manifest: Manifest, run_dir: Path) -> str:
    """The closing table: the model beside what token frequencies alone would give."""
    rows = [("this model", validation), ("token frequencies alone", unigram(manifest))]
    scored, whole = validation.tokens, manifest.splits["val"].tokens
    lines = [f"validation: the model on {scored:,} tokens in fixed windows, the frequencies of all {whole:,}"]
    lines += [f"{'':<26}{'loss':>10}{'perplexity':>13}{'bits per byte':>16}"]
    lines += [f"{name:<26}{p.loss:>10.4f}{p.token_perplexity:>13.2f}{p.bits_per_byte:>16.4f}" for name, p in rows]
    lines.append(f"uniform over the vocabulary: loss {math.log(manifest.vocab_size):.4f}")
    return "\n".join([*lines, f"summary.json, metrics.jsonl, loss.png and checkpoints are in {run_dir}"])
