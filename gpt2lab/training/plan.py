"""What a run is going to do, with every value that ``null`` and ``auto`` stood for."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2lab.config import ModelConfig, TrainJob, to_dict
from gpt2lab.runtime import Runtime


@dataclass(frozen=True)
class RunPlan:
    """Facts of a run that are known before its first step and do not change."""

    run_dir: Path
    model: ModelConfig
    parameters: int
    parameters_without_embeddings: int
    device: str
    device_name: str
    precision: str
    processes: int
    total_steps: int
    batch_tokens: int
    sequence_length: int
    micro_batch_size: int
    optimizer: str
    peak_lr: float
    schedule: str
    warmup_steps: int
    data_name: str
    tokenizer: str
    train_tokens: int
    """tokens of the training split"""
    unused_tokens: int
    """tokens at its end that fill no sequence"""
    epoch_sequences: int
    data_fingerprint: str
    flops_per_token: int

    @property
    def micro_batches(self) -> int:
        """Forward passes of a process in an optimizer step."""
        return self.batch_tokens // (self.sequence_length * self.micro_batch_size * self.processes)

    @property
    def tokens(self) -> int:
        """Tokens of the whole run."""
        return self.total_steps * self.batch_tokens

    @property
    def epochs(self) -> float:
        """Passes over the training split."""
        return self.tokens / (self.epoch_sequences * self.sequence_length)

    def resolved(self) -> dict[str, Any]:
        """The values that loggers show beside the configuration, where these are null or auto."""
        return {
            "parameters": self.parameters,
            "learning_rate": self.peak_lr,
            "warmup_steps": self.warmup_steps,
            "total_steps": self.total_steps,
            "total_tokens": self.tokens,
            "epochs": self.epochs,
            "batch_tokens": self.batch_tokens,
            "micro_batch_size": self.micro_batch_size,
            "micro_batches": self.micro_batches,
            "sequence_length": self.sequence_length,
            "processes": self.processes,
            "device": self.device,
            "device_name": self.device_name,
            "precision": self.precision,
            "data_fingerprint": self.data_fingerprint,
        }


def resolved_config(job: TrainJob, runtime: Runtime) -> dict[str, Any]:
    """The job as it is run: automatic values are replaced by what they came to."""
    device = runtime.device.type if job.runtime.device == "auto" else job.runtime.device
    resolved = dataclasses.replace(
        job.with_peak_lr(),
        runtime=dataclasses.replace(job.runtime, device=device, precision=runtime.precision),
    )
    return to_dict(resolved)
