"""gpt2lab.training.loggers: what W&B and TensorBoard have on disk, read back without gpt2lab."""

import base64
import contextlib
import json
import logging
import struct
import time
from pathlib import Path

import pytest
from google.protobuf.message import DecodeError
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto.wandb_internal_pb2 import Record

from gpt2lab.config import LoggerConfig
from gpt2lab.training.loggers import LOGGERS, Guarded, Logger, RunIdentity, log_evaluation
from gpt2lab.training.loggers.weights_and_biases import wandb_mode
from gpt2lab.training.metrics import MetricsLog

IDENTITY_CONFIG = {"model": {"n_layer": 2}, "seed": 3}


@pytest.fixture(autouse=True)
def no_key(monkeypatch, tmp_path):
    """No W&B account, whatever the machine has."""
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "home" / "netrc"))


def open_log(run_dir, name, step):
    run_dir.mkdir(exist_ok=True)
    identity = RunIdentity(
        run_dir, IDENTITY_CONFIG, {"learning_rate": 3e-3}, name="positions=rope,seed=1", group="sweep-7", tags=["rope"]
    )
    metrics = MetricsLog(run_dir, [LOGGERS[name](LoggerConfig(names=[name]), identity)])
    metrics.start(step, "run7")
    return metrics


def resumed_run(run_dir, name):
    """Steps 1 to 5, then a second process that resumes from step 3 to step 7."""
    metrics = open_log(run_dir, name, 0)
    for step in range(1, 6):
        metrics.write(step, 10 * step, loss=10.0 - step)
        metrics.write(step, 10 * step, val_loss=20.0 - step)
        metrics.write_samples(step, [{"prompt": "once", "text": f" upon {step}"}])
    metrics.finish({"status": "failed: KeyboardInterrupt"}, [])
    metrics = open_log(run_dir, name, 3)
    for step in range(4, 8):
        metrics.write(step, 10 * step, loss=10.0 - step)
        metrics.write(step, 10 * step, val_loss=20.0 - step)
        metrics.write_samples(step, [{"prompt": "once", "text": f" again {step}"}])
    plot = run_dir / "loss.png"
    plot.write_bytes(PICTURE)
    summary = {"status": "completed", "steps": 7, "loss": 3.0, "val_loss": 2.5, "best_val_loss": 2.25}
    metrics.finish(summary, [plot])


PICTURE = base64.b64decode(
    b"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVQI12P4z8AAAAMBAQAY3Y2wAAAAAElFTkSuQmCC"
)
"""a PNG of one pixel"""

SAMPLES = [(step, f" {'upon' if step < 4 else 'again'} {step}") for step in range(1, 8)]
"""what the resumed run drew, each step once"""


def wandb_records(path):
    """The records of a .wandb file: LevelDB's log format, in blocks of 32 KiB, after a header of 7 bytes."""
    data, at, parts = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        room = 32768 - at % 32768
        if room < 7:
            at += room
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(parts)
            parts = b""


