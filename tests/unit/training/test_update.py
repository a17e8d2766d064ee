"""The step on a device that is not waited for, non-finite gradients, and compiled and checkpointed blocks."""

import math
import time

import pytest
import torch

from gpt2lab.config import ModelConfig, OptimizerConfig, RuntimeConfig, UserError
from gpt2lab.model import GPT
from gpt2lab.runs import read_lines
from gpt2lab.training.build import prepare_blocks
from gpt2lab.training.gradients import clip_gradients, gradient_norms
from gpt2lab.training.optimizer import Optimizers, adamw, muon_and_adamw
from gpt2lab.training.parallel import ParallelStrategy
from gpt2lab.training.update import StepResult

TINY = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 16, "vocab_size": 257}
KEYS = ("step", "loss", "loss_mean", "loss_max", "grad_norm", "val_loss")


def poison(trainer, name, steps):
    """Make one gradient NaN in these steps."""
    parameter = dict(trainer.model.named_parameters())[name]
    launch_step = trainer.launch_step

    def poisoned(step):
        if step not in steps:
            return launch_step(step)
        hook = parameter.register_hook(lambda gradient: gradient * math.nan)
        try:
            return launch_step(step)
        finally:
            hook.remove()

    trainer.launch_step = poisoned


def record(trainer):
    lines = read_lines(trainer.metrics.path)
    return [{key: line.get(key) for key in KEYS} for line in lines]


@pytest.mark.parametrize("log_every", [1, 3])
def test_reading_a_step_late_changes_nothing(make_trainer, log_every):
    """Skipped steps, checkpoints and validations between lines included."""
    settings = {"max_steps": 11, "eval_every": 4, "checkpoint_every": 2, "log_every": log_every, "keep_checkpoints": 9}
    trainers = {late: make_trainer(f"late={late}", **settings) for late in (False, True)}
    for late, trainer in trainers.items():
        trainer.update.reads_late = late
        poison(trainer, "wte.weight", {2, 5, 6})
        trainer.run()
        assert (trainer.state.skipped_steps, trainer.state.skipped_in_a_row) == (3, 0)
    now, late = trainers[False], trainers[True]
    assert record(now) == record(late)
    for step in range(2, 11, 2):
        states = []
        for trainer in (now, late):
            folder = trainer.checkpoints.folder / f"step_{step:08d}"
            state = torch.load(folder / "train_state.pt", weights_only=True)
            states.append({k: v for k, v in state.items() if not k.endswith("seconds") and k != "run_id"})
            states.append((folder / "model.safetensors").read_bytes())
            states.append((folder / "optimizer.pt").read_bytes())
        assert states[:3] == states[3:]


@pytest.mark.parametrize("every", [{}, {"eval_every": 3}, {"checkpoint_every": 3}])
def test_late_reading_reads_no_loss_before_the_next_step_is_queued(make_trainer, every):
    trainer = make_trainer("run", max_steps=6, log_every=100, **({"eval_every": 0, "checkpoint_every": 0} | every))
    trainer.update.reads_late = True
    events = []
    launch_step, account_for = trainer.launch_step, trainer.update.account_for
    trainer.launch_step = lambda step: events.append(f"launch {step}") or launch_step(step)
    trainer.update.account_for = lambda result, metrics: (
        events.append(f"read {result.step}") or account_for(result, metrics)
    )
    trainer.run()
    # the first and the last step have lines of their own, so they are read at once, as is one before something else
    middle = ["read 2", "launch 3"] if every else ["launch 3", "read 2"]
    assert events == [
        "launch 0", "read 0", "launch 1", "launch 2", "read 1", *middle, "launch 4", "read 3", "launch 5", "read 4",
        "read 5",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("log_every", "eval_every", "checkpoint_every"), [(10, 0, 0), (10, 5, 0), (7, 3, 0), (7, 0, 3)]
)
def test_the_time_of_a_step_counts_as_training_wherever_it_is_waited_for(
    make_trainer, monkeypatch, log_every, eval_every, checkpoint_every
):
    """A device that needs a second a step: a launch returns at once; reading and validating wait for it."""
    settings = {"log_every": log_every, "eval_every": eval_every, "checkpoint_every": checkpoint_every}
    trainer = make_trainer("run", max_steps=20, **settings)
    trainer.update.reads_late = True
    clock, ready = [0.0], {}
    launch_step, read, validator = trainer.launch_step, StepResult.read, trainer.validator

    def launch(step):
        ready[step] = max([clock[0], *ready.values()]) + 1
        return launch_step(step)

    def wait_and_read(result):
        clock[0] = max(clock[0], ready[result.step])
        return read(result)

    def wait_and_validate(model, before_batch):
        clock[0] = max(clock[0], *ready.values()) + 100
        return validator(model, before_batch)

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0] + 1e-9 * len(ready))  # no division by zero
    monkeypatch.setattr(StepResult, "read", wait_and_read)
    trainer.launch_step, trainer.validator = launch, wait_and_validate
    trainer.run()
    assert trainer.state.train_seconds == pytest.approx(20)
    lines = [line for line in read_lines(trainer.metrics.path) if "tokens_per_second" in line]
    assert {line["tokens_per_second"] for line in lines[1:]} == {trainer.settings.batch_tokens}


