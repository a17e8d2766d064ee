"""The step and its record, against hand computations."""

import itertools
import json
import math

import numpy as np
import pytest
import torch

from gpt2lab.config import SamplesConfig, UserError
from gpt2lab.evaluation.scoring import Perplexity
from gpt2lab.model import GPT
from gpt2lab.report.run_plots import plot_loss
from gpt2lab.runs import read_lines
from gpt2lab.runs.records import stopped_as_diverged
from gpt2lab.training.metrics import MetricsLog
from gpt2lab.training.trainer import Trainer
from tests.training_steps import take_step


def test_accumulation_equals_one_large_batch(make_trainer):
    whole, pieces = make_trainer("whole"), make_trainer("pieces", micro_batch_size=1)
    for step in range(4):
        assert take_step(whole, step) == pytest.approx(take_step(pieces, step), rel=1e-5)
    for (name, one), other in zip(whole.model.named_parameters(), pieces.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5, msg=name)


def test_reported_loss_is_the_batch_mean(make_trainer):
    trainer = make_trainer("run", micro_batch_size=1)
    inputs, targets = (torch.from_numpy(ids) for ids in trainer.batches.batch(0)[:2])
    expected = torch.nn.functional.cross_entropy(trainer.model(inputs).flatten(0, 1), targets.flatten())
    assert take_step(trainer, 0)["loss"] == pytest.approx(expected.item(), rel=1e-6)


def test_documents_that_are_told_apart_are_scored_alone(make_trainer):
    """Each part of a window between two ends of text goes through the model by itself, one by one."""
    settings = {"model": {"block_size": 64}, "batch_tokens": 256}
    trainer = make_trainer("run", masking=True, micro_batch_size=2, **settings)
    batch = trainer.batches.batch(0)
    nll, documents = 0.0, 0
    for inputs, targets in zip(batch.inputs_BT, batch.targets_BT, strict=True):
        borders = sorted({0, *np.flatnonzero(inputs == 256).tolist(), len(inputs)})
        documents += len(borders) - 1
        for begin, end in itertools.pairwise(borders):
            alone = torch.from_numpy(inputs[None, begin:end]), torch.from_numpy(targets[None, begin:end])
            nll += trainer.model.nll_sum(*alone).item()
    assert documents > len(batch.inputs_BT)
    assert take_step(trainer, 0)["loss"] == pytest.approx(nll / batch.targets_BT.size, rel=1e-5)
    assert take_step(make_trainer("plain", **settings), 0)["loss"] != pytest.approx(
        nll / batch.targets_BT.size, rel=1e-4
    )


def test_gradient_is_clipped(make_trainer):
    clipped, free = make_trainer("clipped", grad_clip=1e-3), make_trainer("free", grad_clip=0.0)
    norms = []
    for trainer in (clipped, free):
        gradients = {}
        for name, parameter in trainer.model.named_parameters():
            parameter.register_post_accumulate_grad_hook(
                lambda p, name=name, into=gradients: into.update({name: p.grad})
            )
        reported = take_step(trainer, 0)["grad_norm"]
        norms.append((reported, math.sqrt(sum(g.square().sum().item() for g in gradients.values()))))
    (reported, after), (reported_free, after_free) = norms
    assert reported == pytest.approx(reported_free, rel=1e-6)
    assert after == pytest.approx(1e-3, rel=1e-3)
    assert after_free == pytest.approx(reported_free, rel=1e-5)


def poison(trainer, steps):
    """Make the loss of these steps NaN, by a weight that is NaN while they are computed."""
    launch_step = trainer.launch_step

    def poisoned(step):
        weight = trainer.model.norm_f.weight
        kept = weight.detach().clone()
        if step in steps:
            weight.data[0] = torch.nan
        result = launch_step(step)
        if step in steps:
            weight.data.copy_(kept)
        return result

    trainer.launch_step = poisoned


def test_a_step_whose_loss_is_no_number_is_skipped_and_counted(make_trainer):
    trainer, good = make_trainer("run", max_steps=6), make_trainer("good", max_steps=6)
    poison(trainer, {1, 2, 4})
    updates = []
    trainer.update.optimizer.step = lambda step=trainer.update.optimizer.step: (
        updates.append(trainer.state.step),
        step(),
    )
    trainer.run()
    assert updates == [0, 3, 5]
    assert (trainer.state.skipped_steps, trainer.state.skipped_in_a_row) == (3, 0)
    assert all(parameter.isfinite().all() for parameter in trainer.model.parameters())
    lines = [json.loads(line, parse_constant=pytest.fail) for line in trainer.metrics.path.read_text().splitlines()]
    assert [line["loss"] is None for line in lines if "loss" in line] == [False, True, True, False, True, False]
    good.run()
    assert "skipped_steps" not in good.metrics.path.read_text()


