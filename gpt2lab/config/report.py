"""Settings of a report."""

from dataclasses import dataclass, field

from gpt2lab.config.checked import CheckedConfig
from gpt2lab.config.errors import UserError, check

FACT_NAMES = ("data", "tokens", "validation", "precision", "device", "commit", "versions", "averaged", "settings")
"""what must be equal for two runs to be compared; ``settings``: for two runs of one condition"""


@dataclass
class ReportJob(CheckedConfig):
    """Compares the runs of a sweep, or runs that are named."""

    sweep: str | None = None
    """folder of a sweep, such as runs/sweeps/NAME"""
    runs: list[str] = field(default_factory=list)
    """in place of a sweep: run directories, sweeps and globs of both, such as [runs/sweeps/a,runs/sweeps/b]"""
    baseline: str | None = None
    """condition that the others are compared with; null: the first value of every axis"""
    metric: str = "val_loss"
    """number in summary.json that is compared"""
    average: int = 1
    """validations at the end of a run whose mean is compared, for less noise; metric=val_loss only"""
    margin: float = 0.01
    """differences below it do not matter, in units of the metric; to be chosen before the runs"""
    allow: list[str] = field(default_factory=list)
    """facts in which compared runs may differ: data | tokens | validation | precision | device | commit | versions |
    averaged (the moments of training of average=N) | settings (other than those of the condition)"""
    out: str | None = None
    """folder of the report; null: the sweep's own, or ``report``"""
    wandb: bool = False
    """the tables and plots become a run of their own in the sweep's group"""

    def __post_init__(self) -> None:
        if bool(self.sweep) == bool(self.runs):
            given = "neither" if not self.sweep else "both"
            raise UserError(f"sweep and runs: {given} given; expected one: type sweep=runs/sweeps/NAME or runs=[A,B]")
        check(self.margin > 0, "margin", self.margin, "a number above 0, in units of the metric")
        check(self.average >= 1, "average", self.average, "a whole number of at least 1")
        if self.average > 1 and self.metric != "val_loss":
            raise UserError(
                f"average={self.average} and metric={self.metric}: only val_loss is measured several times in a run; "
                "expected metric=val_loss; leave average out"
            )
        for name in self.allow:
            check(name in FACT_NAMES, "allow", name, " | ".join(FACT_NAMES))
