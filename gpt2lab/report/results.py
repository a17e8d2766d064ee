"""What a report says, as typed values: renderers only read these."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from gpt2lab.statistics.intervals import Array, Interval
from gpt2lab.statistics.outcomes import TwoModes
from gpt2lab.statistics.scaling import ScalingFit, SpeedUp

Verdict = Literal["better", "worse", "equivalent", "undecided"]


@dataclass(frozen=True)
class Curves:
    """A run's losses over training, downsampled."""

    tokens: Array
    seconds: Array
    loss: Array
    """training loss, the mean of each bin"""
    val_tokens: Array
    val_seconds: Array
    val_loss: Array


@dataclass(frozen=True)
class Run:
    """One run directory."""

    name: str
    path: Path
    condition: str
    seed: int | None
    status: str
    value: float | None
    """the compared metric; None where the run has none"""
    diverged: bool
    tokens: int | None
    facts: dict[str, str]
    """what must be equal for runs to be compared: data, tokens, validation windows, precision, device, commit"""
    settings: dict[str, str]
    """what must be equal for runs of one condition, apart from the seed and the length"""
    numbers: dict[str, float | None]
    """parameters, tokens per second, wall seconds, memory"""
    curves: Curves
    broken_lines: int
    error: str = ""
    apart: str = ""
    """why the run is not compared; empty where it is"""

    @property
    def is_counted(self) -> bool:
        """Whether it has an outcome, diverged or finished, and is comparable with the others."""
        return not self.apart and (self.diverged or self.value is not None)


@dataclass(frozen=True)
class Comparison:
    """One condition against the baseline."""

    seeds: list[int]
    differences: list[float]
    """condition - baseline for each of the seeds; infinite where one of the two diverged"""
    mean: float | None
    """over the seeds in which both finished"""
    interval: Interval | None
    """95 %, simultaneous with the other comparisons"""
    p: float | None
    """adjusted for all comparisons"""
    test: str
    equivalence: Interval | None
    """90 % interval of this comparison alone"""
    own_interval: Interval | None
    """95 % paired t interval of this comparison alone"""
    sign_flip_p: float | None
    sd: float | None
    """of the paired differences"""
    test_sd: float | None
    """that of the test in use: pooled over all conditions in the block model, else ``sd``"""
    detectable: float | None
    correlation: float
    pairing: float
    """sd(d) / (sqrt(2) sd)"""
    fisher_p: float | None
    verdict: Verdict
    sentence: str


@dataclass(frozen=True)
class Condition:
    """All runs with the same settings apart from the seed."""

    name: str
    levels: dict[str, str]
    runs: list[Run]
    values: dict[int, float]
    """finished runs by seed"""
    mean: float | None
    sd: float | None
    interval: Interval | None
    diverged: int
    unfinished: int
    numbers: dict[str, float | None]
    two_modes: TwoModes | None
    comparison: Comparison | None = None
    speed_up: SpeedUp | None = None
    throughput: float | None = None
    """tokens per second over the baseline's"""


@dataclass(frozen=True)
class EffectRow:
    """A main effect or an interaction in a complete grid."""

    name: str
    mean: float
    interval: Interval
    p: float
    is_interaction: bool
    seeds: int
    """that all cells of the grid have"""


@dataclass(frozen=True)
class PairRow:
    """Two of the conditions against each other."""

    condition: str
    other: str
    mean: float | None
    """condition - other; None, as are interval and p, where they share fewer than two seeds"""
    interval: Interval | None
    """95 %, for all pairs together"""
    p: float | None
    """adjusted for all pairs"""
    test: str


@dataclass(frozen=True)
class TuningCurve:
    """The tuning runs of one condition."""

    condition: str
    key: str
    points: list[tuple[float, float, int]]
    """value, mean validation loss, number of seeds"""
    best: float
    """minimum of a parabola through the lowest mean and its neighbors, over the logarithm"""
    at_edge: bool
    width: tuple[float, float]
    """tried values within 0.02 of the optimum"""
    at_baseline_rate: float | None = None
    """mean validation loss at the value that is best for the baseline at this length"""
    length: str = ""
    """``max_steps=400`` where the length of the runs is an axis, so that each length is tuned"""

    @property
    def label(self) -> str:
        """The condition, and the length where there are several."""
        return f"{self.condition}, {self.length}" if self.length else self.condition


@dataclass(frozen=True)
class DocumentRow:
    """Paired difference over documents of an evaluation, which says nothing of other training runs."""

    condition: str
    evaluation: str
    """its corpus, protocol and settings"""
    documents: int
    nats_per_token: float
    interval: Interval | None


@dataclass(frozen=True)
class ScalingRow:
    """The loss over the size of the model, for conditions that differ in nothing else."""

    name: str
    """what these conditions share; empty where it is all of them"""
    points: list[tuple[float, float]]
    """parameters and mean loss of each size"""
    fit: ScalingFit | None
    """None: no power law could be fitted"""
    sentence: str


@dataclass
class ReportResult:
    """A whole report."""

    title: str
    metric: str
    margin: float
    lower_is_better: bool
    baseline: str
    verdict: str
    banner: str
    """why the study cannot answer, or empty"""
    method: list[str]
    """sentences on design, test and correction"""
    noise: list[str]
    """sentences on the noise floor"""
    warnings: list[str]
    conditions: list[Condition]
    runs: list[Run]
    factors: dict[str, list[str]]
    effects: list[EffectRow] = field(default_factory=list)
    pairs: list[PairRow] = field(default_factory=list)
    """all pairs of conditions; empty for two conditions or more than ten"""
    tuning: list[TuningCurve] = field(default_factory=list)
    tuning_note: str = ""
    documents: list[DocumentRow] = field(default_factory=list)
    scaling: list[ScalingRow] = field(default_factory=list)
    """of runs that had equally many tokens for each parameter"""
    speed_up_note: str = ""
    files: list[Path] = field(default_factory=list)