def test_too_many_skips_in_a_row_stop_the_run(make_trainer):
    trainer = make_trainer("run", max_steps=9, max_skips=2, checkpoint_every=1)
    poison(trainer, {1, 2, 4, 5, 6})
    with pytest.raises(
        UserError, match=r"step 7: loss nan.*first wte.weight; 3 steps in a row .*max_skips=2.*optimizer.lr"
    ):
        trainer.run()
    assert trainer.state.skipped_steps == 5
    saved = make_trainer("again", max_steps=9)
    saved.checkpoints.load((trainer.checkpoints.folder / "last").resolve())
    assert all(parameter.isfinite().all() for parameter in saved.model.parameters())


def test_checkpoints_in_the_background_are_those_of_the_foreground(make_trainer):
    folders = []
    for name, background in (("fore", False), ("back", True)):
        trainer = make_trainer(name, checkpoint_every=1, runtime={"background_checkpoints": background})
        trainer.run()
        folders.append(trainer.checkpoints.folder)
    for step in ("step_00000003", "step_00000004", "last", "best"):
        for part in ("model.safetensors", "optimizer.pt"):  # the progress has seconds, which differ
            fore, back = ((folder / step / part).read_bytes() for folder in folders)
            assert fore == back, (step, part)


def test_an_epoch_is_every_window_once(make_trainer):
    trainer = make_trainer("run", max_steps=None, max_epochs=1.0)
    sequences = trainer.total_steps * trainer.batches.batch_size
    assert 0 <= sequences - trainer.batches.num_sequences < trainer.batches.batch_size
    whole = trainer.batches.num_sequences * trainer.batches.sequence_length
    assert make_trainer("one", max_steps=None, max_epochs=1.0, batch_tokens=whole).total_steps == 1


def test_resumed_steps_are_those_of_the_straight_run(make_trainer):
    settings = {"max_steps": 6, "checkpoint_every": 2, "eval_every": 2, "model": {"dropout": 0.2}}
    straight, stopped, resumed = (make_trainer(name, **settings) for name in ("straight", "stopped", "resumed"))
    straight.run()
    stopped.total_steps = 4
    stopped.run()
    resumed.checkpoints.load(stopped.checkpoints.folder / "step_00000002")
    resumed.metrics = stopped.metrics
    resumed.run()
    for (name, one), other in zip(straight.model.named_parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other), name
    losses = [
        [(line["step"], line.get("loss"), line.get("val_loss")) for line in read_lines(trainer.metrics.path)]
        for trainer in (straight, resumed)
    ]
    assert losses[0] == losses[1]


def test_a_run_from_step_0_drops_the_lines_of_a_killed_attempt(make_trainer):
    trainer = make_trainer("run")
    trainer.metrics.write(1, 64, loss=99.0)
    trainer.run()
    assert [m["step"] for m in read_lines(trainer.metrics.path) if "loss" in m] == [1, 2, 3, 4]


def test_best_is_the_lowest_validation_loss_that_is_a_number(make_trainer):
    trainer = make_trainer("run", eval_every=1)
    losses = iter([3.0, math.nan, 2.0, 2.5])
    trainer.validator = lambda model, before_batch: Perplexity(nll=next(losses), tokens=1, bytes=1)
    best = []
    load = trainer.load
    trainer.load = lambda step: (best.append((trainer.checkpoints.folder / "best").resolve().name), load(step))[1]
    trainer.run()
    best.append((trainer.checkpoints.folder / "best").resolve().name)
    assert best == ["best", "step_00000001", "step_00000001", "step_00000003", "step_00000003"]
    assert trainer.state.best_val_loss == 2.0


@pytest.mark.parametrize("loss", [math.nan, math.inf, 1000.0])
def test_a_run_whose_last_validation_is_no_number_has_failed(make_trainer, loss):
    trainer = make_trainer("run")
    trainer.validator = lambda model, before_batch: Perplexity(nll=loss, tokens=1, bytes=0)
    if math.isfinite(loss):
        trainer.run()
    else:
        with pytest.raises(UserError, match=rf"loss after the last step is {loss}, non-finite.*lower optimizer.lr$"):
            trainer.run()
    text = (trainer.plan.run_dir / "summary.json").read_text()
    summary = json.loads(text, parse_constant=pytest.fail)
    assert stopped_as_diverged(summary["status"], None) != math.isfinite(loss)
    assert summary["best_val_loss"] == summary.get("val_loss") == (loss if math.isfinite(loss) else None)
    assert summary.get("val_perplexity") is summary.get("val_bits_per_byte") is None
    assert (trainer.checkpoints.folder / "last").is_dir()


