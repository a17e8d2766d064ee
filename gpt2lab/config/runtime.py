"""The machine."""

from dataclasses import dataclass

from gpt2lab.config.errors import check


@dataclass
class RuntimeConfig:
    """Where and in which number format the work is done."""

    device: str = "auto"
    """auto (cuda, else mps, else cpu) | cpu | cuda | cuda:N | mps"""
    precision: str = "auto"
    """auto | fp32 | bf16: format of the matrix products; weights, softmax and sums stay float32"""
    num_processes: int = 1
    """processes to start on this machine, each with its share of every batch; under torchrun leave it at 1"""

    def __post_init__(self) -> None:
        check(self.precision in ("auto", "fp32", "bf16"), "runtime.precision", self.precision, "auto, fp32 or bf16")
        check(self.num_processes >= 1, "runtime.num_processes", self.num_processes, "a whole number of at least 1")
