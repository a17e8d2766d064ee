"""Which jobs a sweep has.

    overrides of the command line -> common settings, axes (key: values) -> cells x seeds -> jobs

A job's name says what differs: ``positions=rope,norm=rmsnorm,seed=1``. It is also the name of its run folder, so that
the same command always finds the same runs.
"""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob

from gpt2lab.config import UserError, check
from gpt2lab.config.sweep import SweepConfig

SEED = "seed"
TUNING_FOLDER = "tuning"
LONGEST_NAME = 250

RESERVED = ("run_dir", "resume")
"""keys that the sweep sets for each job"""


@dataclass(frozen=True)
class Job:
    """One run of a sweep."""

    name: str
    """what differs, such as ``positions=rope,seed=1``"""
    condition: str
    """the name without the seed"""
    overrides: tuple[str, ...]
    """what differs, as overrides of the command line"""
    folder: str
    """run folder, relative to the sweep's"""


@dataclass(frozen=True)
class Plan:
    """A whole sweep, before any of it runs."""

    common: tuple[str, ...]
    """overrides that all jobs share"""
    axes: dict[str, list[str]]
    """values of each key that varies, the seed's among them, as they are typed"""
    tuning: tuple[Job, ...] = ()
    """jobs that run first, to choose ``sweep.tune`` for each condition"""
    jobs: tuple[Job, ...] = field(default=())
    """the comparison, all conditions of the first seed first"""

    @property
    def seeds(self) -> list[str]:
        """Seeds of the comparison."""
        return self.axes.get(SEED, [])


def plan_sweep(
    overrides: Sequence[str], experiment_axes: Mapping[str, str], sweep: SweepConfig, order: Sequence[str] = ()
) -> Plan:
    """Lay out the jobs.

    Args:
        overrides: of the command line, without ``-m`` and without ``sweep.*``.
        experiment_axes: axes that the chosen experiment brings (``hydra.sweeper.params``): key -> ``a,b,c``. An axis or
            a single value on the command line takes the place of the experiment's.
        sweep: what is to be tuned, and with which seeds.
        order: axes of an earlier start; they come first and in this order, so that its jobs keep their names.

    Raises:
        UserError: nothing varies, a key belongs to the sweep, or a value repeats.
    """
    typed = [_parse(override) for override in overrides]
    check_keys([key for key, _, _ in typed])
    common = tuple(text for _, text, values in typed if values is None)
    typed_keys = {key for key, _, _ in typed}
    axes = {key: values for key, _, values in typed if values is not None}
    inherited = {
        key: _parse(f"{key}={values}")[2] or [str(values)]
        for key, values in experiment_axes.items()
        if key not in typed_keys
    }
    axes = {**inherited, **axes}
    if not axes:
        raise UserError(
            "-m: nothing varies; give an axis two values or more, such as model/positions=learned,rope, or continue a "
            "sweep with sweep.name=NAME"
        )
    for key, values in axes.items():
        if key.partition(".")[0] == "logger":
            hint = f"; try 'logger.names=[{','.join(values)}]'" if key == "logger" else ""
            raise UserError(f"{key}={','.join(values)}: no axis, as it changes no result; expected one value{hint}")
        check(len(set(values)) == len(values), key, ",".join(values), "values that differ")
    keys = [key for key in dict.fromkeys([*order, *axes]) if key in axes and key != SEED]
    axes = {key: axes[key] for key in [*keys, *([SEED] if SEED in axes else [])]}
    short = _short_keys([*axes, *([sweep.tune] if sweep.tune else [])])
    conditions = list(itertools.product(*(axes[key] for key in keys)))
    cells = [dict(zip(keys, values, strict=True)) for values in conditions]

    seeds: list[str | None] = list(axes[SEED]) if SEED in axes else [None]
    jobs = [
        _job(cell, seed, short, folder="")
        for seed in seeds
        for cell in cells
    ]  # fmt: skip
    tuning: list[Job] = []
    if sweep.tune:
        check(sweep.tune not in (*axes, SEED), "sweep.tune", sweep.tune, "a key that is neither an axis nor the seed")
        if sweep.tune in typed_keys:
            raise UserError(
                f"{sweep.tune}: sweep.tune chooses its value for each condition; expected one of them alone"
            )
        tuning = [
            _job({**cell, sweep.tune: value_text(value)}, str(seed), short, folder=TUNING_FOLDER, condition_of=cell)
            for seed in sweep.tune_seeds
            for cell in cells
            for value in sweep.tune_values
        ]
    _check_names(job.name for job in (*tuning, *jobs))
    return Plan(common, axes, tuple(tuning), tuple(jobs))


