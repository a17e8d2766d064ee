"""Reports of runs that were resumed: the last start describes a run, and what changed between starts is named."""

import json

import pytest
import yaml

from gpt2lab.report.analysis import analyze
from tests.unit.report.synthetic import write_sweep


def resume(run, section="training", number=2, environment=None, **settings):
    """Add the records of a later start with other settings of a section, or another environment."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    config[section] |= settings
    (run / f"config.{number}.yaml").write_text(yaml.safe_dump(config))
    before = json.loads((run / "environment.json").read_text())
    (run / f"environment.{number}.json").write_text(json.dumps(before | (environment or {})))


def sweep(tmp_path):
    folder = write_sweep(tmp_path / "s", norms=("layernorm",))
    return folder, folder / "positions=rope,norm=layernorm,seed=3"


def reason_of(report, run):
    (found,) = (row.apart for row in report.runs if row.name == run.name)
    return found


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"weight_decay": 0.5}, "training.weight_decay=0.1, then 0.5, not 0.1"),
        ({"max_steps": 900}, "training.max_steps=800, then 900"),
        ({"section": "model", "dropout": 0.3}, "model.dropout=0.0, then 0.3, not 0.0"),
        ({"environment": {"git_commit": "2" * 40}}, "the commit differs: 111111111111, then 222222222222"),
        (
            {"environment": {"packages": {"torch": "2.14"}}},
            "unknown, then torch 2.14, gpt2lab unknown",
        ),
        ({"environment": {"device": "H200"}}, "the device differs: cpu, then H200"),
        ({"section": "runtime", "precision": "bf16"}, "the precision differs: fp32, then bf16"),
    ],
)
def test_run_that_was_resumed_with_a_change_is_shown_apart(tmp_path, change, reason):
    folder, run = sweep(tmp_path)
    for path in folder.glob("positions=*"):
        config = yaml.safe_load((path / "config.yaml").read_text())
        config["training"]["weight_decay"], config["model"]["dropout"] = 0.1, 0.0
        (path / "config.yaml").write_text(yaml.safe_dump(config))
        environment = json.loads((path / "environment.json").read_text())
        environment |= {"packages": {"torch": "2.13"}, "device": "cpu"}
        (path / "environment.json").write_text(json.dumps(environment))
    resume(run, **change)
    report = analyze(folder)
    assert reason in reason_of(report, run)
    assert any(run.name in warning and reason in warning for warning in report.warnings)
    assert report.conditions[1].comparison.seeds == [0, 1, 2, 4]


def test_run_that_was_resumed_without_a_change_is_compared(tmp_path):
    folder, run = sweep(tmp_path)
    resume(run)
    resume(run, number=3)
    report = analyze(folder)
    assert reason_of(report, run) == ""
    assert not any("Resumed" in warning for warning in report.warnings)


def test_last_start_says_what_a_run_is(tmp_path):
    """All starts but the first were at the commit of the other runs."""
    folder, run = sweep(tmp_path)
    for path in folder.glob("positions=*"):
        if path != run:
            resume(path, environment={"git_commit": "2" * 40})
    assert "the commit differs: 111111111111, not 111111111111, then 222222222222" in reason_of(analyze(folder), run)
    resume(run, environment={"git_commit": "2" * 40})
    report = analyze(folder)
    assert reason_of(report, run) == ""
    (warning,) = (warning for warning in report.warnings if warning.startswith("Resumed with a change"))
    assert "the commit: 111111111111, then 222222222222" in warning
    assert run.name in warning


def test_a_start_that_left_no_checkpoint_says_nothing_of_the_run(tmp_path):
    """It was begun again at step 0, with another setting and at another commit, those of the other runs."""
    folder, run = sweep(tmp_path)
    mended = {"git_commit": "2" * 40, "start_step": 0}
    for path in folder.glob("positions=*"):
        resume(path, environment=mended, weight_decay=0.1)
    resume(run, number=3, environment=mended | {"start_step": 400}, weight_decay=0.1)
    report = analyze(folder)
    assert not any(row.apart for row in report.runs)
    assert not any("Resumed" in warning for warning in report.warnings)
    assert {row.facts["commit"] for row in report.runs} == {"2" * 12}
    (run / "config.2.yaml").write_text("damaged: [")
    assert "the commit differs: 111111111111, then 222222222222" in reason_of(analyze(folder), run)


def test_weights_that_the_first_start_began_from_count(tmp_path):
    folder, run = sweep(tmp_path)
    for path in folder.glob("positions=*"):
        config = yaml.safe_load((path / "config.yaml").read_text())
        (path / "config.yaml").write_text(yaml.safe_dump(config | {"init_from": "runs/a"}))
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.2.yaml").write_text(yaml.safe_dump(config | {"init_from": None}))
    assert reason_of(analyze(folder), run) == ""
