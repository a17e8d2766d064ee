"""Device, precision, memory and processes of a command."""

from dataclasses import dataclass

from gpt2lab.config.checked import CheckedConfig
from gpt2lab.config.errors import MOST_PROCESSES, UserError, check


@dataclass
class RuntimeConfig(CheckedConfig):
    """Where and in which precision the work is done."""

    device: str = "auto"
    """auto (cuda, else mps, else cpu) | cpu | cuda | cuda:N | mps"""
    precision: str = "auto"
    """auto | fp32 | bf16 | fp16: dtype of the matrix products; weights, softmax and sums stay float32"""
    tf32: bool = False
    """on a GPU, allow float32 matrix products to round their factors to 10 bits of mantissa, which is faster"""
    compile: bool = False
    """compile each block with torch.compile (training)"""
    activation_checkpointing: bool = False
    """recompute each block's activations in backward instead of keeping them: a third more work (training)"""
    background_checkpoints: bool = False
    """write checkpoints in a thread during the next steps, from a copy of the state in host memory (training)"""
    deterministic: bool = False
    """use only kernels whose results are bitwise reproducible; on a GPU some are slower, and one that has none fails"""
    profile: bool = False
    """leave a Chrome trace of a few steps in ``profile/`` of the run directory (training)"""
    parallel: str = "ddp"
    """ddp (each process has the whole model) | fsdp (each has a share of weights, gradients and moments) (training)"""
    num_processes: int = 1
    """processes to start on this machine, each with its share of every batch; under torchrun leave it at 1"""

    def __post_init__(self) -> None:
        formats = ("auto", "fp32", "bf16", "fp16")
        check(self.precision in formats, "runtime.precision", self.precision, "auto, fp32, bf16 or fp16")
        check(self.parallel in ("ddp", "fsdp"), "runtime.parallel", self.parallel, "ddp or fsdp")
        possible = 1 <= self.num_processes <= MOST_PROCESSES
        check(possible, "runtime.num_processes", self.num_processes, f"a whole number from 1 to {MOST_PROCESSES}")
        if self.num_processes > 1 and self.device.startswith("cuda:"):
            raise UserError(
                f"runtime.device={self.device}: {self.num_processes} processes cannot share one GPU; expected "
                "runtime.device=cuda, which gives each process the GPU of its number"
            )
