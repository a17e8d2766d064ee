"""Which runs a report takes: of sweeps, of folders of sweeps and of globs, never those of a tuning."""

import json
import shutil

import pytest

from gpt2lab.config import UserError
from gpt2lab.report.analysis import analyze
from gpt2lab.report.finding import find_runs
from tests.unit.report.synthetic import of, read_record, write_record, write_run, write_sweep


@pytest.fixture
def two_sweeps(tmp_path):
    """Sweeps a and b of other positions, b with a tuning run, below one folder."""
    root = tmp_path / "sweeps"
    for name, positions in (("a", ("learned",)), ("b", ("learned", "rope"))):
        write_sweep(root / name, norms=("layernorm",), positions=positions, seeds=3)
    tuning = write_run(root / "b" / "tuning" / "rope,lr=0.001,seed=10001", 10001, 9.0, "rope")
    record = read_record(root / "b")
    run_dir = str(tuning.relative_to(root / "b"))
    record["jobs"].append({"name": run_dir, "run_dir": run_dir, "tuning": True, "overrides": [], "status": "completed"})
    write_record(root / "b", record)
    return root


def test_sweeps_and_globs_are_read_without_their_tuning_runs(two_sweeps):
    in_a, in_b = 3, 6
    for runs, expected in (
        ([two_sweeps / "a", two_sweeps / "b"], in_a + in_b),
        ([two_sweeps], in_a + in_b),
        ([two_sweeps / "*"], in_a + in_b),
        ([two_sweeps / "b" / "*"], in_b),
        ([two_sweeps / "b" / "tuning" / "*", two_sweeps / "a"], None),
        ([two_sweeps / "b" / "*", two_sweeps / "b", of(two_sweeps / "b", "rope", 1)], in_b),
        ([next((two_sweeps / "b" / "tuning").iterdir())], 1),  # it is named itself
    ):
        if expected is None:
            with pytest.raises(UserError, match="no config.yaml there"):
                find_runs(None, list(map(str, runs)))
        else:
            assert len(find_runs(None, list(map(str, runs))).runs) == expected, runs
    assert len(find_runs(two_sweeps, []).runs) == in_a + in_b  # two sweeps that were copied into one folder


def test_runs_of_two_sweeps_are_compared_and_told_apart(two_sweeps):
    shutil.rmtree(of(two_sweeps / "b", "rope", 2))
    for run in (two_sweeps / "b").glob("*learned*"):
        config = run / "config.yaml"
        config.write_text(config.read_text().replace("seed: ", "seed: 1"))  # 10, 11, 12
    report = analyze(runs=[str(two_sweeps / "a"), str(two_sweeps / "b")])
    assert [c.name for c in report.conditions] == ["positions=learned", "positions=rope"]
    assert sorted(report.conditions[0].values) == [0, 1, 2, 10, 11, 12]
    assert report.conditions[1].comparison.seeds == [0, 1]
    names = [run.name for run in report.runs]
    assert len(set(names)) == len(names) == 8
    assert str(of(two_sweeps / "a", "learned", 0)) in names
    (warning,) = [warning for warning in report.warnings if warning.startswith("Not shown: 1 job of sweeps")]
    assert of(two_sweeps / "b", "rope", 2).name in warning


def test_damaged_record_of_a_sweep_in_a_glob_is_an_error(two_sweeps):
    (two_sweeps / "b" / "sweep.json").write_text(json.dumps({"jobs": 3}))
    with pytest.raises(UserError, match=r"sweep.json: damaged"):
        find_runs(None, [str(two_sweeps / "b" / "*")])
