"""Precision, recomputation and memory: the same steps by other means."""

import math
from functools import partial

import pytest
import torch

from gpt2lab.config import UserError
from gpt2lab.generation.weights import decoding_copy
from gpt2lab.runs import read_lines
from tests.training_steps import take_step


def weights(trainer):
    return {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}


def test_float16_is_near_float32(make_trainer):
    half, full = make_trainer("half", runtime={"precision": "fp16"}), make_trainer("full")
    assert half.update.loss_scale.get_scale() == 2**16
    for step in range(4):
        one, other = take_step(half, step), take_step(full, step)
        assert one["loss"] == pytest.approx(other["loss"], rel=2e-3)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=2e-2)
    assert half.update.loss_scale.get_scale() == 2**16


def test_float16_gradients_that_would_vanish_do_not(make_trainer):
    """A loss so small that its gradients are below float16's least number."""

    def gradient(name, precision):
        trainer = make_trainer(name, runtime={"precision": precision})
        forward = trainer.update.loss.forward
        trainer.update.loss.forward = lambda *inputs: tuple(part * 2e-7 for part in forward(*inputs))
        return take_step(trainer, 0)["grad_norm"]

    assert gradient("half", "fp16") == pytest.approx(gradient("full", "fp32"), rel=2e-2)


def test_an_overflow_halves_the_scale_and_is_no_divergence(make_trainer):
    trainer = make_trainer("run", max_steps=12, max_skips=2, checkpoint_every=1, runtime={"precision": "fp16"})
    trainer.update.loss_scale.load_state_dict(trainer.update.loss_scale.state_dict() | {"scale": 2.0**126})
    before = weights(trainer)
    take_step(trainer, 0)
    assert all(torch.equal(before[name], now) for name, now in weights(trainer).items())
    assert trainer.update.loss_scale.get_scale() == 2.0**125
    trainer.run()
    assert (trainer.state.skipped_steps, trainer.state.skipped_in_a_row) == (13, 0)
    resumed = make_trainer("resumed", runtime={"precision": "fp16"})
    resumed.checkpoints.load(trainer.checkpoints.folder / "step_00000012")
    assert resumed.update.loss_scale.state_dict() == trainer.update.loss_scale.state_dict()
    assert resumed.update.loss_scale.get_scale() == 2.0**113
    in_bf16 = make_trainer("bf16", runtime={"precision": "bf16"})
    in_bf16.checkpoints.load(trainer.checkpoints.folder / "step_00000012")
    assert in_bf16.update.loss_scale.get_scale() == 1


def test_z_loss_is_minimized_and_not_reported(make_trainer):
    with_z, without = make_trainer("with", z_loss=0.5), make_trainer("without")
    batch = with_z.load(0)
    logits = with_z.model(batch.inputs_BT)
    nll = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.targets_BT.flatten())
    objective = nll + 0.5 * logits.logsumexp(-1).square().mean()
    expected = torch.stack([g.norm() for g in torch.autograd.grad(objective, list(with_z.model.parameters()))]).norm()
    metrics = take_step(with_z, 0)
    assert metrics["loss"] == pytest.approx(take_step(without, 0)["loss"], rel=1e-6)
    assert metrics["grad_norm"] == pytest.approx(expected.item(), rel=1e-4)


def test_recomputed_activations_give_the_same_steps(make_trainer):
    """Bit for bit, dropout included; each block runs a second time in backward."""
    settings = {"model": {"dropout": 0.2}, "micro_batch_size": 2}
    plain, recomputing = (
        make_trainer(name, runtime={"activation_checkpointing": flag}, **settings)
        for name, flag in (("plain", False), ("recomputing", True))
    )
    calls = {"plain": 0, "recomputing": 0}
    for name, trainer in (("plain", plain), ("recomputing", recomputing)):
        mlp = trainer.model.blocks[0].mlp
        mlp.register_forward_pre_hook(lambda *_, name=name: calls.update({name: calls[name] + 1}))
    for step in range(2):
        assert take_step(plain, step) == take_step(recomputing, step)
    assert calls == {"plain": 4, "recomputing": 8}
    assert weights(plain).keys() == weights(recomputing).keys()
    assert plain.validator(plain.model) == recomputing.validator(recomputing.model)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_samples_of_compiled_blocks_run_the_copy_without_dropout(make_trainer, monkeypatch, checkpointing):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    runtime = {"compile": True, "activation_checkpointing": checkpointing}
    trainer = make_trainer("run", runtime=runtime, model={"dropout": 0.5})
    in_training = []
    for block in trainer.model.blocks:
        block.mlp.register_forward_pre_hook(lambda mlp, _: in_training.append(mlp.training))
    copied = decoding_copy(trainer.model, trainer.runtime, 1)
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        copied.hidden(torch.zeros(1, 4, dtype=torch.long))
    assert in_training == [False, False]


@pytest.mark.slow
def test_compiled_blocks_give_the_same_steps(make_trainer, monkeypatch, tmp_path):
    # the common folder may hold kernels that were compiled for other vector instructions, or by a run that was killed
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "kernels"))
    plain, compiled = make_trainer("plain"), make_trainer("compiled", runtime={"compile": True})
    for step in range(3):
        assert take_step(compiled, step) == pytest.approx(take_step(plain, step), rel=1e-4)
    assert compiled.model.state_dict().keys() == plain.model.state_dict().keys()
    assert compiled.model.blocks[0]._compiled_call_impl is not None
    assert compiled.validator(compiled.model).loss == pytest.approx(plain.validator(plain.model).loss, rel=1e-4)


def fill_memory(trainer):
    """Make the first forward pass ask for more than any machine has."""
    trainer.model.blocks[0].register_forward_hook(lambda *_: torch.empty(2**55))


@pytest.mark.parametrize(
    ("micro_batch_size", "fix"),
    [(4, "training.micro_batch_size=2, which gives the same steps without dropout, or "), (1, "")],
)
def test_out_of_memory_says_what_to_type(make_trainer, micro_batch_size, fix):
    trainer = make_trainer("run", micro_batch_size=micro_batch_size)
    fill_memory(trainer)
    line = f"out of memory in a forward pass of {micro_batch_size} sequences x 16 tokens: type {fix}runtime.activ"
    with pytest.raises(UserError, match=line):
        trainer.run()


def test_out_of_memory_on_a_gpu(make_trainer):
    trainer = make_trainer("run")

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    trainer.model.blocks[0].register_forward_hook(full)
    with pytest.raises(UserError, match="out of memory in a forward pass of 4 sequences"):
        trainer.run()


def test_another_error_stays_itself(make_trainer):
    trainer = make_trainer("run")

    def broken(*_):
        raise RuntimeError("a shape that does not fit")

    trainer.model.blocks[0].register_forward_hook(broken)
    with pytest.raises(RuntimeError, match="a shape that does not fit"):
        trainer.run()


def test_skips_are_kept_in_the_record(make_trainer):
    trainer = make_trainer("run", max_steps=3)
    trainer.update.loss.register_forward_hook(lambda _, inputs, outputs: tuple(part * math.nan for part in outputs))
    with pytest.raises(UserError, match="all 3 steps were skipped"):
        trainer.run()
    assert [line["loss"] for line in read_lines(trainer.metrics.path) if "loss" in line] == [None] * 3
    assert trainer.state.skipped_steps == 3