def test_validation_leaves_training_as_it_was(make_trainer):
    often = make_trainer("often", eval_every=1, model={"dropout": 0.2})
    once = make_trainer("once", eval_every=0, checkpoint_every=0, log_every=3, model={"dropout": 0.2})
    final = [trainer.run().validation for trainer in (often, once)]
    assert final[0] == final[1]
    losses = [
        {line["step"]: line["loss"] for line in read_lines(trainer.metrics.path) if "loss" in line}
        for trainer in (often, once)
    ]
    assert set(losses[0]) == {1, 2, 3, 4}
    assert set(losses[1]) == {1, 3, 4}
    assert all(losses[0][step] == losses[1][step] for step in losses[1])


def test_a_finished_run_is_only_validated(make_trainer):
    trainer = make_trainer("run")
    result = trainer.run()
    lines = trainer.metrics.path.read_text()
    assert trainer.run().validation == result.validation
    assert trainer.metrics.path.read_text() == lines


def values(trainer, name):
    return [line[name] for line in read_lines(trainer.metrics.path) if name in line]


def fill_memory_in(monkeypatch, method):
    """Make the model's forward passes within a method of the trainer ask for more memory than there is."""
    whole = getattr(Trainer, method)

    def full(*arguments, **keywords):
        raise torch.OutOfMemoryError("CUDA out of memory")

    def without_memory(trainer, model):
        monkeypatch.setattr(GPT, "hidden", full)
        return whole(trainer, model)

    monkeypatch.setattr(Trainer, method, without_memory)


@pytest.mark.parametrize(
    ("method", "line"),
    [
        ("_validate", "validation of 4 sequences at once: type training.micro_batch_size=2$"),
        (
            "_draw_samples",
            "drawing 2 samples at once: type samples.sampling.batch_size=1, or samples.every=0 ",
        ),
        ("_evaluate_tasks", r"training.eval_tasks and training.eval_texts: type training.eval_tasks=\[\] "),
    ],
)
def test_out_of_memory_outside_a_step_says_what_to_type(make_trainer, tmp_path, monkeypatch, method, line):
    samples = SamplesConfig(every=1, prompts=["a", "b"])
    trainer = make_trainer("run", samples=samples, eval_every=2, eval_texts=[str(tmp_path / "text.txt")])
    fill_memory_in(monkeypatch, method)
    with pytest.raises(UserError, match=f"^out of memory in {line}"):
        trainer.run()


def test_a_run_that_cannot_validate_is_saved_and_resumes_with_the_validation(make_trainer, monkeypatch):
    straight, full, resumed = (make_trainer(name, eval_every=2, checkpoint_every=9) for name in ("a", "b", "c"))
    straight.run()
    with monkeypatch.context() as patch:
        fill_memory_in(patch, "_validate")
        with pytest.raises(UserError, match="out of memory"):
            full.run()
    resumed.checkpoints.load(full.checkpoints.folder / "step_00000002")
    resumed.metrics = full.metrics
    resumed.run()
    assert values(resumed, "val_loss") == values(straight, "val_loss")
    assert values(resumed, "loss") == values(straight, "loss")


def test_a_run_whose_plot_fails_is_complete(make_trainer, caplog):
    trainer = make_trainer("run")
    trainer.plot = plot_loss
    (trainer.plan.run_dir / "loss.png").mkdir()
    trainer.run()
    assert json.loads((trainer.plan.run_dir / "summary.json").read_text())["status"] == "completed"
    assert "the run is complete, but its plot failed" in caplog.text


def test_dropout_differs_between_steps(make_trainer):
    trainer = make_trainer("run", model={"dropout": 0.5})
    inputs, targets = (torch.from_numpy(ids) for ids in trainer.batches.batch(0)[:2])
    states = []
    for step in (0, 1):
        take_step(trainer, step)
        states.append(torch.get_rng_state())
    assert not torch.equal(*states)
    assert trainer.model.nll_sum(inputs, targets) != trainer.model.nll_sum(inputs, targets)


def test_rewound_metrics_have_each_step_once(tmp_path):
    metrics = MetricsLog(tmp_path)
    for step in range(1, 6):
        metrics.write(step, 10 * step, loss=float(step))
    with metrics.path.open("a") as file:
        file.write('{"step": 6, "tok')  # killed while writing
    assert [line["step"] for line in read_lines(metrics.path)] == [1, 2, 3, 4, 5]
    metrics.start(3, "run")
    metrics.write(4, 40, loss=0.5)
    lines = [json.loads(line) for line in metrics.path.read_text().splitlines()]
    assert lines == [{"step": s, "tokens": 10 * s, "loss": float(s)} for s in (1, 2, 3)] + [
        {"step": 4, "tokens": 40, "loss": 0.5}
    ]
