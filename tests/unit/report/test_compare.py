"""Comparisons of synthetic sweeps: verdicts, tests, intervals and power, with diverged runs, too."""

import json
import math
import re
import shutil

import numpy as np
import pytest
from scipy import stats

from gpt2lab.report import plots
from gpt2lab.report.analysis import analyze
from gpt2lab.report.compare import HOLM, SIGNED_RANKS, WELCH, Outcomes, compare_all
from gpt2lab.report.html import as_html
from gpt2lab.report.text_formats import as_markdown
from gpt2lab.statistics.multiple import dunnett_critical
from gpt2lab.statistics.paired import detectable_difference
from tests.unit.report.synthetic import (
    BASELINE,
    RMSNORM,
    ROPE,
    change_summary,
    conditions_of,
    of,
    write_run,
    write_sweep,
)


def test_the_verdict_of_one_comparison_has_size_interval_and_p(tmp_path):
    one = analyze(write_sweep(tmp_path / "one", norms=("layernorm",), seeds=3, noise=0.01))
    mean, interval, p = (getattr(one.conditions[1].comparison, name) for name in ("mean", "interval", "p"))
    assert one.verdict == (
        f"{ROPE} is better than {BASELINE}: its validation loss is {-mean:.4f} nats lower (95 % interval "
        f"{-interval[1]:.4f} to {-interval[0]:.4f}, p = {p:.3f}, 3 paired seeds)."
    )
    assert one.banner.startswith("Every comparison is decided")


def test_undecided_is_never_called_equal(tmp_path):
    report = analyze(write_sweep(tmp_path / "s", seeds=3, noise=0.05, block=0.01, norms=("layernorm",)))
    assert conditions_of(report)["positions=rope, norm=layernorm"].comparison.verdict == "undecided"
    assert "does not show that they are equal" in report.verdict
    assert "no difference" not in as_markdown(report, [])
    assert report.banner.startswith("Under-powered")
    assert any("cannot reach 0.05" in line for line in report.method)


def test_study_without_any_answer_says_so_first(tmp_path):
    report = analyze(write_sweep(tmp_path / "s", seeds=4, noise=0.3, block=0.01, effects={"rope": 0.0}, seed=1))
    assert report.verdict.startswith("Undecided: this study cannot tell any of the 3 other conditions")


def test_runs_without_a_common_seed_are_compared_as_independent_ones(tmp_path):
    values = {"learned": [3.0, 3.02, 2.99, 3.01], "rope": [2.9, 2.91, 2.93]}
    runs = [
        write_run(tmp_path / f"{positions}{n}", 10 * len(positions) + n, loss, positions)
        for positions, losses in values.items()
        for n, loss in enumerate(losses)
    ]
    report = analyze(runs=list(map(str, runs)))
    comparison = report.conditions[1].comparison
    expected = stats.ttest_ind(values["rope"], values["learned"], equal_var=False)
    assert comparison.test == WELCH
    assert (comparison.mean, comparison.p) == pytest.approx((2.74 / 3 + 2 - 3.005, expected.pvalue))
    bounds = expected.confidence_interval()
    assert comparison.interval == pytest.approx((bounds.low, bounds.high))
    assert comparison.verdict == "better"
    assert "3 and 4 runs, not paired" in report.verdict
    assert any("compared as independent runs, by Welch's t" in warning for warning in report.warnings)
    assert "Welch's t" in as_markdown(report, [])
    assert as_html(report)


