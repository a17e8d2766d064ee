"""What a report says of the tuning of a synthetic sweep."""

import itertools
import json

import numpy as np
import pytest

from gpt2lab.report import plots
from gpt2lab.report.analysis import analyze
from gpt2lab.report.html import as_html
from gpt2lab.report.tables import tuning_table
from gpt2lab.report.text_formats import as_markdown
from tests.unit.report.synthetic import TOKENS, add_tuning, change_summary, read_record, write_record, write_sweep


def test_tuning_is_shown_with_a_warning_at_the_edge(tmp_path):
    folder = write_sweep(tmp_path / "s")
    add_tuning(folder)
    report = analyze(folder)
    own, other = report.tuning
    assert (own.at_edge, other.at_edge) == (False, True)
    assert other.at_baseline_rate == pytest.approx(np.interp(np.log(0.0042), np.log([0.004, 0.008]), [3.1, 3.05]))
    assert any("edge" in warning for warning in report.warnings)


def test_each_length_is_tuned_and_compared_at_the_rate_that_its_baseline_has(tmp_path):
    lengths = (TOKENS // 2, TOKENS)
    folder = write_sweep(tmp_path / "s", seeds=2, norms=("layernorm",), lengths=lengths)
    record, values = read_record(folder), [0.001, 0.002, 0.004]
    conditions = list(dict.fromkeys(job["condition"] for job in record["jobs"]))
    assert conditions[0] == "positions=learned,norm=layernorm,max_steps=400"
    record |= {"tuning_key": "optimizer.lr", "tuning": {}}
    for condition, best in zip(conditions, (0.002, 0.001, 0.004, 0.002), strict=True):
        losses = [3.1 + abs(value - best) for value in values]
        record["tuning"][condition] = {"best": best, "values": values, "mean_losses": losses, "at_edge": best == 0.004}
    write_record(folder, record)
    report = analyze(folder)
    rows = [[cell.text for cell in row] for row in tuning_table(report).rows]
    assert [row[0].partition("max_steps=")[2] for row in rows] == ["400", "800"] * 2
    assert [float(row[3]) for row in rows] == [3.1, 3.1, 3.102, 3.101]  # at 0.002 for 400 steps, at 0.001 for 800
    assert any("Tuning of positions=rope, norm=layernorm, max_steps=400: the best" in line for line in report.warnings)
    assert "learned, norm=layernorm, max_steps=800 <small>chosen 0.001" in as_html(report)


def add_tuning_jobs(folder):
    """Completed tuning jobs of every condition: two values, two seeds."""
    record = read_record(folder)
    conditions = list(dict.fromkeys(job["condition"] for job in record["jobs"]))
    for condition, value, seed in itertools.product(conditions, ("0.001", "0.002"), ("101", "102")):
        name = f"tuning/{condition},lr={value},seed={seed}"
        overrides = [*condition.split(","), f"optimizer.lr={value}", f"seed={seed}"]
        job = {"name": name, "condition": condition, "overrides": overrides, "run_dir": name, "status": "completed"}
        record["jobs"].append({**job, "attempts": 1, "error": None, "tuning": True})
    write_record(folder, record)


SAME_TUNING = "Each condition had the same values and seeds."


def test_tuning_says_whether_conditions_had_the_same_runs_and_names_missing_ones(tmp_path):
    folder = write_sweep(tmp_path / "s")
    add_tuning(folder)
    add_tuning_jobs(folder)
    report = analyze(folder)
    assert report.tuning_note.endswith(SAME_TUNING)
    assert SAME_TUNING in as_html(report)
    assert not any("Without a result" in warning for warning in report.warnings)

    record = read_record(folder)
    record["jobs"][-1] |= {"status": "failed", "error": "exit status 2: step 9: loss nan; training diverged"}
    write_record(folder, record)
    assert analyze(folder).tuning_note.endswith(SAME_TUNING)  # a diverged run is a result

    record["jobs"][-1]["error"] = "killed by SIGKILL"
    write_record(folder, record)
    report = analyze(folder)
    (warning,) = (warning for warning in report.warnings if "Without a result" in warning)
    assert f"1 of 16 tuning runs ({record['jobs'][-1]['name']})" in warning
    assert "The conditions did not all have the same values and seeds." in as_markdown(report, [])
    assert SAME_TUNING not in as_markdown(report, [])


def test_tuning_is_labelled_with_the_validation_loss_under_every_metric(tmp_path):
    folder = write_sweep(tmp_path / "s")
    for run in folder.glob("positions=*"):
        change_summary(run, val_bits_per_byte=json.loads((run / "summary.json").read_text())["val_loss"] / 3)
    add_tuning(folder)
    report = analyze(folder, metric="val_bits_per_byte")
    (axes,) = plots.plot_tuning(report).axes
    assert (max(axes.lines[0].get_ydata()), axes.get_ylabel()) == (3.4, "val_loss (nats per token)")
    assert tuning_table(report).headings[2] == "lowest mean val_loss"
    assert "val_loss 3.020 to 3.400 nats per token" in as_html(report)
