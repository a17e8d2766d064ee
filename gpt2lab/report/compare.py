"""Conditions against the baseline: which test, its interval, and the verdict.

1. Any diverged run: Wilcoxon's signed ranks with a diverged run as the worst, Holm over the comparisons.
2. A complete grid whose paired differences spread alike: the block model with Dunnett.
3. Otherwise: paired t for each condition, Holm for p and Bonferroni for the intervals. A condition that shares fewer
   than two seeds with the baseline is compared by Welch's t for independent runs.
"""

import math
from dataclasses import dataclass

import numpy as np

from gpt2lab.report.results import Comparison, Verdict
from gpt2lab.report.words import METRIC_WORDS, UNITS, interval_text, number, p_equals, plural, signed
from gpt2lab.statistics.blocks import are_homogeneous, fit_blocks
from gpt2lab.statistics.intervals import Array, t_interval, t_quantile
from gpt2lab.statistics.multiple import bonferroni_critical, dunnett_critical, dunnett_p, holm
from gpt2lab.statistics.paired import (
    MeanDifference,
    detectable_difference,
    differences_with_divergence,
    fisher_exact,
    paired_difference,
    pairing_correlation,
    pairing_ratio,
    sign_flip_test,
    signed_rank_sum,
    signed_rank_test,
    tost,
    welch_difference,
)

ALPHA = 0.05
SIGNED_RANKS, DUNNETT, HOLM = "signed ranks, Holm", "Dunnett on the block model", "paired t, Holm"
WELCH = "Welch's t, Holm"


@dataclass(frozen=True)
class Outcomes:
    """The outcome of each seed of a condition; NaN for a diverged run."""

    name: str
    by_seed: dict[int, float]

    def at(self, seeds: list[int]) -> Array:
        """The outcomes of these seeds."""
        return np.array([self.by_seed[seed] for seed in seeds])


@dataclass(frozen=True)
class _Draft:
    """A comparison before its p is adjusted."""

    seeds: list[int]
    y_S: Array
    baseline_S: Array
    finished: list[int]
    difference: MeanDifference | None
    p: float | None
    independent: tuple[int, int] | None = None
    """runs of both conditions where too few seeds are shared, so that they are not paired"""


def compare_all(
    variants: list[Outcomes], baseline: Outcomes, metric: str, margin: float, *, lower_is_better: bool
) -> tuple[list[Comparison], str]:
    """Compare each variant with the baseline; also the name of the test."""
    outcomes = [baseline, *variants]
    seeds = sorted(set.intersection(*(set(o.by_seed) for o in outcomes)))
    complete = all(set(o.by_seed) == set(seeds) for o in outcomes) and len(seeds) > 1 and bool(variants)
    diverged = any(not math.isfinite(value) for o in outcomes for value in o.by_seed.values())
    grid_CS = np.array([o.at(seeds) for o in outcomes])
    test = SIGNED_RANKS if diverged else DUNNETT if complete and are_homogeneous(grid_CS) else HOLM
    sign = 1.0 if lower_is_better else -1.0
    drafts = [_draft(variant, baseline, grid_CS if test == DUNNETT else None, test, sign) for variant in variants]
    tested = [draft for draft in drafts if draft.p is not None]
    comparisons = max(1, len(tested))
    raw = [draft.p for draft in tested if draft.p is not None]
    if test == DUNNETT:
        adjusted = [dunnett_p(d.difference.t, comparisons, d.difference.df) for d in tested if d.difference]
    else:
        adjusted = holm(raw)
    by_draft = dict(zip(map(id, tested), adjusted, strict=True))
    results = [
        _finish(draft, by_draft.get(id(draft)), variant, baseline, test, comparisons, metric, margin, sign)
        for draft, variant in zip(drafts, variants, strict=True)
    ]
    return results, test


def _draft(variant: Outcomes, baseline: Outcomes, grid_CS: Array | None, test: str, sign: float) -> _Draft:
    seeds = sorted(set(variant.by_seed) & set(baseline.by_seed))
    y_S, baseline_S = variant.at(seeds), baseline.at(seeds)
    finite_S = np.isfinite(y_S) & np.isfinite(baseline_S)
    finished = [seed for seed, finite in zip(seeds, finite_S, strict=True) if finite]
    difference, independent = None, None
    if test == HOLM and len(finished) < 2 <= min(len(variant.by_seed), len(baseline.by_seed)):
        ours, theirs = variant.at(sorted(variant.by_seed)), baseline.at(sorted(baseline.by_seed))
        difference, independent = welch_difference(ours, theirs), (len(ours), len(theirs))
    elif len(finished) > 1:
        if grid_CS is not None:
            difference = fit_blocks(grid_CS).difference(y_S, baseline_S)
        else:
            difference = paired_difference(y_S[finite_S] - baseline_S[finite_S])
    if test == SIGNED_RANKS:
        d_S = differences_with_divergence(sign * y_S, sign * baseline_S)
        p = signed_rank_test(d_S) if len(seeds) > 1 else None
    else:
        p = difference.p if difference else None
    return _Draft(seeds, y_S, baseline_S, finished, difference, p, independent)