def test_all_pairs_are_those_of_tukey_on_the_block_model(tmp_path):
    report = analyze(write_sweep(tmp_path / "s", noise=0.01))
    names = [condition.name for condition in report.conditions]
    y_CS = np.array([[c.values[s] for s in range(5)] for c in report.conditions])
    # scipy's Tukey works on independent groups: fit the blocks by hand and use its distribution
    residual = y_CS - y_CS.mean(1, keepdims=True) - y_CS.mean(0) + y_CS.mean()
    error = math.sqrt((residual**2).sum() / 12 / 5)
    assert len(report.pairs) == 6
    for pair in report.pairs:
        difference = np.diff(y_CS[[names.index(pair.other), names.index(pair.condition)]].mean(1))[0]
        assert pair.mean == pytest.approx(difference)
        assert pair.p == pytest.approx(stats.studentized_range.sf(abs(difference) / error, 4, 12), abs=1e-9)
        half = stats.studentized_range.ppf(0.95, 4, 12) * error
        assert pair.interval == pytest.approx((difference - half, difference + half))
    assert "## All pairs" in as_markdown(report, [])
    assert not analyze(write_sweep(tmp_path / "two", norms=("layernorm",))).pairs


def test_what_is_left_out_of_a_grid_is_named(tmp_path):
    """A pair without two common seeds, and why there are no main effects."""
    folder = write_sweep(tmp_path / "s", seeds=4)
    for seed in (1, 2, 3):
        shutil.rmtree(of(folder, "rope", seed))
    report = analyze(folder)
    assert report.method[-1] == (
        "Main effects and interactions are left out: 1 seed that all combinations of the factors have; it takes two."
    )
    over = "A difference is over the paired seeds alone, a mean over all of its condition."
    assert over in report.method
    unknown = [pair for pair in report.pairs if pair.p is None]
    assert [len(report.pairs), len(unknown)] == [6, 3]
    assert all(ROPE in (pair.condition, pair.other) for pair in unknown)
    raw = [
        stats.ttest_rel(*([conditions_of(report)[name].values[s] for s in range(4)] for name in names)).pvalue
        for names in ((pair.condition, pair.other) for pair in report.pairs if pair.p is not None)
    ]
    assert min(pair.p for pair in report.pairs if pair.p is not None) == pytest.approx(3 * min(raw))
    assert f"| {ROPE} | {BASELINE} | – | – | – |" in as_markdown(report, [])
    as_html(report)
    lost = write_sweep(tmp_path / "lost")
    change_summary(of(lost, "rope", 0), val_loss=None)
    assert analyze(lost).method[-1].endswith(f"left out: diverged runs in {ROPE}.")
    partial = [
        str(of(lost, p, seed, n))
        for p, n in (("learned", "layernorm"), ("rope", "layernorm"), ("learned", "rmsnorm"))
        for seed in (1, 2)
    ]
    assert analyze(runs=partial).method[-1] == (
        "Main effects and interactions are left out: 1 combination of the factors without a run "
        "(norm=rmsnorm, positions=rope)."
    )
    whole = analyze(write_sweep(tmp_path / "whole")).method
    assert over not in whole
    assert not whole[-1].startswith("Main")


def test_an_interaction_above_the_margin_is_a_warning(tmp_path):
    folder = write_sweep(tmp_path / "s")
    assert not [warning for warning in analyze(folder).warnings if "Interaction" in warning]
    for seed in range(5):
        run = of(folder, "rope", seed, "rmsnorm")
        change_summary(run, val_loss=json.loads((run / "summary.json").read_text())["val_loss"] + 0.08)
    (warning,) = [warning for warning in analyze(folder).warnings if "Interaction" in warning]
    assert "read the conditions, not the main effects" in warning


def test_higher_is_better_turns_the_verdict(tmp_path):
    report = analyze(write_sweep(tmp_path / "s", norms=("layernorm",)), metric="tokens_per_second", margin=1.0)
    assert report.conditions[1].comparison.verdict == "worse"


def test_unequal_spread_is_tested_by_holm(tmp_path):
    folder = write_sweep(tmp_path / "s")
    for seed in range(5):
        change_summary(of(folder, "rope", seed), val_loss=3.0 + 0.2 * seed)
    report = analyze(folder)
    assert all(c.comparison.test == HOLM for c in report.conditions[1:])


