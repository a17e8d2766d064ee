"""The step, its learning rate, its optimizer and its record, against hand computations."""

import json
import math

import numpy as np
import pytest
import torch

from gpt2lab.config import (
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    PrepareConfig,
    RuntimeConfig,
    ScheduleConfig,
    TokenizerConfig,
    TrainingConfig,
    TrainJob,
    UserError,
)
from gpt2lab.data import prepare, set_folder
from gpt2lab.evaluation import Perplexity
from gpt2lab.model import GPT
from gpt2lab.runtime import open_runtime
from gpt2lab.tokenizer import load_tokenizer
from gpt2lab.training.build import build_model, build_trainer
from gpt2lab.training.metrics import MetricsLog, read_metrics
from gpt2lab.training.optimizer import NamedOptimizer, adamw, decay_groups
from gpt2lab.training.schedule import cosine, learning_rate

TINY = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 16, "vocab_size": 257}
CPU = open_runtime(RuntimeConfig(device="cpu", precision="fp32"))


@pytest.fixture
def make_trainer(tmp_path):
    """Trainers on one small corpus, each with a run folder of its own."""
    (tmp_path / "text.txt").write_text("\n\n".join(f"paragraph {i}: {'word ' * (i % 7)}" for i in range(200)))
    data = DataConfig(
        source="text_files", name="t", root=str(tmp_path), files=[str(tmp_path / "text.txt")],
        delimiter="\n\n", val_fraction=0.2,
    )  # fmt: skip
    tokenizer = load_tokenizer("bytes")
    manifest = prepare(data, PrepareConfig(), tokenizer)

    def make(name, *, model=None, **training):
        settings = {"max_steps": 4, "batch_tokens": 64, "eval_tokens": 160, "log_every": 1} | training
        job = TrainJob(
            model=ModelConfig(**(TINY | (model or {}))),
            tokenizer=TokenizerConfig("bytes", 257),
            data=data,
            optimizer=OptimizerConfig(lr=1e-2),
            training=TrainingConfig(**settings),
        )
        run_dir = tmp_path / name
        run_dir.mkdir()
        model = build_model(job.model, job.seed, CPU)
        return build_trainer(job, model, tokenizer, set_folder(data, tokenizer), manifest, run_dir, CPU)

    return make


def test_cosine_by_hand():
    share = [cosine(step, total_steps=13, warmup_steps=3, min_lr_ratio=0.1) for step in range(13)]
    assert share[:3] == pytest.approx([0.25, 0.5, 0.75])
    assert share[3] == 1.0  # the peak follows the warm-up
    # steps 3 ... 12 are nine intervals of half a cosine; a third of the way it is (1 + cos 60 degrees) / 2 = 3/4
    assert share[6] == pytest.approx(0.1 + 0.9 * 0.75)
    assert share[9] == pytest.approx(0.1 + 0.9 * 0.25)
    assert share[12] == pytest.approx(0.1)
    assert share[3:] == sorted(share[3:], reverse=True)


def test_learning_rate_of_a_job():
    job = TrainJob(optimizer=OptimizerConfig(lr=2.0), schedule=ScheduleConfig(warmup_steps=None))
    at = learning_rate(job, total_steps=100)
    assert at(4) == pytest.approx(2.0 * 5 / 6)
    assert at(5) == 2.0  # 5 % of 100 steps are warm-up
    assert at(99) == pytest.approx(0.2)
    with pytest.raises(UserError, match="schedule.warmup_steps=7: expected fewer than the run's 7"):
        learning_rate(TrainJob(schedule=ScheduleConfig(warmup_steps=7)), total_steps=7)


@pytest.mark.parametrize("tie_head", [True, False])
def test_decay_groups(tie_head):
    model = GPT(ModelConfig(**TINY, tie_head=tie_head))
    decayed, plain = decay_groups(model, 0.1)
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
    optimizer = adamw(model, config, lr=0.1)
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
    one = NamedOptimizer(
        adamw(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)), OptimizerConfig(), 0.1)
    )
    state = one.state_dict()
    one.load_state_dict(state)
    state["param_groups"][0]["param_names"].reverse()
    with pytest.raises(UserError, match="1.weight against 0.weight"):
        one.load_state_dict(state)


def test_a_resumed_optimizer_keeps_the_settings_of_its_own_run():
    saved, own = (
        NamedOptimizer(adamw(torch.nn.Linear(2, 2), OptimizerConfig(weight_decay=decay, beta2=beta2), lr))
        for decay, beta2, lr in ((0.1, 0.95, 1e-3), (0.3, 0.99, 2e-3))
    )
    own.load_state_dict(saved.state_dict())
    decayed, plain = own.optimizer.param_groups
    assert (decayed["weight_decay"], decayed["betas"], decayed["lr"]) == (0.3, (0.9, 0.99), 2e-3)
    assert plain["weight_decay"] == 0


def test_accumulation_equals_one_large_batch(make_trainer):
    whole, pieces = make_trainer("whole"), make_trainer("pieces", micro_batch_size=1)
    for step in range(4):
        assert whole.train_step(step) == pytest.approx(pieces.train_step(step), rel=1e-5)
    for (name, one), other in zip(whole.model.named_parameters(), pieces.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5, msg=name)