def _finish(
    draft: _Draft, p: float | None, variant: Outcomes, baseline: Outcomes, test: str, comparisons: int, metric: str,
    margin: float, sign: float,
) -> Comparison:  # fmt: skip
    d_S = sign * differences_with_divergence(sign * draft.y_S, sign * draft.baseline_S)
    finite_S = np.isfinite(draft.y_S) & np.isfinite(draft.baseline_S)
    y_S, baseline_S = draft.y_S[finite_S], draft.baseline_S[finite_S]
    difference, several = draft.difference, len(y_S) > 1
    interval = equivalence = detectable = None
    if difference:
        critical = (dunnett_critical if test == DUNNETT else bonferroni_critical)(comparisons, difference.df)
        interval = difference.interval(critical)
        equivalence = difference.interval(t_quantile(0.95, difference.df))
        if test != SIGNED_RANKS:  # the interval is conditional, so it says nothing of the test
            detectable = detectable_difference(difference.error, difference.df, critical)
    mean = float((y_S - baseline_S).mean()) if len(y_S) else None
    if draft.independent and difference:
        mean, test = difference.mean, WELCH
    verdict = _verdict(difference, p, d_S, test, margin, sign)
    lost, baseline_lost = (sum(not math.isfinite(v) for v in o.by_seed.values()) for o in (variant, baseline))
    return Comparison(
        seeds=draft.seeds,
        differences=[float(d) for d in d_S],
        mean=mean,
        interval=interval,
        p=p,
        test=test,
        equivalence=equivalence,
        own_interval=t_interval(y_S - baseline_S) if several else None,
        sign_flip_p=sign_flip_test(y_S - baseline_S) if several else None,
        sd=float((y_S - baseline_S).std(ddof=1)) if several else None,
        test_sd=difference.error * math.sqrt(len(y_S)) if several and difference else None,
        detectable=detectable,
        correlation=pairing_correlation(y_S, baseline_S),
        pairing=pairing_ratio(y_S, baseline_S) if several else math.nan,
        fisher_p=fisher_exact(lost, len(variant.by_seed), baseline_lost, len(baseline.by_seed))
        if lost + baseline_lost
        else None,
        verdict=verdict,
        sentence=_sentence(verdict, variant.name, baseline.name, mean, interval, p, test, metric, margin, draft),
    )


def _verdict(
    difference: MeanDifference | None, p: float | None, d_S: Array, test: str, margin: float, sign: float
) -> Verdict:
    if p is None:
        return "undecided"
    if test == SIGNED_RANKS:
        if p >= ALPHA:
            return "undecided"
        return "better" if sign * signed_rank_sum(d_S) < 0 else "worse"
    assert difference is not None
    if tost(difference, margin) < ALPHA:
        return "equivalent"
    if p >= ALPHA:
        return "undecided"
    return "better" if sign * difference.mean < 0 else "worse"


def _sentence(
    verdict: Verdict, name: str, baseline: str, mean: float | None, interval: tuple[float, float] | None,
    p: float | None, test: str, metric: str, margin: float, draft: _Draft,
) -> str:  # fmt: skip
    unit = UNITS.get(metric, metric)
    if not draft.seeds and not draft.independent:
        return f"{name} and {baseline} have no seed in common, so nothing is said about their difference."
    if p is None:
        if mean is None:
            return f"{name} and {baseline} share one seed, in which not both finished, so this is undecided."
        seeds = plural(len(draft.finished), "paired seed")
        return (
            f"{name} differs from {baseline} by {signed(mean)} {unit} with {seeds}; "
            "one seed gives no interval, so this is undecided."
        )
    if test == SIGNED_RANKS:
        outcome = {"better": "is better than", "worse": "is worse than"}.get(verdict, "is undecided against")
        finished = f"where both finished the difference is {signed(mean)} {unit}"
        return (
            f"{name} {outcome} {baseline}, counting a diverged run as the worst (signed ranks, {p_equals(p)}); "
            f"{finished if mean is not None else 'in no seed did both finish'}."
        )
    runs = plural(len(draft.seeds), "paired seed")
    if draft.independent:
        runs = "{} and {} runs, not paired".format(*draft.independent)
    size = f"{signed(mean)} {unit}, 95 % interval {interval_text(interval)}, {runs}"
    if verdict == "equivalent":
        real = " The difference is real and smaller than the margin." if p < ALPHA else ""
        return f"{name} is equivalent to {baseline} within ±{margin:g} {unit} ({size}).{real}"
    if verdict == "undecided":
        return (
            f"It is undecided how {name} compares with {baseline} ({size}). "
            "This does not show that they are equal: the study is too small or too noisy to tell."
        )
    assert mean is not None
    assert interval is not None
    low, high = sorted(map(abs, interval))
    bounds = f"{number(low)} to {number(high)}" if interval[0] * interval[1] > 0 else interval_text(interval)
    amount = f"{number(abs(mean))} {UNITS.get(metric, '')}".strip()
    return (
        f"{name} is {verdict} than {baseline}: its {METRIC_WORDS.get(metric, metric)} is {amount} "
        f"{'lower' if mean < 0 else 'higher'} (95 % interval {bounds}, {p_equals(p)}, {runs})."
    )