def test_diverged_run_counts_as_the_worst(tmp_path):
    folder = write_sweep(tmp_path / "s", seeds=7, norms=("layernorm",), effects={"rope": -0.05})
    for seed in range(6):
        change_summary(of(folder, "rope", seed), val_loss=None)
    report = analyze(folder)
    rope = report.conditions[1]
    assert rope.comparison.test == SIGNED_RANKS
    assert (rope.diverged, len(rope.values)) == (6, 1)
    assert rope.comparison.verdict == "worse"
    assert rope.comparison.mean < 0  # conditional on finishing, which the sentence says
    assert "where both finished" in rope.comparison.sentence
    assert rope.comparison.fisher_p < 0.01
    assert sum(math.isinf(d) for d in rope.comparison.differences) == 6
    assert any("6 of 7 runs diverged" in warning for warning in report.warnings)
    assert ">6 ▸<title>this condition diverged: seed 0, 1, 2, 3, 4, 5</title>" in as_html(report)


@pytest.mark.parametrize("seeds", [1, 3])
def test_where_no_pair_finished_there_is_no_difference(seeds):
    baseline, variant = (dict.fromkeys(range(seeds), value) for value in (3.0, math.nan))
    (comparison,), _ = compare_all(
        [Outcomes("v", variant)], Outcomes("b", baseline), "val_loss", 0.01, lower_is_better=True
    )
    assert "–" not in comparison.sentence
    assert ("in which not both finished" if seeds == 1 else "in no seed did both finish.") in comparison.sentence


@pytest.mark.parametrize(("seeds", "enough"), [(5, False), (7, True)])
def test_power_with_a_diverged_run_is_that_of_signed_ranks(tmp_path, seeds, enough):
    """With two comparisons 2 x 2/2^6 = 0.0625 and 2 x 2/2^7 = 0.031, so it takes seven seeds."""
    folder = write_sweep(
        tmp_path / "s", seeds=seeds, norms=("layernorm",), positions=("learned", "rope", "none"), effects={"none": 0.03}
    )
    change_summary(of(folder, "none", 1), status="failed: training diverged", val_loss="remove")
    report = analyze(folder)
    assert any("Mean curves end where the first run" in warning for warning in report.warnings)
    assert [c.comparison.detectable for c in report.conditions[1:]] == [None, None]
    assert all(("signed ranks reach 0.05 with 7 seeds or more" in line) for line in report.noise[1:])
    assert [c.comparison.verdict for c in report.conditions[1:]] == (
        ["better", "worse"] if enough else ["undecided"] * 2
    )
    assert bool(report.banner) != enough
    if not enough:
        assert "with 5 paired seeds and 2 comparisons their p cannot fall below 0.05" in report.banner


def test_verdict_of_signed_ranks_has_the_direction_of_their_sums():
    """Sixteen small losses against fourteen large gains: scipy's one-sided test says which way."""
    d = np.r_[np.arange(1, 17) * 0.001, -np.arange(17, 30) * 0.01]
    baseline = {i: 3.0 + 0.001 * i for i in range(30)}
    variant = {**{i: baseline[i] + d[i] for i in range(29)}, 29: 3.0}
    baseline[29] = math.nan
    (comparison,), test = compare_all(
        [Outcomes("v", variant)], Outcomes("b", baseline), "val_loss", 0.01, lower_is_better=True
    )
    assert test == SIGNED_RANKS
    assert stats.wilcoxon([*d, -1.0], alternative="less").pvalue < 0.025
    assert comparison.verdict == "better"


def test_seeds_needed_are_those_of_the_test_in_use(tmp_path):
    folder = write_sweep(tmp_path / "s", noise=0.01)
    for seed in range(5):
        change_summary(of(folder, "rope", seed), val_loss=3.0 + 0.2 * seed)
    report = analyze(folder)
    rmsnorm = conditions_of(report)[RMSNORM].comparison
    assert rmsnorm.test == HOLM
    needed = next(
        n
        for n in range(2, 1000)
        if detectable_difference(rmsnorm.sd / math.sqrt(n), n - 1, stats.t.ppf(1 - 0.025 / 3, n - 1)) <= 0.01
    )
    (line,) = [line for line in report.noise if line.startswith(RMSNORM)]
    assert line.endswith(f"seeds needed for ±0.01: {needed}.")