@pytest.mark.parametrize("late", [False, True])
def test_clip_reports_first_nonfinite_parameter(make_trainer, late):
    trainer = make_trainer("run", max_steps=9, max_skips=1, grad_clip=1.0)
    trainer.update.reads_late = late
    poison(trainer, "blocks.1.mlp.c_fc.weight", {3, 4})
    message = r"step 5: .* non-finite gradients in 1 parameters, first blocks.1.mlp.c_fc.weight; 2 steps in a row"
    with pytest.raises(UserError, match=message):
        trainer.run()
    assert all(parameter.isfinite().all() for parameter in trainer.model.parameters())


def test_norms_and_clipping_are_those_of_torch():
    models = [GPT(ModelConfig(**TINY)) for _ in range(2)]
    for own, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        own.grad = torch.randn_like(own)
        other.grad = own.grad.clone()
    gradients = {name: parameter.grad for name, parameter in models[0].named_parameters()}
    norms = gradient_norms(gradients, ParallelStrategy().norms)
    clip_gradients(list(gradients.values()), 0.5, norms.total)
    assert norms.total == torch.nn.utils.clip_grad_norm_(models[1].parameters(), 0.5)
    assert norms.nonfinite() == []
    for own, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(own.grad, other.grad)


def test_only_optimizers_that_read_the_flag_skip_on_the_device():
    model = GPT(ModelConfig(**TINY))
    assert Optimizers(adamw(model, OptimizerConfig(), 0.1)).skips_on_device
    assert Optimizers(muon_and_adamw(model, OptimizerConfig(name="muon"), 0.1)).skips_on_device
    assert not Optimizers({"sgd": torch.optim.SGD(model.parameters())}).skips_on_device


def test_muon_step_unless_equals_step_or_changes_nothing():
    models = [GPT(ModelConfig(**TINY)) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    own, other = (Optimizers(muon_and_adamw(model, OptimizerConfig(name="muon"), 0.1)) for model in models)
    for _ in range(3):
        for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        own.step()
        other.step_unless(torch.tensor(False))
        for b in models[1].parameters():
            b.grad.fill_(float("nan"))
        other.step_unless(torch.tensor(True))
        for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
            assert torch.equal(a, b)
    buffers = [
        [state["momentum_buffer"] for state in optimizer.parts["muon"].state.values()] for optimizer in (own, other)
    ]
    assert len(buffers[0]) == 4 * TINY["n_layer"]
    assert all(torch.equal(a, b) for a, b in zip(*buffers, strict=True))


def test_step_unless_leaves_parameters_moments_and_counts():
    model = torch.nn.Linear(2, 2)
    optimizer = Optimizers(adamw(model, OptimizerConfig(), 0.1))
    for skip in (False, True):
        model.weight.grad, model.bias.grad = torch.ones(2, 2), torch.ones(2)
        before = model.weight.detach().clone()
        optimizer.step_unless(torch.tensor(skip))
        assert torch.equal(before, model.weight) is skip
    assert all(state["step"] == 1 for state in optimizer.parts["adamw"].state_dict()["state"].values())


@pytest.mark.parametrize("checkpointing", [False, True])
def test_blocks_are_compiled_also_with_activation_checkpointing(monkeypatch, checkpointing):
    graphs = []

    def counting_backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    compile_with = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function: compile_with(function, backend=counting_backend))
    monkeypatch.setattr(torch.nn.Module, "compile", compile_module(counting_backend))
    plain, compiled = GPT(ModelConfig(**TINY)), GPT(ModelConfig(**TINY))
    compiled.load_state_dict(plain.state_dict())
    prepare_blocks(compiled.blocks, RuntimeConfig(compile=True, activation_checkpointing=checkpointing))
    tokens = torch.randint(257, (2, 16))
    for model in (plain, compiled):
        model.loss(tokens, tokens).backward()
    assert 1 <= len(graphs) <= 4
    for own, other in zip(plain.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad)


def compile_module(backend):
    def compile_in_place(module):
        module._compiled_call_impl = torch._dynamo.optimize(backend)(module._call_impl)

    return compile_in_place


def test_validation_and_samples_do_not_compile(make_trainer):
    """Their shapes vary, and each would be compiled anew."""
    trainer = make_trainer("run", max_steps=2)
    stances = []
    validator = trainer.validator

    def watched(model, before_batch):
        stances.append(torch._dynamo.eval_frame._stance.stance)
        return validator(model, before_batch)

    trainer.validator = watched
    trainer.run()
    assert set(stances) == {"force_eager"}
    assert torch._dynamo.eval_frame._stance.stance == "default"


def test_out_of_memory_in_the_first_optimizer_step(make_trainer):
    trainer = make_trainer("run")

    def full():
        raise torch.OutOfMemoryError("CUDA out of memory")

    trainer.update.optimizer.step = full
    with pytest.raises(UserError, match="^out of memory in the optimizer's step: .*16 bytes per parameter"):
        trainer.run()
