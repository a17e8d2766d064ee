"""A sweep: which runs belong together, and where they run."""

from dataclasses import dataclass, field
from typing import Any

from gpt2lab.config.checked import CheckedConfig
from gpt2lab.config.errors import UserError, check

LAUNCHER_NAMES = ("local", "ray", "slurm")


@dataclass
class SweepConfig(CheckedConfig):
    """``python train.py -m AXIS=VALUE,VALUE ... sweep.KEY=VALUE``"""

    name: str | None = None
    """folder under ``root``; the same name continues or extends a sweep, and alone, without an axis, continues it;
    null: the experiment's name, or the time"""
    root: str = "runs/sweeps"
    """folder of all sweeps"""
    launcher: str = "local"
    """local: this machine; ray: a Ray cluster; slurm: SLURM, through submitit. Run folders are on a shared disk"""
    parallel: int = 1
    """jobs at a time; on this machine they divide its cores, and its GPUs if it has any"""
    dry_run: bool = False
    """list the jobs, which of them are completed, their tokens and the estimated time of the others, and stop"""
    wandb_file: str | None = None
    """write the sweep as a W&B sweep file, for ``wandb sweep FILE`` and ``wandb agent ID``, and stop"""
    report: bool = True
    """write the report at the end"""
    tune: str | None = None
    """key to tune for each condition before the comparison, such as optimizer.lr"""
    tune_values: list[float] = field(default_factory=list)
    """values to try, at least 3, the same for each condition"""
    tune_seeds: list[int] = field(default_factory=lambda: [10_001, 10_002])
    """seeds of the tuning runs, which must not be seeds of the comparison"""
    ray: dict[str, Any] = field(default_factory=dict)
    """resources of one job on a Ray cluster, such as {num_cpus: 4, num_gpus: 1}"""
    slurm: dict[str, Any] = field(default_factory=dict)
    """settings of submitit's executor, such as {slurm_partition: gpu, timeout_min: 240}"""

    def __post_init__(self) -> None:
        check(
            self.name is None or (self.name not in ("", ".", "..") and "/" not in self.name),
            "sweep.name", self.name, "a folder name, without /",
        )  # fmt: skip
        check(self.launcher in LAUNCHER_NAMES, "sweep.launcher", self.launcher, f"one of {', '.join(LAUNCHER_NAMES)}")
        check(self.parallel >= 1, "sweep.parallel", self.parallel, "a whole number of at least 1")
        check(self.launcher == "ray" or not self.ray, "sweep.ray", self.ray, "nothing without sweep.launcher=ray")
        check(
            self.launcher == "slurm" or not self.slurm,
            "sweep.slurm",
            self.slurm,
            "nothing without sweep.launcher=slurm",
        )
        check(
            self.wandb_file is None or self.tune is None,
            "sweep.wandb_file", self.wandb_file, "no sweep.tune: a W&B agent runs each job once",
        )  # fmt: skip
        if self.tune is None:
            check(not self.tune_values, "sweep.tune_values", self.tune_values, "nothing without sweep.tune=KEY")
            return
        if len(set(self.tune_values)) < 3 or min(self.tune_values) <= 0:
            raise UserError(
                f"sweep.tune_values={self.tune_values}: expected at least 3 different values above 0; "
                "try sweep.tune_values=[1e-3,2e-3,4e-3,8e-3,1.6e-2]"
            )
        check(len(self.tune_seeds) >= 1, "sweep.tune_seeds", self.tune_seeds, "at least one seed")