def test_seeds_needed_agree_with_the_detectable_difference_of_a_pooled_test(tmp_path):
    """The variants deviate from the baseline in opposite ways, so that the pooled noise is above that of each."""
    deviation_S = 0.005 + 0.0075 * np.array([-1.2, -0.8, -0.1, 0.2, 0.7, 1.2])
    folder = write_sweep(tmp_path / "s", seeds=6, norms=("layernorm",), positions=("learned", "rope", "alibi"))
    for positions, side in (("learned", 0), ("rope", 1), ("alibi", -1)):
        for seed, deviation in enumerate(deviation_S):
            change_summary(of(folder, positions, seed), val_loss=3.1 + 0.02 * seed + side * deviation)
    report = analyze(folder)
    comparisons = [c.comparison for c in report.conditions[1:]]
    pooled = math.sqrt(2 * (2 * deviation_S.var(ddof=1)) / 2)  # residuals 0, d and -d, with 2 x 5 degrees of freedom
    assert [c.test_sd for c in comparisons] == pytest.approx([pooled] * 2)
    assert comparisons[0].detectable > 0.01
    (needed,) = {int(line.split(": ")[-1].rstrip(".")) for line in report.noise if line.startswith("positions=")}
    assert 6 < needed == int(re.search(r"About (\d+) seeds", report.banner)[1])
    enough, too_few = (
        detectable_difference(pooled / math.sqrt(n), 2 * (n - 1), dunnett_critical(2, 2 * (n - 1)))
        for n in (needed, needed - 1)
    )
    assert enough <= 0.01 < too_few


def test_one_shared_seed_is_a_warning_as_none_is(tmp_path):
    runs = [
        write_run(tmp_path / f"{positions}{seed}", seed, loss + 0.01 * (seed % 3), positions)
        for positions, seeds, loss in (("learned", (0, 1, 2, 3), 3.1), ("rope", (3, 4, 5, 6), 3.0))
        for seed in seeds
    ]
    report = analyze(runs=list(map(str, runs)))
    assert report.conditions[1].comparison.test == WELCH
    assert (
        "positions=rope: 1 seed in common with the baseline, compared as independent runs, by Welch's t."
        in report.warnings
    )


def test_two_kinds_of_outcome_are_flagged(tmp_path):
    folder = write_sweep(tmp_path / "s", seeds=7, norms=("layernorm",), noise=0.001, block=0.002)
    for seed in (1, 4):
        change_summary(of(folder, "learned", seed), val_loss=3.6)
    report = analyze(folder)
    assert report.conditions[0].two_modes.upper == 2
    assert any("two kinds of outcome" in warning for warning in report.warnings)


def test_main_effects_say_over_how_many_seeds(tmp_path):
    folder = write_sweep(tmp_path / "s")
    change_summary(of(folder, "rope", 3), status="stopped")
    report = analyze(folder)
    assert {effect.seeds for effect in report.effects} == {4}
    assert "over the 4 seeds that all cells have" in as_markdown(report, [])
    assert "over the 4 seeds that all cells have" in as_html(report)


@pytest.mark.parametrize(("metric", "edge"), [("val_loss", 1), ("tokens_per_second", 0)])
def test_diverged_seeds_are_counted_at_the_edge_of_the_differences(tmp_path, metric, edge):
    folder = write_sweep(tmp_path / "s", seeds=6, norms=("layernorm",))
    for seed in (1, 2):
        change_summary(of(folder, "rope", seed), status="failed: training diverged", val_loss="remove")
    report = analyze(folder, metric=metric)
    (axes,) = plots.plot_differences(report).axes
    (text,) = axes.texts
    assert text.get_text().strip() == "2 diverged"
    assert text.get_position()[0] == edge  # a share of the width
    assert "this condition diverged: seed 1, 2</title>" in as_html(report)
