"""Speed-up at equal loss, and the loss by size, of synthetic sweeps."""

import json
import math
import shutil

import numpy as np
import pytest

from gpt2lab.report import plots
from gpt2lab.report.analysis import analyze
from gpt2lab.report.html import as_html
from gpt2lab.report.text_formats import as_markdown
from gpt2lab.report.words import speed_up_text
from gpt2lab.statistics.scaling import SpeedUp
from tests.unit.report.synthetic import TOKENS, change_summary, read_record, write_record, write_sizes, write_sweep


def test_speed_up_from_runs_of_several_lengths(tmp_path):
    lengths = (TOKENS // 4, TOKENS // 2, TOKENS, 2 * TOKENS)
    as_good_as_more_tokens = 60 * ((1.7 * TOKENS) ** -0.3 - TOKENS**-0.3)  # within the baseline's lengths
    effects = {"rope": as_good_as_more_tokens}
    sizes = {"noise": 0.0002, "block": 0.0002}
    report = analyze(write_sweep(tmp_path / "s", norms=("layernorm",), lengths=lengths, effects=effects, **sizes))
    rope = report.conditions[1]
    assert rope.name == "positions=rope, norm=layernorm"  # the length is no factor
    assert rope.comparison.seeds == [0, 1, 2, 3, 4]
    assert sum(bool(run.apart) for run in report.runs) == 30  # of the other lengths
    assert rope.speed_up.factor == pytest.approx(1.7, rel=0.05)
    assert rope.speed_up.interval[0] < rope.speed_up.factor < rope.speed_up.interval[1] * 1.0001
    assert speed_up_text(rope.speed_up).startswith(("1.6", "1.7", "1.8"))


@pytest.mark.parametrize(
    ("speed_up", "text"),
    [
        (SpeedUp(1.7, (1.5, math.inf), TOKENS), "1.70 [1.50, above the longest] at 819k tokens"),
        (SpeedUp(0.0, (0.0, 0.4), TOKENS), "below the shortest [below the shortest, 0.40] at 819k tokens"),
        (SpeedUp(math.inf, None, 2e6), "above the longest at 2M tokens"),
    ],
)
def test_speed_up_names_the_length_and_the_side_of_those_measured(speed_up, text):
    assert speed_up_text(speed_up) == text


def test_speed_up_is_of_the_longest_runs_within_the_measured_lengths(tmp_path):
    """At the full length the variant is better than the baseline's longest run, at half of it it is not."""
    lengths = (TOKENS // 4, TOKENS // 2, TOKENS)
    as_good_as_more_tokens = 60 * ((0.8 * TOKENS) ** -0.3 - (TOKENS // 2) ** -0.3)
    effects, sizes = {"rope": as_good_as_more_tokens}, {"noise": 0.0002, "block": 0.0002}
    report = analyze(write_sweep(tmp_path / "s", norms=("layernorm",), lengths=lengths, effects=effects, **sizes))
    found = report.conditions[1].speed_up
    assert (found.tokens, found.factor) == (TOKENS // 2, pytest.approx(1.6, rel=0.05))
    assert "at 410k tokens" in as_markdown(report, [])


def test_reruns_do_not_enter_the_speed_up(tmp_path):
    lengths = (TOKENS // 4, TOKENS // 2, TOKENS)
    folder = write_sweep(tmp_path / "s", seeds=3, norms=("layernorm",), lengths=lengths, noise=0.01)
    expected = analyze(folder).conditions[1].speed_up
    record = read_record(folder)
    for job in list(record["jobs"]):
        if "learned" in job["name"] and job["name"].endswith("seed=0"):
            name = f"z-{job['name']}"
            shutil.copytree(folder / job["name"], folder / name)
            change_summary(folder / name, val_loss=2.0)
            record["jobs"].append({**job, "name": name, "run_dir": name})
    write_record(folder, record)
    report = analyze(folder)
    assert sum("a rerun of" in run.apart for run in report.runs) == 1  # those of other lengths are apart anyway
    assert report.conditions[1].speed_up == expected


def test_speed_is_neither_a_loss_to_speed_up_nor_chaotic_training(tmp_path):
    lengths = (TOKENS // 4, TOKENS // 2, TOKENS)
    folder = write_sweep(tmp_path / "s", seeds=3, norms=("layernorm",), lengths=lengths)
    rng = np.random.default_rng(0)
    for run in sorted(folder.glob("positions=*")):
        tokens = json.loads((run / "summary.json").read_text())["tokens"]
        rate = 20_000 - tokens / 1000 + rng.normal(0, 100) - 300 * ("rope" in run.name)
        change_summary(run, tokens_per_second=rate)
    report = analyze(folder, metric="tokens_per_second")
    rope = report.conditions[1]
    assert (rope.speed_up, report.speed_up_note) == (None, "")
    assert rope.comparison.correlation < 0.2
    (warning,) = (warning for warning in report.warnings if "Pairing" in warning)
    assert warning == f"Pairing gains nothing for {rope.name} (r = {rope.comparison.correlation:.2f} over seeds)."
    assert analyze(folder).conditions[1].speed_up
    for run in folder.glob("positions=rope*"):
        change_summary(run, tokens_per_second=20_000 + rng.normal(0, 1000))
    assert analyze(folder, metric="tokens_per_second").banner.endswith(
        "the margin is 0.01. Choose a margin in units of tokens_per_second (margin=NUMBER)."
    )


def test_speed_up_without_several_lengths_says_what_it_needs(tmp_path):
    report = analyze(write_sweep(tmp_path / "s", norms=("layernorm",)))
    assert report.conditions[1].speed_up is None
    assert "runs of several lengths" in report.speed_up_note


def test_loss_by_size_is_fitted_where_tokens_follow_parameters(tmp_path):
    report = analyze(runs=write_sizes(tmp_path, lambda n: 1.7 + 300 * n**-0.4))
    assert not any(run.apart for run in report.runs)  # they are equally long for their sizes
    (row,) = report.scaling
    assert row.fit.curve.exponent == pytest.approx(0.4, abs=0.02)
    assert row.fit.exponent_interval[0] < 0.4 < row.fit.exponent_interval[1]
    assert "within noise" in row.sentence
    assert "## Scaling" in as_markdown(report, [])
    assert "<h2>Scaling</h2>" in as_html(report)


def test_bad_fit_of_the_loss_by_size_is_called_one(tmp_path):
    report = analyze(runs=write_sizes(tmp_path, lambda n: 1.7 + 300 * max(n, 2e6) ** -0.4 + n * 1e-9))
    assert "Bad fit" in report.scaling[0].sentence


def test_three_sizes_that_the_curve_misses_are_a_bad_fit(tmp_path):
    """A concave loss has no exponent: with a floor of 0 the curve misses the mean of the middle size."""
    widths = (24, 64, 144)
    concave = dict(zip(widths, (3.5, 3.45, 3.2), strict=True))
    by_parameters = {2_000 * width + 48 * width**2: loss for width, loss in concave.items()}
    report = analyze(runs=write_sizes(tmp_path / "bad", by_parameters.get, widths))
    assert "Bad fit: the means deviate" in report.scaling[0].sentence
    assert "bad fit" in str([line.get_label() for line in plots.plot_scaling(report).axes[0].lines])
    report = analyze(runs=write_sizes(tmp_path / "good", lambda n: 1.7 + 300 * n**-0.4, widths))
    assert "goes through three sizes (here it misses their means by up to 0.000" in report.scaling[0].sentence


def test_exponent_at_the_bound_of_the_search_is_not_determined(tmp_path):
    report = analyze(runs=write_sizes(tmp_path, lambda n: 3.5 if n < 1e5 else 3.2, (24, 64, 144)))
    assert "at the bound of the search (0.005 to 8), so it is not determined" in report.scaling[0].sentence


def test_sizes_with_equal_tokens_have_no_scaling(tmp_path):
    assert analyze(write_sweep(tmp_path / "s")).scaling == []