def test_reported_loss_is_the_batch_mean(make_trainer):
    trainer = make_trainer("run", micro_batch_size=1)
    inputs, targets = (torch.from_numpy(ids) for ids in trainer.batches.batch(0)[:2])
    expected = torch.nn.functional.cross_entropy(trainer.model(inputs).flatten(0, 1), targets.flatten())
    assert trainer.train_step(0)["loss"] == pytest.approx(expected.item(), rel=1e-6)


def test_gradient_is_clipped(make_trainer):
    clipped, free = make_trainer("clipped", grad_clip=1e-3), make_trainer("free", grad_clip=0.0)
    norms = []
    for trainer in (clipped, free):
        gradients = {}
        for name, parameter in trainer.model.named_parameters():
            parameter.register_post_accumulate_grad_hook(
                lambda p, name=name, into=gradients: into.update({name: p.grad})
            )
        reported = trainer.train_step(0)["grad_norm"]
        norms.append((reported, math.sqrt(sum(g.square().sum().item() for g in gradients.values()))))
    (reported, after), (reported_free, after_free) = norms
    assert reported == pytest.approx(reported_free, rel=1e-6)
    assert after == pytest.approx(1e-3, rel=1e-3)
    assert after_free == pytest.approx(reported_free, rel=1e-5)


def test_a_loss_that_is_no_number_stops_before_the_weights_change(make_trainer):
    trainer = make_trainer("run")
    with torch.no_grad():
        trainer.model.norm_f.weight[0] = torch.nan
    before = trainer.model.wte.weight.clone()
    with pytest.raises(UserError, match=r"step 0: loss nan.*optimizer.lr"):
        trainer.run()
    assert torch.equal(trainer.model.wte.weight, before)
    assert not (trainer.metrics.path.parent / "checkpoints").exists()


def test_an_epoch_is_every_window_once(make_trainer):
    trainer = make_trainer("run", max_steps=None, max_epochs=1.0)
    sequences = trainer.total_steps * trainer.batches.batch_size
    assert 0 <= sequences - trainer.batches.num_windows < trainer.batches.batch_size
    whole = trainer.batches.num_windows * trainer.batches.sequence_length
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
        [(line["step"], line.get("loss"), line.get("val_loss")) for line in read_metrics(trainer.metrics.path)]
        for trainer in (straight, resumed)
    ]
    assert losses[0] == losses[1]


def test_a_run_from_step_0_drops_the_lines_of_a_killed_attempt(make_trainer):
    trainer = make_trainer("run")
    trainer.metrics.write(1, 64, loss=99.0)
    trainer.run()
    assert [m["step"] for m in read_metrics(trainer.metrics.path) if "loss" in m] == [1, 2, 3, 4]


def test_best_is_the_lowest_validation_loss_that_is_a_number(make_trainer):
    trainer = make_trainer("run")
    best = {}
    for trainer.progress.step, loss in enumerate([3.0, math.nan, 2.0, 2.5], start=1):
        trainer._save(Perplexity(nll=loss, tokens=1, bytes=1))
        best[trainer.progress.step] = (trainer.checkpoints.folder / "best").resolve().name
    assert list(best.values()) == ["step_00000001", "step_00000001", "step_00000003", "step_00000003"]


def test_validation_leaves_training_as_it_was(make_trainer):
    often = make_trainer("often", eval_every=1, model={"dropout": 0.2})
    once = make_trainer("once", eval_every=0, checkpoint_every=0, log_every=3, model={"dropout": 0.2})
    final = [trainer.run() for trainer in (often, once)]
    assert final[0] == final[1]
    losses = [
        {line["step"]: line["loss"] for line in read_metrics(trainer.metrics.path) if "loss" in line}
        for trainer in (often, once)
    ]
    assert set(losses[0]) == {1, 2, 3, 4}
    assert set(losses[1]) == {1, 3, 4}
    assert all(losses[0][step] == losses[1][step] for step in losses[1])


def test_a_finished_run_is_only_validated(make_trainer):
    trainer = make_trainer("run")
    result = trainer.run()
    lines = trainer.metrics.path.read_text()
    assert trainer.run() == result
    assert trainer.metrics.path.read_text() == lines


def test_dropout_differs_between_steps(make_trainer):
    trainer = make_trainer("run", model={"dropout": 0.5})
    inputs, targets = (torch.from_numpy(ids) for ids in trainer.batches.batch(0)[:2])
    states = []
    for step in (0, 1):
        trainer.train_step(step)
        states.append(torch.get_rng_state())
    assert not torch.equal(*states)
    assert trainer.model.nll_sum(inputs, targets) != trainer.model.nll_sum(inputs, targets)


def test_rewound_metrics_have_each_step_once(tmp_path):
    metrics = MetricsLog(tmp_path / "metrics.jsonl")
    for step in range(1, 6):
        metrics.write(step, 10 * step, loss=float(step))
    with metrics.path.open("a") as file:
        file.write('{"step": 6, "tok')  # killed while writing
    assert [line["step"] for line in read_metrics(metrics.path)] == [1, 2, 3, 4, 5]
    metrics.rewind(3)
    metrics.write(4, 40, loss=0.5)
    lines = [json.loads(line) for line in metrics.path.read_text().splitlines()]
    assert lines == [{"step": s, "tokens": 10 * s, "loss": float(s)} for s in (1, 2, 3)] + [
        {"step": 4, "tokens": 40, "loss": 0.5}
    ]
