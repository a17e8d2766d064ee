"""What a study of this size can find: the banner of a report, and the seeds that would do."""

from collections.abc import Sequence

from gpt2lab.report.compare import ALPHA, DUNNETT, HOLM, SIGNED_RANKS
from gpt2lab.report.metric import LOSSES
from gpt2lab.report.results import Comparison, Condition
from gpt2lab.report.words import UNITS, number, plural
from gpt2lab.statistics.paired import pooled_critical, seeds_needed, seeds_to_reach, separate_critical

CRITICAL = {DUNNETT: pooled_critical, HOLM: separate_critical}
"""degrees of freedom and critical value of a test for a number of comparisons and seeds"""


def banner(conditions: Sequence[Condition], test: str, margin: float, metric: str) -> str:
    """Why the study cannot answer; empty where it can detect the margin."""
    comparisons = [c.comparison for c in conditions if c.comparison]
    if not comparisons:
        return ""
    if all(c.p is None for c in comparisons):
        return "Under-powered: no condition shares two seeds with the baseline, so there is no interval and no test."
    if test == SIGNED_RANKS:
        return _banner_of_ranks(comparisons)
    worst = max((c.detectable for c in comparisons if c.detectable is not None), default=0.0)
    if worst <= margin:
        return ""
    if all(c.verdict != "undecided" for c in comparisons):
        return (
            f"Every comparison is decided. A smaller effect could have been missed: a true difference below "
            f"{worst:.4f} {UNITS.get(metric, metric)} is missed more than one time in five (margin {margin:g})."
        )
    sd = max((c.test_sd for c in comparisons if c.test_sd is not None), default=None)
    if sd is None:
        return (
            f"Under-powered: a true difference below {worst:.4f} {UNITS.get(metric, metric)} is missed more than one "
            f"time in five, and the margin is {margin:g}. Runs with the baseline's seeds would be paired, which helps."
        )
    needed = seeds_needed(sd, margin, tested_comparisons(comparisons), CRITICAL[test])
    if metric not in LOSSES:
        advice = f"Choose a margin in units of {metric} (margin=NUMBER)."
    elif needed:
        advice = f"About {needed} seeds would detect the margin."
    else:
        advice = "No practical number of seeds would detect it: a calmer recipe is needed."
    return (
        f"Under-powered: a true difference below {worst:.4f} {UNITS.get(metric, metric)} is missed more than one time "
        f"in five, and the margin is {margin:g}. {advice}"
    )


def _banner_of_ranks(comparisons: Sequence[Comparison]) -> str:
    """Whether signed ranks have enough seeds to reach 0.05; seeds in which both runs diverged do not count."""
    tested = tested_comparisons(comparisons)
    needed = seeds_to_reach(tested, ALPHA)
    fewest = min(sum(d != 0 for d in c.differences) for c in comparisons if c.p is not None)
    if fewest >= needed:
        return ""
    return (
        f"Under-powered: a run diverged, so signed ranks decide, and with {plural(fewest, 'paired seed')} and "
        f"{plural(tested, 'comparison')} their p cannot fall below {ALPHA}. It takes at least {needed} seeds."
    )


def tested_comparisons(comparisons: Sequence[Comparison]) -> int:
    """Comparisons that the test is adjusted for."""
    return max(1, sum(c.p is not None for c in comparisons))


def power_of(c: Comparison, test: str, tested: int, margin: float) -> str:
    """What the test in use can find, and how many seeds it needs."""
    if test == SIGNED_RANKS:
        return f"signed ranks reach {ALPHA} with {seeds_to_reach(tested, ALPHA)} seeds or more"
    assert c.test_sd is not None
    needed = seeds_needed(c.test_sd, margin, tested, CRITICAL[test])
    return (
        f"detectable at 80 % power {number(c.detectable)}; seeds needed for ±{margin:g}: "
        f"{needed if needed else 'more than 1,000'}"
    )
