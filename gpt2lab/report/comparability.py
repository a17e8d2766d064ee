"""Which runs may be compared: those that saw the same data, as much of it, and were measured alike.

Runs that differ are shown apart with the reason; they are never pooled silently.
"""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from gpt2lab.report.factors import THEN, flatten, in_turn, settings_besides
from gpt2lab.report.loading import LoadedRun, is_finite
from gpt2lab.runs.own_code import OWN_CODE
from gpt2lab.runs.records import COMPLETED

UNKNOWN = "unknown"
PER_PARAMETER = "a parameter"
"""follows the number of tokens where runs are equally long for their size"""
FACTS = {
    "data": "the data",
    "tokens": "tokens trained on",
    "validation": "the validation windows",
    "precision": "the precision",
    "device": "the device",
    "commit": "the commit",
    "versions": "versions",
    "averaged": "the averaged validations",
}
"""what must be equal, in words"""
PLURAL = ("tokens", "validation", "versions", "averaged")
VERSIONED = ("torch", "gpt2lab")
"""packages whose versions must be equal"""
EXEMPT = {"precision": ("precision",), "device": ("device",)}
"""a fact that a factor of the study varies on purpose, by the factor's name"""
SETTINGS = "settings"
"""in ``allow``: runs of one condition may differ in any setting"""
NULL = str(None)
"""a setting that a config lacks, as in records of earlier versions, or that is null"""
MOST_VALUES = 3
"""of a fact that are named"""
MOST_KEYS = 4
"""settings that are named where several differ"""


def usual_code(runs: Sequence[LoadedRun]) -> dict[str, str]:
    """The SHA-256 of each module of the user's that most runs with a class of it (MODULE:CLASS) were trained with."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for run in runs:
        for module, code in _own_code(run.environment).items():
            counts[module][code] += 1
    return {module: found.most_common(1)[0][0] for module, found in sorted(counts.items())}


def facts_of(run: LoadedRun, average: int = 1, usual: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """The facts of one run; a missing one is ``unknown``. A run that did not end has the tokens it was to train on.

    Of a run that was resumed they are those of its last start; a fact that the starts differ in has all values in turn.

    ``average`` validations at the end of the run are compared; above 1, their moments of training are a fact. ``usual``
    code is that of modules which the run has no class of, so that it can be compared with runs that have one.
    """
    config, summary = flatten(run.config), run.summary
    environments = [*run.earlier_environments, run.environment]
    precisions = in_turn(
        str(flatten(start).get("runtime.precision", UNKNOWN)) for start in (*run.earlier_configs, run.config)
    )
    devices = in_turn(str(environment.get("device") or UNKNOWN) for environment in environments)
    targets = summary.get("val_tokens")
    per_parameter = config.get("training.tokens_per_parameter")
    steps, batch_tokens = (config.get(f"training.{key}") for key in ("max_steps", "batch_tokens"))
    planned = steps * batch_tokens if isinstance(steps, int) and isinstance(batch_tokens, int) else UNKNOWN
    tokens = summary.get("tokens", UNKNOWN) if summary.get("status") == COMPLETED else planned
    windows = (
        f"{targets} tokens, windows of {config.get('training.sequence_length') or config.get('model.block_size')}, "
        f"packing={config.get('data.packing', 'windows')}, "
        f"document_masking={str(config.get('data.document_masking', False)).lower()}"
    )
    facts = {
        "data": str(summary.get("data_fingerprint") or config.get("data.name") or UNKNOWN),
        "tokens": f"{per_parameter:g} {PER_PARAMETER}" if per_parameter else str(tokens),
        "validation": UNKNOWN if targets is None else windows,
        "precision": precisions if THEN in precisions else str(summary.get("precision") or precisions),
        "device": devices if THEN in devices else str(summary.get("device") or config.get("runtime.device", UNKNOWN)),
        "commit": in_turn(_commit(environment, usual) for environment in environments),
        "versions": in_turn(map(_versions, environments)),
    }
    return facts | ({"averaged": _averaged(run, average)} if average > 1 else {})


def _averaged(run: LoadedRun, average: int) -> str:
    """When the last ``average`` validations took place: as shares of a run whose length follows its size, else tokens.

    Tokens are counted back from the end, so that they are equal for runs of several lengths with one ``eval_every``.
    """
    end = run.summary.get("tokens")
    moments = [tokens for tokens, _ in run.validations[-average:] if tokens is not None]
    if run.summary.get("status") != COMPLETED or not is_finite(end) or not end or len(moments) < average:
        return UNKNOWN
    if flatten(run.config).get("training.tokens_per_parameter"):
        return "after " + ", ".join(f"{moment / end:.0%}" for moment in moments) + " of the training"
    return ", ".join(f"{end - moment:,.0f}" for moment in moments) + " tokens before the end"


def find_condition_settings(
    settings: Sequence[dict[str, str]], conditions: Sequence[Hashable]
) -> dict[Hashable, dict[str, str]]:
    """The settings that most runs of each condition share; among equally many those that most other runs have too."""
    counts = Counter((key, value) for own in settings for key, value in own.items())
    by_condition: dict[Hashable, list[dict[str, str]]] = defaultdict(list)
    for own, condition in zip(settings, conditions, strict=True):
        by_condition[condition].append(own)
    return {
        condition: max(members, key=lambda own: (members.count(own), sum(counts[item] for item in own.items())))
        for condition, members in by_condition.items()
    }


def settings_difference(settings: dict[str, str], reference: dict[str, str]) -> str:
    """How a run's settings differ from those of its condition, in words; empty where they do not."""
    keys = [key for key in reference | settings if settings.get(key, NULL) != reference.get(key, NULL)]
    if not keys:
        return ""
    named = []
    for key in keys[:MOST_KEYS]:
        own = settings.get(key, NULL)
        is_changed_length = THEN in own and key not in reference
        named.append(f"{key}={own}" if is_changed_length else f"{key}={own}, not {reference.get(key, NULL)}")
    more = [f"and {len(keys) - MOST_KEYS} more"] if len(keys) > MOST_KEYS else []
    return "other settings than most runs of its condition: " + "; ".join([*named, *more])


