"""Every mistake is one clear line and exit status 2, before anything is written."""

import runpy
import socket
import sys

import pytest

from tests.hugging_face import change_settings, gpt2
from tests.integration.conftest import ROOT, TINY


@pytest.fixture
def fail(workplace, monkeypatch, capsys):
    """Run a command in this process; it must end with status 2, one line, and no new file. Returns the line."""

    def call(script, *overrides):
        monkeypatch.chdir(workplace)
        monkeypatch.setattr(sys, "argv", [script, *overrides])
        before = {path: path.stat().st_mtime_ns for path in workplace.rglob("*") if path.is_file()}
        with pytest.raises(SystemExit) as exit_info:
            runpy.run_path(str(ROOT / script), run_name="__main__")
        assert exit_info.value.code == 2
        assert {path: path.stat().st_mtime_ns for path in workplace.rglob("*") if path.is_file()} == before
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        assert lines[0].startswith("error: ")
        return lines[0]

    return call


@pytest.mark.parametrize(
    ("overrides", "fragments"),
    [
        (["training.max_step=5"], ["training.max_step", "unknown key", "training.max_steps"]),
        (["training.max_steps=many"], ["training.max_steps=many", "expected a whole number"]),
        (["model.positions=rope"], ["model.positions=rope", "slash", "model/positions=rope"]),
        (["model/positions=relative"], ["relative", "alibi, learned, none, rope, sinusoidal"]),
        (["model=gpt3"], ["gpt3", "gpt2_medium"]),
        (["model.n_embd=30", "model.n_head=4"], ["model.n_embd=30", "model.n_head=4", "2 or 3 or 5"]),
        (["training.sequence_length=128"], ["training.sequence_length=128", "model.block_size=64"]),
        (["training.batch_tokens=1000"], ["training.batch_tokens=1000", "960"]),
        (["training.micro_batch_size=5"], ["training.batch_tokens=1024", "5 x 64 = 320", "960 or 1280"]),
        (["training.max_tokens=100"], ["exactly one", "training.max_steps=null"]),
        (["runtime.device=cuda:99"], ["runtime.device=cuda:99", "cpu"]),
        (["runtime.device=tpu"], ["runtime.device=tpu", "expected"]),
        (["data.files=[missing.txt]"], ["missing.txt"]),
        (["data.files=[]"], ["data.files"]),
        (["data.files=[empty.txt]"], ["empty.txt"]),
        (["data.files=[latin.txt]"], ["latin.txt", "byte 3"]),
        (["schedule.warmup_steps=5", "training.max_steps=5"], ["schedule.warmup_steps=5"]),
        (["init_from=nowhere"], ["init_from=nowhere"]),
        (["resume=nowhere"], ["resume=nowhere"]),
        (["model/positions=rope", "model.n_embd=18", "model.n_head=2"], ["1.0 x 9 = 9", "model.n_head"]),
    ],
)  # fmt: skip
def test_train(fail, workplace, overrides, fragments):
    (workplace / "empty.txt").write_text("")
    (workplace / "latin.txt").write_bytes(b"caf\xe9")
    if "max_steps" not in "".join(overrides):
        overrides = [*overrides, "training.max_steps=3"]
    line = fail("train.py", *TINY, *overrides)
    assert all(fragment in line for fragment in fragments), line


def test_changed_shard(fail, trained, workplace):
    shard = next((workplace / "data" / "library" / "bytes").glob("train_*0.npy"))
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    for command in (("train.py", *TINY), ("eval.py",), ("prepare.py", *TINY[:4], "verify=true")):
        line = fail(*command)
        assert shard.name in line
        assert "prepare.overwrite=true" in line


def test_checkpoint_of_another_architecture(fail, trained):
    for command in (["init_from=runs/trained"], ["resume=runs/trained"]):
        line = fail("train.py", *TINY, *command, "model/norm=rmsnorm", "model.n_embd=64")
        assert "model.n_embd=64 (the checkpoint has 32)" in line
        assert "rmsnorm" in line


def test_what_cannot_change_on_a_resume(fail, trained):
    for override, was in (("seed=7", "was 1337"), ("training.batch_tokens=2048", "was 1024")):
        line = fail("train.py", *TINY, override, "resume=runs/trained", "training.max_steps=4")
        assert override in line
        assert was in line


def test_a_validation_split_that_is_not_the_trained_one(fail, trained, run):
    run("prepare.py", *TINY[:4], "data.val_fraction=0.2", "prepare.overwrite=true")
    line = fail("eval.py", "checkpoint=runs/trained")
    assert "may hold training text" in line
    assert "eval.text_file=" in line


