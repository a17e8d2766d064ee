"""Which settings differ between runs, and so which condition each run belongs to."""

import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from gpt2lab.config.relevance import MACHINE_KEYS, decides_result
from gpt2lab.config.training import LENGTHS
from gpt2lab.report.loading import LoadedRun

THEN = ", then "
"""between the values that a setting or a fact had at the starts of a run"""
SEED_KEYS = ("seed",)
LENGTH_KEYS = tuple(f"training.{key}" for key in LENGTHS)
"""how long a run is: no condition, but runs of several lengths give the baseline's L(tokens)"""
WITHOUT_EFFECT = (*MACHINE_KEYS, "runtime.device", "runtime.precision")
"""settings in which runs of one condition may differ: what follows from them is compared as a fact, or nothing does"""
FOLLOWING = ("model.vocab_size",)
"""settings that follow from others, which are named"""


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as ``{"model.n_layer": 4}``."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def find_factors(
    runs: Sequence[LoadedRun], record: dict[str, Any]
) -> tuple[dict[str, list[str]], list[dict[str, str]], list[str]]:
    """Return the levels of each factor, in order, each run's levels, and the whole keys of the factors.

    The axes of ``sweep.json`` are the factors of a sweep. Without one they are the settings that differ, where settings
    that change together are one factor under the shortest key.
    """
    if all(run.job.get("overrides") for run in runs) and record.get("axes"):
        named = [_from_overrides(run.job["overrides"]) for run in runs]
        keys = [k for k in record["axes"] if k not in SEED_KEYS and k not in LENGTH_KEYS]
        levels = [{k: text for k in keys if (text := overrides.get(k)) is not None} for overrides in named]
        order = {k: [_without_escapes(str(value)) for value in record["axes"][k]] for k in keys}
    else:
        levels, order = _from_configs(runs)
    short = _short_names(list(order))
    levels = [{short[k]: v for k, v in run.items()} for run in levels]
    factors = {}
    for key, values in order.items():
        present = dict.fromkeys([*values, *(run[short[key]] for run in levels if short[key] in run)])
        factors[short[key]] = [v for v in present if any(run.get(short[key]) == v for run in levels)]
    return factors, levels, list(order)


def is_varied(key: str) -> bool:
    """Whether a setting can tell conditions apart: it is no seed, no length, and decides more than what is recorded."""
    return key not in SEED_KEYS and key not in LENGTH_KEYS and decides_result(key)


def settings_of(run: LoadedRun) -> dict[str, str]:
    """The settings that must be equal for all runs of a condition.

    A setting that a later start of the run changed has all its values, in turn; so has a length that was changed, as
    the learning rate of the first part followed the first one. Where the weights came from, the first start says.
    """
    starts = [flatten(config) for config in (*run.earlier_configs, run.config)]
    first, last = starts[0], starts[-1]
    settings = {key: str(value) for key, value in last.items() if is_varied(key) and key not in WITHOUT_EFFECT}
    for key in (*settings, *LENGTH_KEYS):
        values = in_turn(str(start[key]) for start in starts if key in start)
        if THEN in values:
            settings[key] = values
    return settings | ({"init_from": str(first["init_from"])} if "init_from" in first else {})


def settings_besides(settings: Sequence[dict[str, str]], keys: Sequence[str]) -> list[str]:
    """Settings that differ, apart from the factors' own: ``model/positions`` stands for all of ``model.positions``."""
    own = [key.lstrip("+").replace("/", ".") for key in keys]
    names = dict.fromkeys(key for values in settings for key in values if key not in FOLLOWING)
    differing = [key for key in names if len({values.get(key) for values in settings}) > 1]
    return [key for key in differing if not any(key == other or key.startswith(f"{other}.") for other in own)]


def in_turn(texts: Iterable[str]) -> str:
    """What held at the starts of a run, one after the other: ``0.1, then 0.2``."""
    return THEN.join(text for text, _ in itertools.groupby(texts))


def condition_name(levels: dict[str, str]) -> str:
    """``positions=rope, norm=rmsnorm``; ``all runs`` where nothing differs."""
    return ", ".join(f"{key}={value}" for key, value in levels.items()) or "all runs"


def _from_overrides(overrides: Sequence[str]) -> dict[str, str]:
    pairs = (override.lstrip("+").partition("=") for override in overrides)
    return {key: _without_escapes(value) for key, _, value in pairs}


def _without_escapes(value: str) -> str:
    """A value as it is meant: Hydra's grammar has ``MODULE\\:CLASS`` for ``MODULE:CLASS``."""
    return re.sub(r"\\([\\()\[\]{}:=,\s])", r"\1", value)


def _from_configs(runs: Sequence[LoadedRun]) -> tuple[list[dict[str, str]], dict[str, list[str]]]:
    flat = [flatten(run.config) for run in runs]
    keys = dict.fromkeys(key for config in flat for key in config)
    texts = {key: [str(config.get(key)) for config in flat] for key in keys if is_varied(key)}
    varied = [key for key, values in texts.items() if len(set(values)) > 1]
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for key in [key for key in varied if key not in MACHINE_KEYS] or varied:  # two machines make no two conditions
        numbers = {value: str(n) for n, value in enumerate(dict.fromkeys(texts[key]))}
        groups[tuple(numbers[value] for value in texts[key])].append(key)
    chosen = [
        min(same, key=lambda key: (not key.endswith(".name"), key.count("."), len(key))) for same in groups.values()
    ]
    levels = [{key: str(config.get(key)) for key in chosen} for config in flat]
    return levels, {key: list(dict.fromkeys(run[key] for run in levels)) for key in chosen}


def _short_names(keys: Sequence[str]) -> dict[str, str]:
    """The last part of each key, more where two would be equal; ``model.positions.name`` is ``positions``."""
    parts = {key: key.removesuffix(".name").replace("/", ".").split(".") for key in keys}
    short = {key: part[-1] for key, part in parts.items()}
    return {key: name if list(short.values()).count(name) == 1 else ".".join(parts[key]) for key, name in short.items()}
