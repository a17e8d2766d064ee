"""gpt2lab.weights: the model that comes out of a checkpoint is the one that was saved."""

import json
import shutil

import huggingface_hub
import pytest
import torch

from gpt2lab.checkpoint import CheckpointManager, newest_run
from gpt2lab.config import TokenizerConfig, TrainingConfig, TrainJob, UserError, to_dict
from gpt2lab.weights import find_checkpoint, load_pretrained, load_weights, open_model


@pytest.fixture
def save_run(tmp_path, tiny_model):
    """A maker of run folders that hold the checkpoint of a model."""

    def make(name, model):
        job = TrainJob(
            model=model.config,
            tokenizer=TokenizerConfig(name="bytes", vocab_size=model.config.vocab_size),
            training=TrainingConfig(max_steps=100, batch_tokens=model.config.block_size),
        )
        folder = tmp_path / name / "checkpoints"
        CheckpointManager(folder, {"model": model}, {"config": to_dict(job), "data_fingerprint": "f"}, 2).save(
            7, best=True
        )
        return tmp_path / name

    return make


@pytest.mark.parametrize("tie_head", [True, False])
def test_open_model_gives_the_saved_one(save_run, tiny_model, variant, tie_head):
    model = tiny_model(**variant, tie_head=tie_head, dropout=0.1, vocab_size=257)
    run_dir = save_run("run", model.train())
    tokens = torch.randint(31, (2, 12))
    step = run_dir / "checkpoints" / "step_00000007"
    for where in (run_dir, run_dir / "checkpoints" / "last", step, step / "model.safetensors", "a copy"):
        if where == "a copy":  # of rsync without -l
            (run_dir / "checkpoints" / "last").unlink()
            where = run_dir
        opened = open_model(str(where), torch.device("cpu"))
        assert not opened.model.training
        assert opened.model.config == model.config
        assert torch.equal(opened.model(tokens), model.eval()(tokens))
        assert torch.equal(load_pretrained(where)(tokens), model(tokens))

    assert opened.source.origin == {"checkpoint": str(step.resolve()), "step": 7}
    assert (opened.source.results, opened.source.context) == (run_dir.resolve(), 12)
    assert opened.source.trained_on.fingerprint == "f"
    assert opened.tokenizer.name == "bytes"


@pytest.mark.parametrize("tie_head", [True, False])
def test_padding_and_positions_are_cut_and_added(save_run, tiny_model, tie_head):
    model = tiny_model(vocab_multiple_of=8, tie_head=tie_head)
    run_dir = save_run("run", model)
    assert model.wte.weight.shape[0] == 32
    tokens = torch.randint(31, (2, 9))
    cut = load_pretrained(run_dir, block_size=9, vocab_multiple_of=1)
    wide = load_pretrained(run_dir, vocab_multiple_of=20)
    assert cut.positions.wpe.weight.shape[0] == 9
    assert cut.wte.weight.shape[0] == cut.head_PC.shape[0] == 31
    assert wide.wte.weight.shape[0] == wide.head_PC.shape[0] == 40
    assert not wide.wte.weight[31:].any()
    assert not wide.head_PC[31:].any()
    for other in (cut, wide):
        assert torch.equal(other(tokens), model(tokens))
    assert torch.equal(load_pretrained(run_dir, vocab_size=20)(tokens % 20), model(tokens % 20)[..., :20])


def test_weights_go_into_a_model_of_other_dropout(save_run, tiny_model):
    saved, model = tiny_model(seed=1), tiny_model(seed=2, dropout=0.3)
    load_weights(model, str(save_run("run", saved)))
    tokens = torch.randint(31, (1, 12))
    assert torch.equal(model(tokens), saved(tokens))


