"""``LoadedRun`` -> ``Run``: whether a run finished, diverged or failed, its size, and whether it can be compared."""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

from gpt2lab.report.comparability import (
    FACTS,
    SETTINGS,
    UNKNOWN,
    allowed_warnings,
    difference,
    facts_of,
    find_condition_settings,
    find_reference,
    settings_difference,
    settings_warnings,
    starts_warnings,
    usual_code,
)
from gpt2lab.report.factors import condition_name, flatten, settings_of
from gpt2lab.report.loading import LoadedRun, is_finite
from gpt2lab.report.metric import ends_above_unigram, is_short_study
from gpt2lab.report.results import Run
from gpt2lab.report.words import plural
from gpt2lab.runs.records import COMPLETED, stopped_as_diverged

TOKENIZER = ("tokenizer.name", "model.vocab_size")
CURVES_NOT_COMPARABLE = (
    "The runs have different tokenizers. The curves of the loss are in nats per token, so they cannot be "
    "compared between them; val_bits_per_byte at the end of training can."
)
OTHER_TOKENIZERS = (
    "Runs with other tokenizers have other data. To compare them, on one text and in bits per byte, add "
    "metric=val_bits_per_byte allow=[data]."
)
NO_SEED = "no seed in its config.yaml, so it has no partner to be compared with"


def build_runs(
    loaded: Sequence[LoadedRun], levels: Sequence[dict[str, str]], metric: str, average: int = 1
) -> list[Run]:
    """Decide for every run whether it diverged, and read the compared metric and the sizes.

    Args:
        loaded: files of each run.
        levels: factor -> value, for each run.
        metric: the compared number of ``summary.json``.
        average: validations at the end of a run whose mean stands for ``val_loss``.
    """
    code = usual_code(loaded)
    facts = [facts_of(run, average, code) for run in loaded]
    by_length: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for run, own_facts in zip(loaded, facts, strict=True):
        by_length[own_facts["tokens"]].append(run.summary)
    # where most of the runs that ended did so above the unigram entropy, the study is short, not diverged
    short = {tokens for tokens, summaries in by_length.items() if is_short_study(summaries)}
    rows = []
    for run, own, own_facts in zip(loaded, levels, facts, strict=True):
        value, problems = run.summary.get(metric), list(run.problems)
        if average > 1 and is_finite(value):
            value = _mean_of_last([loss for _, loss in run.validations], average)
            if value is None:
                problems.append(f"fewer than average={average} finite validations")
        status = str(run.summary.get("status") or run.job.get("status") or "unknown")
        completed = status == COMPLETED
        lost = completed and metric in run.summary and not is_finite(run.summary[metric])
        stopped = stopped_as_diverged(status, run.job.get("error"))
        above = completed and ends_above_unigram(run.summary) and own_facts["tokens"] not in short
        if above:
            problems.insert(0, _above_unigram(run.summary))
        diverged = lost or stopped or above
        rows.append(
            Run(
                name=run.name,
                path=run.path,
                condition=condition_name(own),
                seed=_seed(run),
                status=status,
                value=float(value) if completed and not diverged and is_finite(value) and value is not None else None,
                diverged=diverged,
                tokens=run.summary.get("tokens"),
                facts=own_facts,
                settings=settings_of(run),
                numbers=_numbers(run),
                curves=run.curves,
                broken_lines=run.broken_lines,
                error=str(run.job.get("error") or "") or "; ".join(problems),
            )
        )
    return rows


def _above_unigram(summary: dict[str, Any]) -> str:
    return (
        f"ended at a validation loss of {summary['val_loss']:.4f}, above what token frequencies alone score "
        f"({summary['unigram_loss']:.4f})"
    )


def _mean_of_last(losses: Sequence[float | None], count: int) -> float | None:
    """Mean of the last ``count`` losses; None where one of them is missing or non-finite."""
    last = [loss for loss in losses[-count:] if is_finite(loss) and loss is not None]
    return math.fsum(last) / count if len(last) == count else None


def _seed(run: LoadedRun) -> int | None:
    given = run.config.get("seed")
    if given is None:
        texts = [o.removeprefix("seed=") for o in run.job.get("overrides", []) if o.startswith("seed=")]
        given = texts[0] if texts else None
    return int(given) if given is not None and str(given).isdigit() else None


def _numbers(run: LoadedRun) -> dict[str, float | None]:
    names = (
        "parameters", "parameters_without_embeddings", "flops_per_token", "tokens_per_second", "wall_seconds",
        "peak_memory_bytes", "unigram_loss", "bigram_loss",
    )  # fmt: skip
    summary = {**_sizes_from_config(run), **run.summary}
    return {name: float(summary[name]) if is_finite(summary.get(name)) else None for name in names}


def _sizes_from_config(run: LoadedRun) -> dict[str, float]:
    """Sizes that ``summary.json`` lacks in runs from before 2026-11-29; empty where the configuration lacks a key."""
    config, parameters = flatten(run.config), run.summary.get("parameters")
    try:
        size, width, layers, block_size = (
            int(config[f"model.{key}"]) for key in ("vocab_size", "n_embd", "n_layer", "block_size")
        )
    except (KeyError, ValueError, TypeError):
        return {}
    if parameters is None:
        return {}
    multiple = config.get("model.vocab_multiple_of") or 1
    tables = (1 if config.get("model.tie_head", True) else 2) * math.ceil(size / multiple) * multiple
    positions = block_size if config.get("model.positions.name") == "learned" else 0
    inner = parameters - (tables + positions) * width
    context = config.get("training.sequence_length") or block_size
    flops = 6 * (inner + size * width) + 12 * layers * width * context
    return {"parameters_without_embeddings": inner, "flops_per_token": flops}


