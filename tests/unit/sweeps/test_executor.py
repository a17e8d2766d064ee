"""A sweep at work: what runs, what is skipped, what is recorded, and how it stops and continues."""

import json
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
import yaml

from gpt2lab.cli import sweeping
from gpt2lab.cli.compose import compose_config
from gpt2lab.cli.rerun import job_from_record
from gpt2lab.config import UserError, to_dict
from gpt2lab.data import open_or_prepare
from gpt2lab.locks import try_lock
from gpt2lab.runs import read_lines
from gpt2lab.sweeps.record import open_folder
from gpt2lab.tokenizers import load_tokenizer
from tests.unit.sweeps.conftest import wait_for_first_step

SIX = ["model/positions=learned,rope,none", "seed=0,1", "sweep.name=six"]
FOUR = ["model/positions=learned,rope", "seed=0,1"]


def losses(folder):
    return {path.parent.name: json.loads(path.read_text())["val_loss"] for path in folder.glob("*/summary.json")}


def test_sweep_survives_a_failure_and_a_kill_and_a_rerun_does_these_two_alone(sweep, tmp_path, statuses, capsys):
    folder = tmp_path / "runs" / "sweeps" / "six"
    for name, planted in (("positions=rope,seed=0", "fail"), ("positions=none,seed=1", "kill")):
        (folder / name).mkdir(parents=True)
        (folder / name / planted).touch()
    assert sweep(*SIX) == 1
    assert sorted(statuses(folder).values()) == ["completed"] * 4 + ["failed"] * 2
    shown = capsys.readouterr().out
    assert "failed: positions=rope,seed=0: exit status 2: planted" in shown
    assert "failed: positions=none,seed=1: killed by SIGKILL" in shown

    assert sweep(*SIX) == 0
    assert set(statuses(folder).values()) == {"completed"}
    starts = {path.parent.name: read_lines(path) for path in folder.glob("*/starts.jsonl")}
    assert all(len(lines) == 1 for lines in starts.values())
    resumed = {name for name, (start,) in starts.items() if start["step"] == 2}
    assert resumed == {"positions=rope,seed=0", "positions=none,seed=1"}
    assert len(set(losses(folder).values())) == 1
    attempts = {job["name"]: job["attempts"] for job in json.loads((folder / "sweep.json").read_text())["jobs"]}
    assert sorted(attempts.values()) == [1, 1, 1, 1, 2, 2]


def test_error_of_a_failed_job_is_that_of_its_last_attempt(sweep, tmp_path):
    folder = tmp_path / "runs" / "sweeps" / "s" / "seed=0"
    folder.mkdir(parents=True)
    for planted, expected in (("fail", "exit status 2: planted"), ("crash", "exit status 1: ValueError: crashed")):
        (folder / planted).touch()
        (folder / "state.json").unlink(missing_ok=True)
        assert sweep("seed=0,1", "sweep.name=s") == 1
        (job, _) = json.loads((folder.parent / "sweep.json").read_text())["jobs"]
        assert job["error"] == expected
    assert "planted" in (folder / "console.txt").read_text()


def test_job_waits_for_its_earlier_process(sweep, tmp_path, caplog, monkeypatch):
    """Another job runs first; one whose folder stays taken is started in the end, to say itself what is wrong."""
    caplog.set_level("INFO")
    folder = tmp_path / "runs" / "sweeps" / "s"
    (folder / "seed=0").mkdir(parents=True)
    descriptor = try_lock(folder / "seed=0")

    def free_after_the_other_job():
        while not (folder / "seed=1" / "starts.jsonl").exists():
            time.sleep(0.05)
        os.close(descriptor)

    threading.Thread(target=free_after_the_other_job, daemon=True).start()
    assert sweep("seed=0,1", "sweep.name=s") == 0
    released = time.time()
    (first,), (second,) = (read_lines(folder / f"seed={seed}" / "starts.jsonl") for seed in (0, 1))
    assert second["ended"] <= first["began"] <= released
    assert "seed=0: waiting for its earlier process" in caplog.text

    monkeypatch.setattr("gpt2lab.sweeps.executor.WAIT_SECONDS", 0.1)
    (folder / "seed=2").mkdir()
    descriptor = try_lock(folder / "seed=2")
    assert sweep("seed=2,3", "sweep.name=s") == 0  # the fake job takes no lock
    os.close(descriptor)