@pytest.mark.parametrize("positions", ["learned", "rope"])
def test_weights_go_into_a_model_of_fewer_positions_and_other_padding(save_run, tiny_model, positions):
    saved = tiny_model(seed=1, positions=positions)
    model = tiny_model(seed=2, positions=positions, block_size=7, vocab_multiple_of=16)
    load_weights(model, str(save_run("run", saved)))
    tokens = torch.randint(31, (1, 7))
    assert torch.equal(model(tokens), saved(tokens))
    assert not model.wte.weight[31:].any()


def test_learned_positions_cannot_be_added(save_run, tiny_model):
    run_dir = str(save_run("run", tiny_model()))
    with pytest.raises(UserError, match=r"model\.block_size=13 \(the checkpoint has 12\)"):
        load_weights(tiny_model(block_size=13), run_dir)
    with pytest.raises(UserError, match="block_size=13.*12 learned positions"):
        load_pretrained(run_dir, block_size=13)
    with pytest.raises(UserError, match="vocab_size=32.*31 token ids"):
        load_pretrained(run_dir, vocab_size=32)
    assert load_pretrained(save_run("rope", tiny_model(positions="rope")), block_size=13).config.block_size == 13


def test_a_width_that_is_spelled_out_is_the_default_one(save_run, tiny_model):
    saved = tiny_model(seed=1, n_kv_head=None)
    model = tiny_model(seed=2, n_kv_head=2)
    model.config.mlp.hidden_dim = 64
    load_weights(model, str(save_run("run", saved)))
    assert torch.equal(model.wte.weight, saved.wte.weight)


def test_weights_of_a_checkpoint_are_matched_by_name_and_shape(save_run, tiny_model):
    run_dir = save_run("run", tiny_model())
    other = save_run("other", tiny_model(n_embd=8))
    last, foreign = (d / "checkpoints" / "step_00000007" for d in (run_dir, other))
    for name in ("model.safetensors", "checkpoint.json"):
        shutil.copy(foreign / name, last / name)
    manifest = (last / "checkpoint.json").read_text()
    values = json.loads(manifest.replace('"n_embd": 8', '"n_embd": 16'))
    del values["sha256"]  # of the manifest itself
    (last / "checkpoint.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match=r"model\.safetensors: tensor \S+ has shape \[\d+.*expected \["):
        load_pretrained(run_dir)


def test_another_architecture_is_refused_by_name(save_run, tiny_model):
    run_dir = save_run("run", tiny_model())
    with pytest.raises(UserError, match=r"model\.n_head=4 .*has 2\), .*model\.positions\.name=rope .*has learned\)"):
        load_weights(tiny_model(n_head=4, positions="rope"), str(run_dir))


def test_where_there_is_no_checkpoint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for where, message in (
        (None, "no run with a checkpoint"),
        ("nowhere", "no such folder"),
        ("empty", "found neither"),
    ):
        with pytest.raises(UserError, match=message):
            find_checkpoint(where, "checkpoint")


def test_the_newest_run_is_the_one_saved_last(save_run, tiny_model, tmp_path):
    older, newer = (save_run(name, tiny_model()) for name in ("z", "a"))
    assert newest_run(tmp_path) == newer
    CheckpointManager(older / "checkpoints", {"model": tiny_model()}, {}, 2).save(8, best=False)
    assert newest_run(tmp_path) == older


def test_a_mistyped_run_is_named(monkeypatch, tmp_path, save_run, tiny_model):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    save_run("runs/day/mine", tiny_model())
    monkeypatch.chdir(tmp_path)
    for where in ("runs/mine", "run/day/mine", "mine"):
        with pytest.raises(UserError, match=rf"^checkpoint={where}: .*folder.*; did you mean runs/day/mine\?$"):
            load_pretrained(where)
    with pytest.raises(UserError, match=r"^checkpoint=run/mine: not fetched .*; there is no folder run/mine either"):
        load_pretrained("run/mine")
    with pytest.raises(UserError, match=r"^checkpoint=runs/day: expected .*; try checkpoint=runs/day/mine$"):
        load_pretrained("runs/day")
    with pytest.raises(UserError, match=r"mean gpt2\?$"):
        load_pretrained("gpt-2")
