"""The loss over the size of the model, where every run had equally many tokens for each of its parameters."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from gpt2lab.report.comparability import PER_PARAMETER
from gpt2lab.report.results import Condition, ScalingRow
from gpt2lab.report.words import number
from gpt2lab.statistics.scaling import HIGHEST_EXPONENT, LOWEST_EXPONENT, ScalingFit, fit_scaling

SIZE_KEYS = ("model", "n_layer", "n_embd", "n_head", "n_kv_head", "hidden_dim")
"""factors that set the size; conditions are one curve where all others agree"""
BAD_FIT = 0.05
"""p of the lack of fit, below which the law is called bad"""
BAD_MISS = 2
"""standard errors of a mean that a curve through three sizes, where nothing is tested, may miss it by"""
LEAST_RANGE = 10
"""largest over smallest size, below which an exponent says little"""


def scaling_rows(conditions: Sequence[Condition]) -> list[ScalingRow]:
    """One curve for each group of conditions that differ in size alone; none where the runs are equally long."""
    groups: dict[str, list[Condition]] = defaultdict(list)
    for condition in conditions:
        if condition.values and any(run.facts["tokens"].endswith(PER_PARAMETER) for run in condition.runs):
            levels = condition.levels.items()
            others = ", ".join(f"{key}={value}" for key, value in levels if key not in SIZE_KEYS)
            groups[others].append(condition)
    return [_row(name, members) for name, members in groups.items() if len(members) > 1]


def _row(name: str, members: Sequence[Condition]) -> ScalingRow:
    losses: dict[float, list[float]] = defaultdict(list)
    for condition in members:
        losses[float(condition.numbers["parameters"] or 0)] += condition.values.values()
    fit = fit_scaling({size: np.array(values) for size, values in losses.items()})
    points = [(size, float(np.mean(losses[size]))) for size in sorted(losses)]
    return ScalingRow(name, points, fit, _sentence(name, points, fit))


def is_bad_fit(fit: ScalingFit) -> bool:
    """Whether the means lie too far from the curve for its exponent to describe them."""
    if fit.lack_of_fit_p is None:
        return fit.largest_error > BAD_MISS * fit.noise > 0
    return fit.lack_of_fit_p < BAD_FIT


def _sentence(name: str, points: Sequence[tuple[float, float]], fit: ScalingFit | None) -> str:
    subject = f"{name}: " if name else ""
    if fit is None:
        return (
            f"{subject}no power law was fitted: it takes three sizes, two seeds of one of them, and a loss that falls "
            "from the smallest to the largest."
        )
    curve = fit.curve
    (low, high), (floor_low, floor_high) = fit.exponent_interval, fit.floor_interval
    law = (
        f"{subject}loss = {number(curve.floor, 2)} + {curve.scale:.3g} N^−{number(curve.exponent, 3)}; exponent 95 % "
        f"interval {number(low, 3)} to {number(high, 3)}, floor {number(floor_low, 2)} to {number(floor_high, 2)}."
    )
    if fit.is_at_bound:
        law += (
            f" The exponent or an end of its interval is at the bound of the search ({LOWEST_EXPONENT:g} to "
            f"{HIGHEST_EXPONENT:g}), so it is not determined."
        )
    if is_bad_fit(fit):
        test = "" if fit.lack_of_fit_p is None else f" (lack of fit, p = {fit.lack_of_fit_p:.2g})"
        judged = (
            f"Bad fit: the means deviate from the curve by up to {number(fit.largest_error)}, where noise is "
            f"{number(fit.noise)}{test}. The exponent describes nothing."
        )
    elif fit.noise == 0:
        judged = "The seeds of each size give equal losses, so whether the law holds is not tested."
    elif fit.lack_of_fit_p is None:
        judged = (
            "A curve with three numbers goes through three sizes (here it misses their means by up to "
            f"{number(fit.largest_error)}, where noise is {number(fit.noise)}), so whether the law holds is not tested."
        )
    else:
        judged = (
            f"The deviations of the means, up to {number(fit.largest_error)}, are within noise "
            f"({number(fit.noise)}; lack of fit, p = {fit.lack_of_fit_p:.2g})."
        )
    ratio = points[-1][0] / points[0][0]
    narrow = (
        f" The sizes span a factor of {ratio:.1f}, and an exponent from less than {LEAST_RANGE} is a guess."
        if ratio < LEAST_RANGE
        else ""
    )
    return f"{law} {judged}{narrow}"