def finished_wandb_records(run_dir, folder="offline-run-*"):
    """The records of a run's .wandb file in ``folder``, once W&B's process has written all of it."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        (path,) = (run_dir / "wandb").glob(f"{folder}/*.wandb")
        with contextlib.suppress(DecodeError, struct.error):  # a record that is being written
            records = list(wandb_records(path))
            if any(record.HasField("exit") for record in records):
                return records
        time.sleep(0.05)
    raise TimeoutError(f"{path} has no end")


def items(updates):
    """Keys (nested ones with dots) and decoded values."""
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in updates}


def check_wandb(run_dir):
    """What the dashboard of ``resumed_run`` must show."""
    records = finished_wandb_records(run_dir)
    history = [items(record.history.item) for record in records if record.HasField("history")]
    for name, start in (("train/loss", 10.0), ("val/loss", 20.0)):
        lines = [(line["step"], line["tokens"], line[name]) for line in history if name in line]
        assert lines == [(step, 10 * step, start - step) for step in range(1, 8)], name
    assert [line["step"] for line in history if "samples.path" in line] == list(range(1, 8))
    assert [line["step"] for line in history] == sorted(line["step"] for line in history)
    assert [line["plots/loss._type"] for line in history if "plots/loss.path" in line] == ["image-file"]
    run = next(record.run for record in records if record.HasField("run"))
    assert (run.run_id, run.display_name) == ("run7", "positions=rope,seed=1")
    assert (run.project, run.run_group, list(run.tags)) == ("gpt2lab", "sweep-7", ["rope"])
    config = items(run.config.update)
    assert IDENTITY_CONFIG.items() <= config.items()
    assert config["resolved"] == {"learning_rate": 3e-3}
    summary = {}
    for record in records:
        summary |= items(record.summary.update)
    assert (summary["status"], summary["loss"], summary["val_loss"]) == ("completed", 3.0, 2.5)
    assert summary["best_val_loss"] == 2.25
    tables = {line["all_samples.path"] for line in history if "all_samples.path" in line}
    (table,) = (path for name in tables for path in (run_dir / "wandb").glob(f"offline-run-*/files/{name}"))
    assert json.loads(table.read_text())["data"] == [[step, "once", text] for step, text in SAMPLES]
    assert next(record.exit.exit_code for record in records if record.HasField("exit")) == 0


def test_wandb_has_each_step_once_after_a_resume(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    resumed_run(tmp_path / "run", "wandb")
    assert "W&B is offline" in caplog.text
    check_wandb(tmp_path / "run")


@pytest.mark.parametrize(("given", "mode"), [("", "offline"), ("dryrun", "offline"), ("run", "online")])
def test_wandb_mode_has_its_present_name(monkeypatch, given, mode):
    """What is done for an offline run depends on it."""
    monkeypatch.setenv("WANDB_MODE", given)
    assert wandb_mode() == mode


def write_run_files(run_dir, name):
    (run_dir / "config.yaml").write_text(f"logger:\n  names: [{name}]\n  project: gpt2lab\n")
    (run_dir / "summary.json").write_text(json.dumps({"run_id": "run7", "steps": 7}))


def test_wandb_evaluation_is_in_the_run_of_the_training(tmp_path):
    run_dir = tmp_path / "run"
    open_log(run_dir, "wandb", 0).finish({"status": "completed", "steps": 7}, [])
    finished_wandb_records(run_dir)
    before = set((run_dir / "wandb").glob("offline-run-*"))
    write_run_files(run_dir, "wandb")
    time.sleep(1)  # W&B names folders by the second
    log_evaluation(run_dir, {"bits_per_byte": 1.25})
    (added,) = set((run_dir / "wandb").glob("offline-run-*")) - before
    records = finished_wandb_records(run_dir, added.name)
    assert next(record.run for record in records if record.HasField("run")).run_id == "run7"
    summary = {}
    for record in records:
        summary |= items(record.summary.update)
    assert summary["eval/bits_per_byte"] == 1.25
    time.sleep(1)
    open_log(run_dir, "wandb", 7).finish({"status": "completed", "steps": 8}, [])  # resumed
    folders = set((run_dir / "wandb").glob("offline-run-*"))
    assert added in folders
    assert not before & folders


def test_evaluation_of_earlier_weights_is_not_in_the_summary_of_wandb(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    write_run_files(run_dir, "wandb")
    log_evaluation(run_dir, {"bits_per_byte": 1.25}, step=4)
    assert "these weights are of step 4 of 7" in caplog.text
    assert not (run_dir / "wandb").exists()


def test_log_evaluation_leaves_other_folders_alone(tmp_path, caplog):
    log_evaluation(tmp_path, {"bits_per_byte": 1.25})
    write_run_files(tmp_path, "")
    log_evaluation(tmp_path, {"bits_per_byte": 1.25})
    assert {path.name for path in tmp_path.iterdir()} == {"config.yaml", "summary.json"}
    assert not caplog.text


def test_tensorboard_has_each_step_once_after_a_resume(tmp_path):
    run_dir = tmp_path / "run"
    resumed_run(run_dir, "tensorboard")
    write_run_files(run_dir, "tensorboard")
    log_evaluation(run_dir, {"bits_per_byte": 1.25})
    events = EventAccumulator(str(run_dir / "tensorboard")).Reload()
    assert set(events.Tags()["scalars"]) == {"train/loss", "val/loss", "tokens", "eval/bits_per_byte"}
    assert events.Tags()["images"] == ["plots/loss"]
    shown = [(e.step, e.tensor_proto.string_val[0].decode()) for e in events.Tensors("samples/text_summary")]
    assert shown == [(step, f"```\nonce{text}\n```") for step, text in SAMPLES]
    losses = [(e.step, e.value) for e in events.Scalars("train/loss")]
    assert losses == [(step, 10.0 - step) for step in range(1, 8)]
    assert [(e.step, e.value) for e in events.Scalars("eval/bits_per_byte")] == [(7, 1.25)]
    open_log(run_dir, "tensorboard", 3).finish({"status": "stopped", "steps": 3}, [])
    events = EventAccumulator(str(run_dir / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("eval/bits_per_byte")] == [(7, 1.25)]
    assert [e.step for e in events.Scalars("train/loss")] == [1, 2, 3]


class Broken(Logger):
    """Raises at every call."""

    calls = 0

    def _raise(self, *arguments):
        self.calls += 1
        raise ConnectionError("no route\n  to host")

    start = log = log_samples = finish = _raise


def test_a_logger_that_raises_is_dropped_and_the_record_goes_on(tmp_path, caplog):
    broken = Broken(LoggerConfig(), RunIdentity(tmp_path, {}))
    metrics = MetricsLog(tmp_path, [Guarded("wandb", broken)])
    metrics.start(0, "run7")
    metrics.write(1, 10, loss=1.0)
    metrics.write(2, 20, loss=float("nan"))
    metrics.finish({"status": "completed"}, [Path("loss.png")])
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["loss"] for line in lines] == [1.0, None]
    assert broken.calls == 1
    (message,) = caplog.messages
    assert message.startswith("logger wandb failed and is off")
    assert message.endswith(": no route to host")


def test_a_failure_in_the_middle(tmp_path):
    inner = Broken(LoggerConfig(), RunIdentity(tmp_path, {}))
    inner.start = lambda run_id, history, samples: None
    guarded = Guarded("wandb", inner)
    guarded.start("run7", [], [])
    for _ in range(3):
        guarded.log({"step": 1})
    assert inner.calls == 1