def starts_warnings(runs: Sequence[tuple[str, dict[str, str]]]) -> list[str]:
    """Name what changed where compared runs were resumed; ``runs``: name, and the facts and settings of each."""
    by_change: dict[str, list[str]] = defaultdict(list)
    for name, values in runs:
        changed = [f"{FACTS.get(key, key)}: {value}" for key, value in values.items() if THEN in value]
        if changed:
            by_change["; ".join(changed)].append(name)
    return [
        f"Resumed with a change ({change}), and compared, since the other runs have it too or it is allowed: "
        f"{', '.join(names)}."
        for change, names in by_change.items()
    ]


def _commit(environment: dict[str, Any], usual: Mapping[str, str]) -> str:
    """The state of the code: commit, changes since, and the modules of the user's own."""
    modules = {**usual, **_own_code(environment)} if environment else {}
    own = "".join(f" + {module} {code[:7]}" for module, code in modules.items())
    return str(environment.get("git_commit") or UNKNOWN)[:12] + _changes(environment) + own


def _own_code(environment: dict[str, Any]) -> dict[str, str]:
    code = environment.get(OWN_CODE)
    return {str(module): str(value or UNKNOWN) for module, value in code.items()} if isinstance(code, dict) else {}


def _changes(environment: dict[str, Any]) -> str:
    """A hash of the changes of code and configuration since the commit; empty without any."""
    files = re.split(r"^diff --git ", str(environment.get("git_diff") or ""), flags=re.MULTILINE)
    changes = "".join(file for file in files if re.match(r"\S+\.(py|yaml) ", file))
    return f" + changes {hashlib.sha256(changes.encode()).hexdigest()[:6]}" if changes else ""


def _versions(environment: dict[str, Any]) -> str:
    packages = environment.get("packages")
    if not isinstance(packages, dict):
        return UNKNOWN
    return ", ".join(f"{name} {packages.get(name, UNKNOWN)}" for name in VERSIONED)


