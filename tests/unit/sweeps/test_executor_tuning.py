"""Sweeps that tune a key for each condition before the comparison."""

import json

import pytest

from gpt2lab.cli.compose import compose_config
from gpt2lab.config import UserError
from gpt2lab.runs import read_lines

TUNE = ["sweep.tune=optimizer.lr", "sweep.tune_values=[1e-3,2e-3,4e-3,8e-3]", "sweep.tune_seeds=[50]"]


def plant(folder, name, what):
    (folder / name).mkdir(parents=True)
    (folder / name / what).touch()


@pytest.mark.parametrize("seeds", ["seed=50", "seed=1,50"])
def test_seed_of_the_tuning_is_none_of_the_comparison(sweep, tmp_path, seeds):
    tune = ["sweep.tune=optimizer.lr", "sweep.tune_values=[1e-3,2e-3,4e-3]", "sweep.tune_seeds=[50]"]
    with pytest.raises(UserError, match=r"sweep.tune_seeds=\[50\]: .*other seeds than the comparison's"):
        sweep("model/norm=layernorm,rmsnorm", seeds, "sweep.name=s", *tune)
    assert not (tmp_path / "runs/sweeps/s").exists()


def test_tuning_runs_first_and_its_value_is_used_per_condition(sweep, tmp_path):
    assert sweep("model/norm=layernorm,rmsnorm", "seed=0,1", *TUNE, "sweep.name=t") == 0
    folder = tmp_path / "runs" / "sweeps" / "t"
    record = json.loads((folder / "sweep.json").read_text())
    assert set(record["tuning"]) == {"norm=layernorm", "norm=rmsnorm"}
    chosen = record["tuning"]["norm=rmsnorm"]
    assert 2e-3 < chosen["best"] < 4e-3  # the fake job's optimum is 3e-3
    assert chosen["values"] == [1e-3, 2e-3, 4e-3, 8e-3]
    assert not chosen["at_edge"]
    (start,) = read_lines(folder / "norm=rmsnorm,seed=1" / "starts.jsonl")
    assert f"optimizer.lr={chosen['best']:g}" in start["arguments"]
    assert len(list(folder.glob("tuning/*/summary.json"))) == 8


@pytest.mark.parametrize("planted", ["kill", "fail"])
def test_comparison_waits_for_every_tuning_run_that_did_not_diverge(sweep, tmp_path, statuses, capsys, caplog, planted):
    folder = tmp_path / "runs" / "sweeps" / "t"
    lost = "tuning/norm=rmsnorm,lr=0.004,seed=50"
    plant(folder, lost, planted)
    arguments = ["model/norm=layernorm,rmsnorm", "seed=0,1", *TUNE, "sweep.name=t"]
    assert sweep(*arguments) == 1
    assert "the comparison does not start" in caplog.text
    assert f"without a result: 1 of 8 tuning runs ({lost})" in caplog.text
    assert "to continue, type: " in capsys.readouterr().out
    found = statuses(folder)
    assert found.pop(lost) == "failed"
    assert {status for name, status in found.items() if not name.startswith("tuning")} == {"pending"}
    assert json.loads((folder / "sweep.json").read_text())["tuning"] == {}

    assert sweep(*arguments) == 0
    tuning = json.loads((folder / "sweep.json").read_text())["tuning"]
    assert tuning["norm=layernorm"] == tuning["norm=rmsnorm"]
    assert set(statuses(folder).values()) == {"completed"}


def test_value_whose_tuning_run_diverged_is_left_out(sweep, tmp_path, statuses):
    folder = tmp_path / "runs" / "sweeps" / "t"
    plant(folder, "tuning/norm=rmsnorm,lr=0.008,seed=50", "diverge")
    assert sweep("model/norm=layernorm,rmsnorm", "seed=0,1", *TUNE, "sweep.name=t") == 1
    tuning = json.loads((folder / "sweep.json").read_text())["tuning"]
    assert tuning["norm=rmsnorm"]["mean_losses"][3] is None
    assert list(statuses(folder).values()).count("completed") == 7 + 4


def test_tuned_integer_is_an_integer(sweep, tmp_path):
    tune = ["sweep.tune=schedule.warmup_steps", "sweep.tune_values=[2,5,1234567]", "sweep.tune_seeds=[50]"]
    assert sweep("seed=0,1", "training.max_steps=2000000", *tune, "sweep.name=t") == 0
    folder = tmp_path / "runs" / "sweeps" / "t"
    assert (folder / "tuning" / "warmup_steps=1234567,seed=50").is_dir()
    (start,) = read_lines(folder / "seed=1" / "starts.jsonl")
    (given,) = (text for text in start["arguments"] if text.startswith("schedule.warmup_steps="))
    assert given in ("schedule.warmup_steps=2", "schedule.warmup_steps=5")
    assert compose_config("train", ["training.max_steps=2000000", given]).schedule.warmup_steps in (2, 5)