def test_sweep_under_nohup_is_not_stopped_by_a_lost_terminal(start_sweep, tmp_path, statuses, monkeypatch):
    monkeypatch.setenv("FAKE_SECONDS", "0.1")
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # children inherit it, as from nohup
    try:
        process = start_sweep("seed=0,1", "sweep.name=s")
    finally:
        signal.signal(signal.SIGHUP, before)
    folder = tmp_path / "runs" / "sweeps" / "s"
    wait_for_first_step(process, folder / "seed=0")
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=60) == 0
    assert set(statuses(folder).values()) == {"completed"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_stops_the_sweep_and_the_printed_command_continues_it(
    start_sweep, tmp_path, statuses, monkeypatch, number
):
    monkeypatch.setenv("FAKE_SECONDS", "0.3")  # time enough for the signal to come in the midst of a job
    process = start_sweep(*FOUR, "sweep.name=cut")
    folder = tmp_path / "runs" / "sweeps" / "cut"
    second = folder / "positions=rope,seed=0" / "metrics.jsonl"
    while not second.exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    shown, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert list(statuses(folder).values()) == ["completed", "stopped", "pending", "pending"]
    assert not (folder / "positions=learned,seed=1").exists()

    monkeypatch.setenv("FAKE_SECONDS", "0.01")
    (typed,) = re.findall(r"to continue, type: (.*)", shown)
    program, *arguments = shlex.split(typed)
    assert program == "python"
    subprocess.run([sys.executable, *arguments, "sweep.report=false"], cwd=tmp_path, check=True, capture_output=True)
    assert set(statuses(folder).values()) == {"completed"}
    straight = start_sweep(*FOUR, "sweep.name=straight")
    assert straight.wait(timeout=60) == 0
    assert losses(folder) == losses(folder.with_name("straight"))
    assert len(losses(folder)) == 4


def test_sweep_of_the_same_name_adds_seeds_and_cells(sweep, tmp_path, statuses):
    folder = tmp_path / "runs" / "sweeps" / "grown"
    assert sweep("seed=0,1", "model/positions=learned,rope", "sweep.name=grown") == 0
    assert sweep("seed=1,2", "model/positions=rope,none", "sweep.name=grown") == 0
    assert set(statuses(folder)) == {
        "positions=learned,seed=0", "positions=learned,seed=1", "positions=rope,seed=0", "positions=rope,seed=1",
        "positions=rope,seed=2", "positions=none,seed=1", "positions=none,seed=2",
    }  # fmt: skip
    record = json.loads((folder / "sweep.json").read_text())
    assert record["axes"] == {"model/positions": ["learned", "rope", "none"], "seed": ["0", "1", "2"]}
    assert record["seeds"] == ["0", "1", "2"]
    assert all(len(read_lines(path)) == 1 for path in folder.glob("*/starts.jsonl"))


def test_sweep_of_the_same_name_with_axes_in_another_order_runs_nothing_again(sweep, tmp_path, statuses):
    folder = tmp_path / "runs" / "sweeps" / "s"
    axes = ["model/positions=learned,rope", "model/norm=layernorm,rmsnorm", "seed=0"]
    assert sweep(*axes, "sweep.name=s") == 0
    before = statuses(folder)
    assert sweep(*axes[::-1], "sweep.name=s") == 0
    assert statuses(folder) == before
    assert len(before) == 4
    assert all(len(read_lines(path)) == 1 for path in folder.glob("*/starts.jsonl"))


def test_sweep_of_the_same_name_refuses_another_job_of_the_same_name(sweep, tmp_path):
    assert sweep("data.root=old/a,b", "seed=0", "sweep.name=s") == 0
    before = (tmp_path / "runs/sweeps/s/sweep.json").read_bytes()
    with pytest.raises(UserError) as error:
        sweep("data.root=old_a,b", "seed=0", "sweep.name=s")
    assert "its job root=old_a has data.root=old/a, this command data.root=old_a" in str(error.value)
    assert "\n" not in str(error.value)
    assert (tmp_path / "runs/sweeps/s/sweep.json").read_bytes() == before


def test_sweep_of_the_same_name_refuses_other_common_settings_and_axes(sweep, tmp_path, statuses):
    assert sweep("seed=0,1", "sweep.name=s") == 0
    before = (tmp_path / "runs/sweeps/s/sweep.json").read_bytes()
    with pytest.raises(UserError, match=r"sweep.name=s: .*with training.max_steps=9"):
        sweep("seed=0,1", "training.max_steps=9", "sweep.name=s")
    with pytest.raises(UserError, match=r"seed=2: sweep.name=s varies it; .* try seed=0,1,2"):
        sweep("seed=2", "model/norm=layernorm,rmsnorm", "sweep.name=s")
    with pytest.raises(UserError, match=r"sweep.name=s: it varies seed"):
        sweep("seed=0,1", "model/norm=layernorm,rmsnorm", "sweep.name=s")
    assert (tmp_path / "runs/sweeps/s/sweep.json").read_bytes() == before


def test_sweep_of_the_same_name_takes_other_loggers_records_and_folders(sweep, tmp_path, statuses):
    """What decides no result may change, as the report compares such runs; ``from`` brings every setting."""
    assert sweep("seed=0,1", "samples.every=1", "sweep.name=s") == 0
    before = (tmp_path / "runs/sweeps/s/sweep.json").read_bytes()
    for other in ("runtime.precision=bf16", "data.name=other"):
        with pytest.raises(UserError, match=rf"common settings \(with {other}\)"):
            sweep("seed=0,1", other, "logger=wandb", "sweep.name=s")
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(yaml.safe_dump(to_dict(compose_config("train", []))))
    with pytest.raises(UserError, match=r"common settings \(with from=run\)"):
        sweep("seed=0,1", "from=run", "sweep.name=s")
    assert (tmp_path / "runs/sweeps/s/sweep.json").read_bytes() == before
    free = ["logger=wandb", "training.log_every=1", "training.keep_checkpoints=1", f"data.root={tmp_path}"]
    assert sweep("seed=0,1,2", *free, "sweep.name=s") == 0
    assert len(statuses(tmp_path / "runs/sweeps/s")) == 3
    assert json.loads((tmp_path / "runs/sweeps/s/sweep.json").read_text())["common"] == free
    (start,) = read_lines(tmp_path / "runs/sweeps/s/seed=2/starts.jsonl")
    assert "logger=wandb" in start["arguments"]


def test_sweep_named_alone_continues_all_of_its_starts(sweep, tmp_path, statuses, caplog, capsys):
    caplog.set_level("INFO")
    folder = tmp_path / "runs/sweeps/s"
    (folder / "positions=learned").mkdir(parents=True)
    (folder / "positions=learned/fail").touch()
    assert sweep("model/positions=learned,rope", "seed=0", "model.n_layer=2", "sweep.name=s") == 1
    typed = json.loads((folder / "sweep.json").read_text())["command"]
    assert sweep("model/positions=rope,none", "seed=0", "model.n_layer=2", "sweep.parallel=2", "sweep.name=s") == 0
    assert list(statuses(folder).values()) == ["failed", "completed", "completed"]

    (folder / "positions=learned/kill").touch()
    (folder / "positions=learned/state.json").unlink()
    assert sweep("sweep.name=s", "sweep.parallel=3") == 1
    assert (
        "to continue, type: python train.py -m sweep.report=false sweep.name=s sweep.parallel=3"
        in capsys.readouterr().out
    )
    assert sweep("sweep.name=s", "logger=wandb") == 0
    assert (
        "continuing runs/sweeps/s (model/positions=learned,rope,none): 3 jobs, 2 completed, 0 left, "
        "1 failed and to be run again"
    ) in caplog.text
    assert set(statuses(folder).values()) == {"completed"}
    starts = {path.parent.name: read_lines(path) for path in folder.glob("*/starts.jsonl")}
    assert [len(lines) for lines in starts.values()] == [1, 1, 1]
    (start,) = starts["positions=learned"]
    assert start["step"] == 2
    assert {"model.n_layer=2", "model/positions=learned", "seed=0", "logger=wandb"} <= set(start["arguments"])
    record = json.loads((folder / "sweep.json").read_text())
    assert record["common"] == ["seed=0", "model.n_layer=2", "logger=wandb"]
    last = ["sweep.report=false", "sweep.parallel=3", "logger=wandb", "sweep.name=s"]
    assert sorted(record["command"]) == sorted(
        [*typed[:3], "model/positions=rope,none", "seed=0", "model.n_layer=2", *last]
    )


def test_sweep_named_alone_keeps_its_settings_and_needs_a_record(sweep, tmp_path, statuses):
    assert sweep("seed=0,1", "sweep.name=study") == 0
    before = (tmp_path / "runs/sweeps/study/sweep.json").read_bytes()
    for arguments, message in (
        (["sweep.name=studdy"], "has no sweep of this name to continue; did you mean study"),
        (["sweep.name=study", "training.max_steps=9"], "common settings (with training.max_steps=9)"),
        (["sweep.name=study", "seed=2"], "seed=2: .*type the whole command: python train.py -m .*seed=0,1"),
        (["sweep.name=study", "sweep.tune=optimizer.lr"], "sweep.tune=optimizer.lr: .*its own axes and tuning"),
        (["sweep.name=study", "run_dir=x"], "run_dir: a sweep sets it"),
        (["sweep.name=study", "n_layer"], "n_layer"),
        ([], "-m: nothing varies; .*or continue a sweep with sweep.name=NAME"),
    ):
        with pytest.raises(UserError, match=message.replace("(", r"\(").replace(")", r"\)")):
            sweep(*arguments)
    assert (tmp_path / "runs/sweeps/study/sweep.json").read_bytes() == before
    assert [path.name for path in (tmp_path / "runs/sweeps").iterdir()] == ["study"]


def test_mistake_in_one_cell_is_found_before_anything_is_written(sweep, tmp_path):
    with pytest.raises(UserError, match=r"n_head=5,seed=0: .*model\.n_head=5"):
        sweep("model.n_head=2,5", "seed=0,1")
    with pytest.raises(UserError, match=r"sweep\.parralel: unknown key.*parallel"):
        sweep("seed=0,1", "sweep.parralel=2")
    with pytest.raises(UserError, match=r"sweep\.parallel=many"):
        sweep("seed=0,1", "sweep.parallel=many")
    assert not list(tmp_path.iterdir())


def test_two_sweeps_of_the_same_second_have_their_own_folders(tmp_path, monkeypatch):
    monkeypatch.setattr("time.strftime", lambda form: "2026-01-01_000000")
    folders = [open_folder(tmp_path, None) for _ in range(3)]
    assert [folder.name for folder in folders] == [f"2026-01-01_000000{end}" for end in ("", "_2", "_3")]


def test_two_processes_do_not_run_the_same_sweep(start_sweep, tmp_path):
    first = start_sweep("seed=0,1", "sweep.name=s")
    while not list(tmp_path.glob("runs/sweeps/s/*/metrics.jsonl")):
        assert first.poll() is None
        time.sleep(0.01)
    first.send_signal(signal.SIGSTOP)
    second = start_sweep("seed=0,1", "sweep.name=s")
    shown, _ = second.communicate(timeout=60)
    first.send_signal(signal.SIGCONT)
    assert "another process runs this sweep" in shown
    assert second.returncode == 1
    assert first.wait(timeout=60) == 0


def test_dry_run_lists_jobs_tokens_and_time_and_writes_nothing(sweep, tmp_path, capsys):
    settings = ["seed=0,1", "training.max_steps=10", "training.batch_tokens=1024", "model.block_size=64"]
    assert sweep(*settings, "sweep.dry_run=true") == 0
    shown = capsys.readouterr().out
    assert re.search(r"seed=1 +pending +10 +10,240 +\?", shown)
    assert "2 jobs, 20,480 tokens" in shown
    assert "train one job first" in shown
    assert not list(tmp_path.iterdir())


def test_dry_run_of_a_sweep_that_has_begun_counts_what_is_left_and_refuses_what_the_sweep_would(
    sweep, tmp_path, capsys, monkeypatch
):
    """1,024 tokens a minute: the summaries of the fake jobs have none, so a run of such a model is planted."""
    settings = ["training.max_steps=10", "training.batch_tokens=1024", "model.block_size=64"]
    assert sweep("seed=0,1", *settings, "sweep.name=s") == 0
    run = tmp_path / "runs" / "one"
    run.mkdir()
    (run / "config.yaml").write_text(yaml.safe_dump(to_dict(compose_config("train", settings))))
    (run / "summary.json").write_text(json.dumps({"status": "completed", "tokens": 10_240, "wall_seconds": 600.0}))
    capsys.readouterr()

    def shown(*arguments):
        assert sweep(*settings, *arguments, "sweep.name=s", "sweep.dry_run=true") == 0
        return capsys.readouterr().out

    shutil.rmtree(tmp_path / "runs/sweeps/s/seed=0")
    assert re.search(r"seed=0 +pending .*\nseed=1 +completed ", shown("seed=0,1"))
    page = shown("seed=1,2,3", "sweep.parallel=2")
    assert re.search(r"seed=1 +completed +10 +10,240 +10.0\n", page)
    assert re.search(r"seed=3 +pending +10 +10,240 +10.0\n", page)
    assert "3 jobs, 1 completed, 20,480 tokens left\ntime: about 10 minutes with sweep.parallel=2" in page
    assert sweep("seed=0,1", *settings, "sweep.name=s") == 0
    before = (tmp_path / "runs/sweeps/s/sweep.json").read_bytes()
    assert (tmp_path / "runs/sweeps/s/seed=0/summary.json").exists()
    capsys.readouterr()
    assert shown("seed=0,1").endswith("2 jobs, 2 completed, 0 tokens left\n")
    assert "about 1 minute with" in shown("seed=1,2", "sweep.parallel=10")
    assert "less than a minute with" in shown("seed=1,2", "sweep.parallel=30")
    assert "about 1.7 hours with" in shown("seed=range(2,12)")
    with pytest.raises(UserError, match=r"common settings \(with model.n_layer=1\)"):
        shown("seed=1,2", "model.n_layer=1")
    with pytest.raises(UserError, match="it varies seed, this command model/norm, seed"):
        shown("seed=1,2", "model/norm=layernorm,rmsnorm")
    assert (tmp_path / "runs/sweeps/s/sweep.json").read_bytes() == before


def test_dry_run_counts_the_steps_of_epochs_from_the_prepared_dataset(sweep, tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(f"paragraph {i} " * 40 for i in range(200)))
    settings = [
        "seed=0,1", "training.max_steps=null", "training.max_epochs=3", "training.batch_tokens=1024",
        "model.block_size=64", "data=text_files", f"data.files=[{text}]", "data.name=t", f"data.root={tmp_path}",
        "tokenizer=bytes",
    ]  # fmt: skip
    assert sweep(*settings, "sweep.dry_run=true") == 0
    shown = capsys.readouterr().out
    assert re.search(r"seed=1 +pending +\? +\? +\?", shown)
    assert "an epoch of t is not counted yet" in shown
    job = compose_config("train", [argument for argument in settings if not argument.startswith("seed")])
    _, manifest = open_or_prepare(job.data, load_tokenizer("bytes"))
    steps = math.ceil(3 * ((manifest.splits["train"].tokens - 1) // 64 * 64) / 1024)
    assert sweep(*settings, "sweep.dry_run=true") == 0
    assert re.search(rf"seed=1 +pending +{steps} +{steps * 1024:,} +\?", capsys.readouterr().out)


def test_sweep_starts_from_the_record_of_a_run(sweep, tmp_path):
    job = compose_config("train", ["model.n_layer=2", "training.max_steps=30"])
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(to_dict(job)))
    assert sweep("from=run", "model/norm=layernorm,rmsnorm", "seed=0", "sweep.name=s") == 0
    (start,) = read_lines(tmp_path / "runs/sweeps/s/norm=rmsnorm/starts.jsonl")
    assert "from=run" in start["arguments"]
    composed = job_from_record(start["arguments"])
    assert (composed.model.n_layer, composed.model.norm.name, composed.seed) == (2, "rmsnorm", 0)
    assert composed.run_dir == "runs/sweeps/s/norm=rmsnorm"
    assert (composed.logger.group, composed.logger.tags) == ("s", ["norm=rmsnorm"])


def test_jobs_get_their_directory_group_and_tags(sweep, tmp_path):
    assert sweep("model/norm=layernorm,rmsnorm", "seed=0", "sweep.name=s") == 0
    (start,) = read_lines(tmp_path / "runs/sweeps/s/norm=rmsnorm/starts.jsonl")
    assert "logger.group='s'" in start["arguments"]
    assert "logger.tags=['norm=rmsnorm']" in start["arguments"]
    assert "resume=auto" in start["arguments"]
    assert "run_dir='runs/sweeps/s/norm=rmsnorm'" in start["arguments"]


def test_tags_have_a_length_that_wandb_takes_and_stay_distinct(sweep, tmp_path):
    """W&B refuses a run with a tag of more than 64 characters, and the logger is off for the whole run."""
    roots = [f"{'long/' * 14}{last}" for last in "ab"]
    assert sweep(f"data.root={roots[0]},{roots[1]}", "seed=0", "sweep.name=s") == 0
    tags = set()
    for folder in (tmp_path / "runs/sweeps/s").glob("root=*"):
        (start,) = read_lines(folder / "starts.jsonl")
        tags |= set(compose_config("train", [text for text in start["arguments"] if "tags" in text]).logger.tags)
    assert [len(tag) for tag in tags] == [64, 64]
    assert all(tag.startswith("root=long_long") for tag in tags)


def test_wandb_file_holds_the_grid_and_a_command_that_composes(sweep, tmp_path, capsys):
    assert sweep("model/norm=layernorm,rmsnorm", "seed=0,1", "model.n_layer=2", "sweep.wandb_file=w.yaml") == 0
    file = yaml.safe_load((tmp_path / "w.yaml").read_text())
    assert file["method"] == "grid"
    assert file["parameters"] == {"model/norm": {"values": ["layernorm", "rmsnorm"]}, "seed": {"values": [0, 1]}}
    expected = ["${env}", "python", "train.py", "logger=wandb", "model.n_layer=2", "${args_no_hyphens}"]
    assert file["command"] == expected
    assert "wandb sweep w.yaml" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()
    with pytest.raises(UserError, match=r"sweep\.wandb_file=w\.yaml: already exists"):
        sweep("seed=0,1", "sweep.wandb_file=w.yaml")


def test_wandb_file_keeps_values_as_they_are_typed(sweep, tmp_path):
    """W&B writes YAML's null as Python's None, which is a text here."""
    axes = ["training.sequence_length=null,32", "optimizer.lr=0.001,2e-3", "model.bias=true,false"]
    assert sweep(*axes, "seed=0", "sweep.wandb_file=w.yaml") == 0
    parameters = yaml.safe_load((tmp_path / "w.yaml").read_text())["parameters"]
    assert parameters["training.sequence_length"]["values"] == ["null", 32]
    assert parameters["optimizer.lr"]["values"] == [0.001, 0.002]
    assert parameters["model.bias"]["values"] == [True, False]


def test_sweep_writes_its_report_at_the_end_and_survives_one_that_cannot_be_written(
    sweep, tmp_path, monkeypatch, caplog
):
    reported = []

    class Reporting:
        @staticmethod
        def report_sweep(folder):
            reported.append(folder.name)
            raise UserError("one seed per condition")

    monkeypatch.setitem(sys.modules, "gpt2lab.commands.reporting", Reporting)
    assert sweep("seed=0,1", "sweep.name=a", "sweep.report=true") == 0
    assert "no report: one seed per condition" in caplog.text
    assert sweep("seed=0,1", "sweep.name=b") == 0
    assert reported == ["a"]


def test_settings_of_an_experiment_reach_the_sweep(sweep, tmp_path, monkeypatch, capsys):
    params = {"seed": "3,4", "sweep.name": "study", "sweep.parallel": "2", "model/norm": "layernorm,rmsnorm"}
    monkeypatch.setattr(sweeping, "experiment_params", lambda overrides: params)
    assert sweep("model/norm=rmsnorm", "sweep.parallel=1") == 0
    jobs = json.loads((tmp_path / "runs/sweeps/study/sweep.json").read_text())["jobs"]
    assert [job["name"] for job in jobs] == ["seed=3", "seed=4"]