def value_text(value: float) -> str:
    """A tuned value as it is typed; whole numbers without a point, so that integer keys take them."""
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _parse(override: str) -> tuple[str, str, list[str] | None]:
    """Key, text, and the values if the override is a sweep (``a,b``, ``range(1,4)``, ``choice(a,b)``)."""
    (parsed,) = OverridesParser.create().parse_overrides([override])
    key = str(parsed.key_or_group)
    if not parsed.is_sweep_override():
        return key, override, None
    if not parsed.is_discrete_sweep() or isinstance(parsed.value(), Glob):
        raise UserError(f"{override}: not a list of values; expected values one by one or range(0,5); try {key}=A,B")
    return key, override, [str(value) for value in parsed.sweep_string_iterator()]


def is_axis(override: str) -> bool:
    """Whether an override has several values."""
    return _parse(override)[2] is not None


def key_of(override: str) -> str:
    """The key of an override as it is typed."""
    return override.lstrip("+").partition("=")[0]


def check_keys(keys: Iterable[str]) -> None:
    """Refuse keys that are given twice and those that a sweep sets for each job.

    Raises:
        UserError: there is one.
    """
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            raise UserError(f"{key}: given twice; give it once")
        seen.add(key)
        if key in RESERVED:
            raise UserError(f"{key}: a sweep sets it for each job; name the sweep with sweep.name=NAME instead")
        if key.startswith("hydra."):
            raise UserError(f"{key}: Hydra's own sweep settings are not used; see sweep.* in docs/sweeps.md")


def _check_names(names: Iterable[str]) -> None:
    """Refuse names that two jobs share or that are too long for a folder."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise UserError(f"{name}: two jobs have this folder name; choose values that differ in letters or digits")
        if len(name.encode()) > LONGEST_NAME:
            raise UserError(f"{name}: too long for a folder name; expected at most {LONGEST_NAME} bytes")
        seen.add(name)


def _short_keys(keys: Sequence[str]) -> dict[str, str]:
    """The last part of each key where that is unambiguous, else the whole key with dots."""
    last = {key: re.split(r"[./]", key)[-1] for key in keys}
    return {key: part if list(last.values()).count(part) == 1 else key.replace("/", ".") for key, part in last.items()}


def _job(
    cell: Mapping[str, str],
    seed: str | None,
    short: Mapping[str, str],
    folder: str,
    condition_of: Mapping[str, str] | None = None,
) -> Job:
    parts = [f"{short[key]}={_plain(value)}" for key, value in cell.items()]
    named = condition_of if condition_of is not None else cell
    condition = ",".join(f"{short[key]}={_plain(value)}" for key, value in named.items())
    overrides = [f"{key}={value}" for key, value in cell.items()]
    if seed is not None:
        parts.append(f"{SEED}={seed}")
        overrides.append(f"{SEED}={seed}")
    name = "/".join([*([folder] if folder else []), ",".join(parts)])
    return Job(name, condition or "all", tuple(overrides), name)


def _plain(value: str) -> str:
    """A value as part of a folder name."""
    return re.sub(r"[^\w.+-]+", "_", value.strip("'\"")).strip("_") or "empty"