def test_tuned_value_of_an_earlier_rule_is_kept_for_the_runs_that_have_it(sweep, tmp_path, caplog):
    arguments = ["model/norm=layernorm,rmsnorm", *TUNE, "sweep.name=t"]
    assert sweep("seed=0,1", *arguments) == 0
    file = tmp_path / "runs" / "sweeps" / "t" / "sweep.json"
    record = json.loads(file.read_text())
    record["tuning"]["norm=rmsnorm"]["best"] = 0.0025
    file.write_text(json.dumps(record))
    assert sweep("seed=0,1,2", *arguments) == 0
    (start,) = read_lines(file.parent / "norm=rmsnorm,seed=2" / "starts.jsonl")
    assert "optimizer.lr=0.0025" in start["arguments"]
    assert "optimizer.lr=0.0025 is kept, as its runs have it" in caplog.text

    record["tuning"]["norm=rmsnorm"]["mean_losses"][0] += 0.1
    file.write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"the tuning now gives optimizer.lr=.*, its runs used 0.0025; choose another"):
        sweep("seed=0,1,2", *arguments)


def test_sweep_of_the_same_name_refuses_to_mix_tuned_runs_with_others(sweep, tmp_path):
    assert sweep("seed=1,2", "sweep.name=plain") == 0
    with pytest.raises(
        UserError, match=r"sweep.tune=optimizer.lr: .*name=plain were made without sweep.tune; expected"
    ):
        sweep("seed=1,2", "sweep.name=plain", *TUNE)
    assert not (tmp_path / "runs/sweeps/plain/tuning").exists()
    assert sweep("seed=1,2", "sweep.name=tuned", *TUNE) == 0
    with pytest.raises(UserError, match=r"sweep.tune=null: .*name=tuned were made with sweep.tune=optimizer.lr"):
        sweep("seed=1,2,3", "sweep.name=tuned")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            "sweep.tune_values=[1e-3,2e-3,4e-3]",
            r"tune_values=\[0.001,0.002,0.004\]: .*name=t has \[0.001,0.002,0.004,0.008\]; expected the same",
        ),
        ("sweep.tune_seeds=[50,51]", r"tune_seeds=\[50,51\]: .*name=t has \[50\]; expected the same"),
    ],
)
def test_sweep_of_the_same_name_refuses_another_tuning(sweep, tmp_path, other, message):
    assert sweep("seed=1,2", "sweep.name=t", *TUNE) == 0
    before = (tmp_path / "runs/sweeps/t/sweep.json").read_bytes()
    with pytest.raises(UserError, match=message):
        sweep("seed=1,2", "model/norm=layernorm,rmsnorm", "sweep.name=t", *TUNE, other)
    with pytest.raises(UserError, match=message):
        sweep("seed=1,2", "sweep.name=t", *TUNE, other)
    assert (tmp_path / "runs/sweeps/t/sweep.json").read_bytes() == before
    assert sweep("seed=1,2,3", "sweep.name=t", *TUNE) == 0


def test_tuned_sweep_named_alone_is_continued_with_its_tuning(sweep, tmp_path, monkeypatch):
    """The experiment's file may have changed: the jobs are those of the record."""
    params = {"seed": "1,2", **dict(setting.split("=", 1) for setting in TUNE)}
    monkeypatch.setattr(
        "gpt2lab.cli.sweeping.experiment_params", lambda overrides: params if "+experiment=x" in overrides else {}
    )
    monkeypatch.setattr("gpt2lab.cli.sweeping.compose_jobs", lambda plan, sweep: {})
    folder = tmp_path / "runs/sweeps/x"
    plant(folder, "seed=2", "fail")
    assert sweep("+experiment=x") == 1
    best = json.loads((folder / "sweep.json").read_text())["tuning"]["all"]["best"]
    params |= {"seed": "1,2,3", "sweep.tune_values": "[1e-3,2e-3,4e-3]"}
    assert sweep("sweep.name=x") == 0
    (start,) = read_lines(folder / "seed=2" / "starts.jsonl")
    assert {"+experiment=x", "seed=2", f"optimizer.lr={best:g}"} <= set(start["arguments"])
    assert [job["name"] for job in json.loads((folder / "sweep.json").read_text())["jobs"]][-2:] == ["seed=1", "seed=2"]


def test_tuning_that_has_not_begun_may_be_changed(sweep, tmp_path, statuses):
    assert sweep("seed=1,2", "sweep.name=t", *TUNE) == 0
    file = tmp_path / "runs/sweeps/t/sweep.json"
    record = json.loads(file.read_text())
    for job in record["jobs"]:
        job |= {"attempts": 0, "status": "pending"}
    file.write_text(json.dumps(record))
    assert sweep("seed=1,2", "sweep.name=t", *TUNE, "sweep.tune_values=[1e-3,2e-3,4e-3]") == 0
    assert len(statuses(file.parent)) == 3 + 2