def test_a_folder_that_cannot_be_made(fail, workplace):
    (workplace / "file").write_text("")
    line = fail("train.py", *TINY, "training.max_steps=2", "data.root=file/data")
    assert "file/data" in line
    assert "Not a directory" in line


def test_run_folder_in_use(fail, trained):
    assert "resume=auto" in fail("train.py", *TINY, "run_dir=runs/trained", "training.max_steps=2")


def test_source_changed_since_it_was_prepared(fail, trained, workplace):
    (workplace / "typing.py").write_text("another text\n" * 100)
    line = fail("train.py", *TINY, "training.max_steps=2")
    assert "typing.py" in line
    assert "prepare.overwrite=true" in line


def test_damaged_checkpoint(fail, trained, workplace):
    weights = workplace / "runs" / "trained" / "checkpoints" / "step_00000002" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    for command in (("sample.py", "checkpoint=runs/trained"), ("eval.py", "checkpoint=runs/trained")):
        assert "model.safetensors" in fail(*command)
    assert "model.safetensors" in fail("train.py", *TINY, "resume=runs/trained")


@pytest.mark.parametrize(
    ("overrides", "fragment"),
    [
        (["sampling.temperature=-0.5"], "sampling.temperature=-0.5"),
        (["sampling.top_p=1.5"], "sampling.top_p=1.5"),
        (["sampling.top_k=0"], "sampling.top_k=0"),
        (["sampling.max_new_tokens=0"], "sampling.max_new_tokens=0"),
        (["checkpoint=nowhere"], "nowhere"),
        (["checkpoint=data"], "checkpoint.json"),
    ],
)
def test_sample(fail, trained, overrides, fragment):
    assert fragment in fail("sample.py", *overrides)


@pytest.mark.parametrize(
    ("overrides", "fragment"),
    [
        (["eval.text_file=nowhere.txt"], "nowhere.txt"),
        (["eval.text_file=empty.txt"], "empty.txt"),
        (["eval.stride=65"], "eval.stride=65"),
        (["eval.stride=0"], "eval.stride=0"),
    ],
)
def test_eval(fail, trained, workplace, overrides, fragment):
    (workplace / "empty.txt").write_text("\n")
    assert fragment in fail("eval.py", *overrides)


def test_nothing_to_evaluate(fail):
    assert "train.py first" in fail("eval.py")


def test_prepare_twice(fail, trained):
    assert "prepare.overwrite=true" in fail("prepare.py", *TINY[:4])


def test_a_hugging_face_directory_that_does_not_fit(fail, workplace):
    gpt2(vocab_size=50_257).save_pretrained(workplace / "gpt2ish")
    line = fail("eval.py", "checkpoint=gpt2ish")
    assert "gpt2ish has no validation split" in line
    assert "eval.text_file=FILE" in line
    line = fail("train.py", *TINY, "tokenizer=gpt2", "training.max_steps=1", "init_from=gpt2ish")
    assert "model.block_size=64 (the checkpoint has 12)" in line
    assert "model.n_embd=32 (the checkpoint has 16)" in line
    for command in ("eval.py", "sample.py"):
        change_settings(workplace / "gpt2ish", vocab_size=50_258)
        assert "there is no tokenizer for its 50258 token ids" in fail(command, "checkpoint=gpt2ish")
        change_settings(workplace / "gpt2ish", vocab_size=50_257, n_layer=3)
        assert "model.safetensors: tensor transformer.h.2." in fail(command, "checkpoint=gpt2ish")


def test_a_name_without_network(fail, monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    for command in (["sample.py"], ["eval.py"], ["export.py", "out=exported"]):
        line = fail(*command, "checkpoint=nobody/no-such-model@v1")
        assert "put config.json and model.safetensors of nobody/no-such-model into a folder" in line
        assert line.endswith("checkpoint=FOLDER; there is no folder nobody/no-such-model@v1 either")
    line = fail("train.py", *TINY, "training.max_steps=1", "init_from=nobody/no-such-model")
    assert line.endswith("init_from=FOLDER; there is no folder nobody/no-such-model either")


def test_export(fail, trained, workplace):
    assert "out=exports/NAME" in fail("export.py", "checkpoint=runs/trained")
    assert "out=runs: already exists" in fail("export.py", "checkpoint=runs/trained", "out=runs")
    assert "checkpoint=nowhere" in fail("export.py", "checkpoint=nowhere", "out=exported")
