"""gpt2lab.weights: the model that comes out of a checkpoint is the one that was saved."""

import pytest
import torch

from gpt2lab.checkpoint import CheckpointManager
from gpt2lab.config import TokenizerConfig, TrainingConfig, TrainJob, UserError, to_dict
from gpt2lab.weights import find_checkpoint, load_weights, newest_run, open_checkpoint


@pytest.fixture
def save_run(tmp_path, tiny_model):
    """A maker of run folders that hold the checkpoint of a model."""

    def make(name, model):
        job = TrainJob(
            model=model.config,
            tokenizer=TokenizerConfig(vocab_size=model.config.vocab_size),
            training=TrainingConfig(max_steps=100, batch_tokens=model.config.block_size),
        )
        folder = tmp_path / name / "checkpoints"
        CheckpointManager(folder, {"model": model}, {"config": to_dict(job), "data_fingerprint": "f"}, 2).save(
            7, best=True
        )
        return tmp_path / name

    return make


@pytest.mark.parametrize("tie_head", [True, False])
def test_open_checkpoint_gives_the_saved_model(save_run, tiny_model, variant, tie_head):
    model = tiny_model(**variant, tie_head=tie_head, dropout=0.1)
    run_dir = save_run("run", model.train())
    tokens = torch.randint(31, (2, 12))
    for where in (run_dir, run_dir / "checkpoints" / "last", run_dir / "checkpoints" / "step_00000007"):
        opened = open_checkpoint(str(where), torch.device("cpu"))
        assert not opened.model.training
        assert (opened.step, opened.job.model, opened.run_dir) == (7, model.config, run_dir.resolve())
        assert torch.equal(opened.model(tokens), model.eval()(tokens))


def test_weights_go_into_a_model_of_other_dropout(save_run, tiny_model):
    saved, model = tiny_model(seed=1), tiny_model(seed=2, dropout=0.3)
    load_weights(model, str(save_run("run", saved)))
    tokens = torch.randint(31, (1, 12))
    assert torch.equal(model(tokens), saved(tokens))


def test_another_architecture_is_refused_by_name(save_run, tiny_model):
    run_dir = save_run("run", tiny_model())
    with pytest.raises(UserError, match=r"model\.n_head=4 \(the checkpoint has 2\), model\.positions=.*rope"):
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