def set_apart(runs: list[Run], ignored: set[str]) -> tuple[list[Run], list[Run]]:
    """Mark the runs that cannot be compared.

    Args:
        runs: all runs.
        ignored: facts in which compared runs may differ.

    Returns:
        All runs, in order, and the first finished one of each condition, length and seed that differs in nothing but
        the number of tokens trained on.
    """
    with_outcome = [run for run in runs if run.is_counted]
    if not with_outcome:
        return runs, []
    finished = [run for run in with_outcome if run.value is not None]
    diverged = [run.facts for run in with_outcome if run.value is None] if finished else []
    reference = find_reference([run.facts for run in finished or with_outcome], ignored, diverged)
    of_any_length = {fact: value for fact, value in reference.items() if fact != "tokens"}
    alike = [run for run in with_outcome if not difference(_known_facts(run, reference), of_any_length)]
    usual = find_condition_settings([run.settings for run in alike], [_with_length(run) for run in alike])
    first_runs: dict[tuple[str, int], Run] = {}
    first_of_length: dict[tuple[str, str, int], Run] = {}
    marked = []
    for run in runs:
        reason = difference(_known_facts(run, reference), reference) if run.is_counted else ""
        if run.is_counted and run.seed is None:
            reason = reason or NO_SEED
        elif run.is_counted and run.seed is not None and not difference(_known_facts(run, reference), of_any_length):
            other = "" if SETTINGS in ignored else settings_difference(run.settings, usual[_with_length(run)])
            if not other and run.value is not None:
                first_of_length.setdefault((*_with_length(run), run.seed), run)
            reason = reason or other
            if not reason:
                first = first_runs.setdefault((run.condition, run.seed), run)
                reason = "" if first is run else _rerun_of(first, run)
        marked.append(dataclasses.replace(run, apart=reason))
    return marked, list(first_of_length.values())


def _known_facts(run: Run, reference: dict[str, str]) -> dict[str, str]:
    """The facts of a run; those that a run without a result lacks, since it diverged on its way, are the others'."""
    if run.value is not None:
        return run.facts
    return {fact: reference.get(fact, "") if text == UNKNOWN else text for fact, text in run.facts.items()}


def _with_length(run: Run) -> tuple[str, str]:
    return run.condition, run.facts["tokens"]


def _rerun_of(first: Run, run: Run) -> str:
    if first.facts["tokens"] != run.facts["tokens"]:  # allowed to differ
        return f"another length of {first.name}; the first one counts"
    result = "with the same result" if first.value == run.value else "with another result"
    return f"a rerun of {first.name} {result}; the first one counts"


def run_warnings(
    loaded: Sequence[LoadedRun], runs: Sequence[Run], metric: str, allow: Collection[str] = ()
) -> list[str]:
    """Name damaged files, runs that are not compared, with the reason, allowed differences, and diverged runs."""
    warnings = []
    for files in loaded:
        if files.broken_lines:
            lines = plural(files.broken_lines, "line")
            warnings.append(f"{files.name}: {lines} of metrics.jsonl cannot be parsed, left out.")
        warnings += [f"{files.name}: {problem}." for problem in files.problems]
    groups: dict[str, list[str]] = defaultdict(list)
    for files, run in zip(loaded, runs, strict=True):
        if run.apart:
            groups[run.apart].append(run.name)
        elif not run.is_counted:
            groups[_missing_outcome(run, metric, "sweep" if files.job else "run")].append(run.name)
    for reason, names in groups.items():
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        warnings.append(f"Not compared: {shown} ({reason}).")
    if _tokenizers(runs) > 1 and any(FACTS["data"] in run.apart for run in runs):
        warnings.append(OTHER_TOKENIZERS)
    finished = [run for run in runs if run.is_counted and run.value is not None]
    warnings += allowed_warnings([run.facts for run in finished], allow)
    warnings += starts_warnings([(run.name, run.settings | run.facts) for run in finished])
    if SETTINGS in allow:
        warnings += settings_warnings([run.settings for run in finished], [run.condition for run in finished])
    if _tokenizers(finished) > 1:
        warnings.append(CURVES_NOT_COMPARABLE)
    diverged = [run for run in runs if run.diverged and not run.apart]
    if diverged:
        warnings.append(_diverged_warning(diverged))
    return warnings


def _diverged_warning(diverged: Sequence[Run]) -> str:
    """Name the diverged runs, why those that completed are, and what stopped ones do to the curves."""
    names = ", ".join(
        f"{run.name} ({run.error})" if run.status == COMPLETED and run.error else run.name for run in diverged
    )
    stopped = any(run.status != COMPLETED for run in diverged)
    curves = " Mean curves end where the first run of a condition stopped." if stopped else ""
    return f"Diverged: {names}. A diverged run counts as the worst, it is not dropped.{curves}"


def _missing_outcome(run: Run, metric: str, continued: str) -> str:
    """Why a run has no outcome, and what gives it one; ``continued``: what a run that has not ended is part of."""
    if run.error:
        return f"failed: {run.error}; rerun with the same seed"
    if run.status == COMPLETED:
        return f"no {metric}; rerun with the same seed"
    if run.status.startswith("failed"):
        return f"status {run.status}; rerun with the same seed"
    return f"status {run.status}; continue the {continued}"


def _tokenizers(runs: Sequence[Run]) -> int:
    """How many tokenizers the runs have."""
    return len({tuple(map(run.settings.get, TOKENIZER)) for run in runs})
