"""The step, its learning rate, its optimizer and its record, against hand computations."""

import itertools
import json
import math

import numpy as np
import pytest
import torch

from gpt2lab.config import (
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
    UserError,
)
from gpt2lab.evaluation.scoring import Perplexity
from gpt2lab.model import GPT
from gpt2lab.report.run_plots import plot_loss
from gpt2lab.runs import read_lines
from gpt2lab.training.metrics import MetricsLog
from gpt2lab.training.muon import Muon
from gpt2lab.training.optimizer import Optimizers, adamw, decay_groups, muon_and_adamw
from gpt2lab.training.schedule import lr_share
from tests.training_steps import take_step

TINY = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 16, "vocab_size": 257}


def shares(total_steps, **settings):
    share = lr_share(ScheduleConfig(**settings), total_steps)
    return [share(step) for step in range(total_steps)]


def test_cosine_by_hand():
    share = shares(13, warmup_steps=3, min_lr_ratio=0.1)
    assert share[:3] == pytest.approx([0.25, 0.5, 0.75])
    assert share[3] == 1.0  # the peak follows the warm-up
    # steps 3 ... 12 are nine intervals of half a cosine; a third of the way it is (1 + cos 60 degrees) / 2 = 3/4
    assert share[6] == pytest.approx(0.1 + 0.9 * 0.75)
    assert share[9] == pytest.approx(0.1 + 0.9 * 0.25)
    assert share[12] == pytest.approx(0.1)
    assert share[3:] == sorted(share[3:], reverse=True)


def test_other_schedules_by_hand():
    # five intervals after the warm-up; wsd falls in the last two of them
    warm = {"warmup_steps": 1, "min_lr_ratio": 0.2}
    assert shares(7, name="constant", warmup_steps=1) == [0.5, 1, 1, 1, 1, 1, 1]
    assert shares(7, name="linear", **warm) == pytest.approx([0.5, 1, 0.84, 0.68, 0.52, 0.36, 0.2])
    assert shares(7, name="wsd", decay_share=0.4, **warm) == pytest.approx([0.5, 1, 1, 1, 1, 0.6, 0.2])
    assert shares(1, name="linear", warmup_steps=0) == [1.0]
    with pytest.raises(UserError, match="schedule.name=cosin: expected one of cosine, linear, wsd, constant"):
        ScheduleConfig(name="cosin")


def test_warm_up():
    assert shares(100)[4:6] == pytest.approx([5 / 6, 1.0])  # 5 % of 100 steps
    with pytest.raises(UserError, match="schedule.warmup_steps=7: expected fewer than the run's 7"):
        shares(7, warmup_steps=7)


@pytest.mark.parametrize("tie_head", [True, False])
def test_decay_groups(tie_head):
    model = GPT(ModelConfig(**TINY, tie_head=tie_head))
    decayed, plain = decay_groups(model.named_parameters(), 0.1)
    names = [name for group in (decayed, plain) for name, _ in group["params"]]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    assert ("lm_head.weight" in names) is not tie_head
    matrices = {"c_attn", "c_proj", "c_fc", "wte", "wpe", "lm_head"}
    assert {name.split(".")[-2] for name, _ in decayed["params"]} == matrices - ({"lm_head"} if tie_head else set())
    assert all(parameter.ndim == 1 for _, parameter in plain["params"])
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)


def test_adamw_by_hand():
    config = OptimizerConfig(lr=0.1, beta1=0.8, beta2=0.9, eps=0.05, weight_decay=0.5)
    model = torch.nn.Linear(2, 1)
    weight, bias = model.weight.detach().double().numpy().copy(), model.bias.detach().double().numpy().copy()
    optimizer = adamw(model, config, lr=0.1)["adamw"]
    gradients = [np.array([[1.0, -2.0]]), np.array([[0.5, 3.0]])]
    m = v = np.zeros((1, 2))
    for step, gradient in enumerate(gradients, start=1):
        model.weight.grad, model.bias.grad = torch.tensor(gradient).float(), torch.zeros(1)
        optimizer.step()
        m, v = 0.8 * m + 0.2 * gradient, 0.9 * v + 0.1 * gradient**2
        weight = weight * (1 - 0.1 * 0.5)
        weight = weight - 0.1 * (m / (1 - 0.8**step)) / (np.sqrt(v / (1 - 0.9**step)) + 0.05)
    assert model.weight.detach().numpy() == pytest.approx(weight, rel=1e-5)
    assert model.bias.detach().numpy() == pytest.approx(bias)  # no gradient, no decay