def find_reference(
    facts: Sequence[dict[str, str]], ignored: set[str], diverged: Sequence[dict[str, str]] = ()
) -> dict[str, str]:
    """The facts that most runs share; among equally many the run with the most tokens, then the first.

    ``diverged`` runs count, too, with the facts that they have: a divergence makes no other length the usual one.
    """
    keys = [tuple((k, v) for k, v in fact.items() if k not in ignored) for fact in facts]
    counts = Counter(keys)
    for key in counts:
        counts[key] += sum(all(fact.get(k) in (v, UNKNOWN) for k, v in key) for fact in diverged)
    best = max(keys, key=lambda key: (counts[key], _leading_number(dict(key).get("tokens", "0"))))
    return dict(best)


def _leading_number(text: str) -> float:
    """The number that a fact begins with; 0 for ``unknown``."""
    first = text.split()[0]
    return 0.0 if first == UNKNOWN else float(first)


def circumstances(facts: Sequence[dict[str, str]]) -> str:
    """Whether the compared runs are equally long and were validated alike, to end a sentence; empty without any run."""
    if not facts:
        return ""
    tokens, windows = ({fact[key] for fact in facts} for key in ("tokens", "validation"))
    length = next(iter(tokens))
    if len(tokens) > 1:
        trained = "after different numbers of tokens"
    elif length == UNKNOWN:
        trained = "after a number of tokens that is not recorded"
    elif length.endswith(PER_PARAMETER):
        trained = f"after {length.replace(PER_PARAMETER, 'tokens for each parameter')}"
    else:
        trained = "at equal tokens"
    if len(windows) > 1:
        return f", {trained} and on different validation windows"
    recorded = "the same validation windows" if UNKNOWN not in windows else "validation windows that are not recorded"
    return f", {trained} and on {recorded}"


def settings_warnings(settings: Sequence[dict[str, str]], conditions: Sequence[str]) -> list[str]:
    """Name the settings in which runs of one condition differ."""
    by_condition: dict[str, list[dict[str, str]]] = defaultdict(list)
    for own, condition in zip(settings, conditions, strict=True):
        by_condition[condition].append(own)
    found = []
    for condition, members in by_condition.items():
        keys = sorted(key for key in set().union(*members) if len({own.get(key, NULL) for own in members}) > 1)
        if keys:
            found.append(f"{condition}: compared although its runs differ in {', '.join(keys)} (allow=[{SETTINGS}]).")
    return found


def besides_warnings(settings: Sequence[dict[str, str]], keys: Sequence[str]) -> list[str]:
    """Name the settings in which the conditions differ beside the factors, whose whole ``keys`` are given.

    Args:
        settings: of one compared run of each condition.
        keys: of the factors, and the one that was tuned for each condition.
    """
    besides = settings_besides(settings, keys)
    if not besides:
        return []
    return [
        f"The conditions also differ in {first(besides, MOST_KEYS, ', ')}: a difference between them is that of all "
        "these settings together."
    ]


def first(texts: Sequence[str], most: int, separator: str) -> str:
    """Up to ``most`` texts, and how many more there are."""
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return separator.join(texts[:most]) + more


def allowed_warnings(facts: Sequence[dict[str, str]], allow: Collection[str]) -> list[str]:
    """Name the facts in which the compared runs differ because ``allow`` says that they may."""
    found = []
    for key in FACTS:
        values = list(dict.fromkeys(fact[key] for fact in facts if key in fact))
        if key in allow and len(values) > 1:
            verb = "differ" if key in PLURAL else "differs"
            found.append(f"Compared although {FACTS[key]} {verb} (allow=[{key}]): {first(values, MOST_VALUES, '; ')}.")
    return found


def difference(facts: dict[str, str], reference: dict[str, str]) -> str:
    """How a run differs from the reference, in words; empty where it does not."""
    return "; ".join(
        f"{FACTS[key]} differ{'' if key in PLURAL else 's'}: {facts[key]}, not {value}"
        for key, value in reference.items()
        if facts[key] != value
    )