def test_moments_are_matched_by_name():
    one = Optimizers(adamw(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)), OptimizerConfig(), 0.1))
    state = one.state_dict()
    one.load_state_dict(state)
    state["adamw"]["param_groups"][0]["param_names"].reverse()
    with pytest.raises(UserError, match="1.weight against 0.weight"):
        one.load_state_dict(state)


def test_a_resumed_optimizer_keeps_the_settings_of_its_own_run():
    saved, own = (
        Optimizers(adamw(torch.nn.Linear(2, 2), OptimizerConfig(weight_decay=decay, beta2=beta2), lr))
        for decay, beta2, lr in ((0.1, 0.95, 1e-3), (0.3, 0.99, 2e-3))
    )
    own.load_state_dict(saved.state_dict())
    decayed, plain = own.groups
    assert (decayed["weight_decay"], decayed["betas"], decayed["lr"]) == (0.3, (0.9, 0.99), 2e-3)
    assert plain["weight_decay"] == 0


def orthogonalised(matrix):
    """Five Newton-Schulz steps with Muon's coefficients, in float64 numpy."""
    x = matrix / np.linalg.norm(matrix)
    for _ in range(5):
        gram = x @ x.T if x.shape[0] <= x.shape[1] else x.T @ x
        polynomial = -4.775 * gram + 2.0315 * gram @ gram
        x = 3.4445 * x + (polynomial @ x if x.shape[0] <= x.shape[1] else x @ polynomial)
    return x


def test_muon_by_hand():
    model = GPT(ModelConfig(**TINY))
    config = OptimizerConfig(name="muon", momentum=0.9, weight_decay=0.5)
    optimizers = Optimizers(muon_and_adamw(model, config, lr=0.1))
    named = dict(model.named_parameters())
    blocks = [
        name
        for name in named
        if name.startswith("blocks.") and name.endswith(("c_attn.weight", "c_fc.weight", "c_proj.weight"))
    ]
    in_part = {
        part: [name for group in optimizer.state_dict()["param_groups"] for name in group["param_names"]]
        for part, optimizer in optimizers.parts.items()
    }
    assert in_part["muon"] == blocks
    assert sorted(in_part["adamw"] + blocks) == sorted(named)
    weight = named["blocks.0.mlp.c_fc.weight"]
    expected = weight.detach().double().numpy().copy()
    momentum = np.zeros_like(expected)
    for _ in range(2):
        gradient = np.random.default_rng(0).normal(size=expected.shape)
        for parameter in named.values():
            parameter.grad = torch.zeros_like(parameter)
        weight.grad = torch.tensor(gradient).float()
        optimizers.set_lr(0.5)
        optimizers.step()
        momentum = 0.9 * momentum + 0.1 * gradient  # PyTorch's running mean, which points where the paper's sum does
        update = orthogonalised(0.1 * gradient + 0.9 * momentum)
        expected = expected * (1 - 0.05 * 0.5) - 0.05 * 0.2 * math.sqrt(max(expected.shape)) * update
    torch.testing.assert_close(weight.detach().double(), torch.tensor(expected), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_muon_is_that_of_torch(dtype):
    shapes = [(8, 8), (8, 24), (24, 8), (8, 24)]
    starts = [torch.randn(shape) for shape in shapes]
    own, theirs = ([torch.nn.Parameter(start.clone()) for start in starts] for _ in range(2))
    optimizers = (
        Muon(own, 0.1, 0.5, 0.9, dtype),
        torch.optim.Muon(theirs, lr=0.1, weight_decay=0.5, momentum=0.9, adjust_lr_fn="match_rms_adamw"),
    )
    for _ in range(3):
        for a, b in zip(own, theirs, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for a, b in zip(own, theirs, strict=True):  # theirs is in bfloat16
        torch.testing.assert_close(a, b, rtol=0, atol=3 * 0.1 * 0.2 * max(a.shape) ** 0.5 * 0.02)


def test_another_optimizers_state_is_refused():
    model = GPT(ModelConfig(**TINY))
    saved, own = (Optimizers(make(model, OptimizerConfig(), 0.1)) for make in (adamw, muon_and_adamw))
    with pytest.raises(UserError, match="state is of adamw, this run's optimizer is muon and adamw.*init_from="):
        own.load_state_dict(saved.state_dict())


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
