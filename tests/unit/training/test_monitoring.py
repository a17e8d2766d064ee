"""What a run shows of itself while it goes: speed, spikes, samples, a trace; each leaves the training alone."""

import dataclasses
import json
import math
import os
import signal

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from gpt2lab.config import ModelConfig, SamplesConfig, SamplingConfig, StoppedError
from gpt2lab.generation import generate
from gpt2lab.model import GPT
from gpt2lab.runs import read_lines
from gpt2lab.training.console import Progress
from gpt2lab.training.monitoring import SpikeDetector
from gpt2lab.training.throughput import PEAK_FLOPS, Throughput, flops_per_token, peak_flops

DROPOUT = {"dropout": 0.2}


@pytest.mark.parametrize("options", [{}, {"tie_head": False, "mlp": "swiglu"}, {"n_head": 4, "n_kv_head": 2}])
def test_flops_are_those_that_torch_counts(tiny_model, options):
    model = tiny_model(**options)
    B, T = 2, 12
    tokens = torch.randint(model.config.vocab_size, (B, T))
    with FlopCounterMode(display=False) as counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        model(tokens).sum().backward()
    assert counter.get_total_flops() == B * T * flops_per_token(model, T)


def test_peak_is_of_the_device(monkeypatch):
    gpu = torch.device("cuda")
    for name, part in (
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA H100 NVL", "H100 NVL"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA H200 NVL", "H200 NVL"),
        ("NVIDIA GH200 480GB", "GH200"),
        ("NVIDIA B200", "B200"),
        ("NVIDIA GB200", "GB200"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
    ):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device, name=name: name)
        assert peak_flops(gpu, "bf16") == PEAK_FLOPS[part]
        assert peak_flops(gpu, "fp32") is None
    # others, whose names begin alike, and parts
    parts = ["NVIDIA H100 80GB HBM3 MIG 1g.10gb", "NVIDIA A100-SXM4-40GB MIG 3g.20gb"]
    rtx = [f"NVIDIA GeForce RTX {rest}" for rest in ("4090 Laptop GPU", "4090 D", "3090 Ti")]
    for name in ("NVIDIA L40", "NVIDIA A10", "NVIDIA A10G", *rtx, *parts, "something else"):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device, name=name: name)
        assert peak_flops(gpu, "bf16") is None
    assert peak_flops(torch.device("cpu"), "bf16") is None


def test_throughput_by_hand():
    throughput = Throughput(flops_per_token=100, peak_flops=20_000.0)
    throughput.tokens, throughput.seconds, throughput.waiting = 640, 8.0, 2.0
    assert throughput.take() == {"tokens_per_second": 80, "data_wait": 0.25, "mfu": 0.4}
    throughput.tokens, throughput.seconds = 640, 4.0
    assert throughput.take() == {"tokens_per_second": 160, "data_wait": 0.0, "mfu": 0.8}
    unknown = Throughput(100, None, tokens=1, seconds=1.0)
    assert "mfu" not in unknown.take()


def test_the_progress_bar_shows_the_rate_of_several_steps(make_trainer, monkeypatch):
    """As on a GPU, where the host waits for two steps where a line is logged and for none in the next one."""
    throughput, shown = Throughput(100, None), []
    for seconds in 5 * [0.2, 0.2, 0.2, 0.4, 0.0001]:
        throughput.add(64, seconds)
        shown.append(throughput.recent_rate())
    assert shown[10:] == pytest.approx(15 * [64 / 0.2], rel=0.1)
    assert throughput.take()["tokens_per_second"] == 320

    trainer, shown, steps = make_trainer("run"), [], []
    add = trainer.throughput.add
    trainer.throughput.add = lambda tokens, seconds: (add(tokens, seconds), steps.append(seconds))
    monkeypatch.setattr(Progress, "show_step", lambda progress, loss, rate: shown.append(rate))
    trainer.run()
    assert shown == pytest.approx([64 * n / sum(steps[:n]) for n in range(1, 5)])


def test_a_line_of_the_record_has_all_of_it(make_trainer):
    trainer = make_trainer("run")
    trainer.run()
    line = next(line for line in read_lines(trainer.metrics.path) if line["step"] == 4)
    norm = math.sqrt(sum(p.double().square().sum().item() for p in trainer.model.parameters()))
    assert line["param_norm"] == pytest.approx(norm, rel=1e-5)
    assert 0 <= line["data_wait"] < 1
    assert line["memory_bytes"] > 50e6


def test_spikes_by_hand():
    watch = SpikeDetector()
    watch.load_state_dict({"recent": [4.0, 2.0] * 20, "count": 3})
    assert not watch(8.9)
    watch.load_state_dict({"recent": [4.0, 2.0] * 20, "count": 3})
    assert watch(9.1)
    assert (watch.count, watch.recent[-1]) == (4, 9.1)
    for _ in range(500):
        watch(1.0)
    assert list(watch.recent) == [1.0] * 128


FALLING = [10.8, 10.5, 10.1, 9.9, 9.4, 9.1, 8.9, 8.3, 8.2, 7.9, 7.8, 7.5, 7.4, 7.4, 7.2, 7.1, 7.0, 6.9, 6.87]


def test_spike_detector_reports_an_early_jump():
    """A jump seen at step 20 of a real run, in the phase in which the loss falls fast."""
    detector = SpikeDetector()
    assert not any(detector(loss) for loss in FALLING)
    assert detector(15.4)
    assert not detector(6.73)
    assert detector.count == 1


def test_spike_detector_needs_four_losses():
    detector = SpikeDetector()
    assert not any(detector(loss) for loss in (3.0, 3.0, 3.0))
    assert not SpikeDetector()(99.0)
    assert not detector(3.1)
    assert not detector(3.69)  # the largest, 3.1, and six times the smallest deviation, 0.1
    assert detector(9.0)


def test_spike_detector_tolerates_noise_in_the_early_phase():
    detector = SpikeDetector()
    assert not any(detector(loss) for loss in [4.0, 2.0] * 15)


def test_loss_window_has_mean_and_maximum_since_the_last_line(make_trainer):
    every, tenth = make_trainer("every", max_steps=7), make_trainer("tenth", max_steps=7, log_every=3)
    every.run()
    tenth.run()
    losses = {line["step"]: line["loss"] for line in read_lines(every.metrics.path) if "loss" in line}
    lines = {line["step"]: line for line in read_lines(tenth.metrics.path) if "loss" in line}
    assert list(lines) == [1, 3, 6, 7]
    for first, step in ((1, 1), (2, 3), (4, 6), (7, 7)):
        window = [losses[k] for k in range(first, step + 1)]
        assert lines[step]["loss_mean"] == pytest.approx(sum(window) / len(window), rel=1e-12)
        assert lines[step]["loss_max"] == max(window)


def test_a_spike_is_reported_and_counted(make_trainer, caplog):
    trainer = make_trainer("run", max_steps=44)
    launch_step = trainer.launch_step

    def jumping(step):
        result = launch_step(step)
        return dataclasses.replace(result, loss=torch.tensor(99.0)) if step == 40 else result

    trainer.launch_step = jumping
    trainer.run()
    assert caplog.text.count("step 41: the loss jumped to 99.000") == 1
    assert trainer.state.spikes.count == 1


SAMPLES = SamplesConfig(every=2, prompts=["", "par"], sampling=SamplingConfig(max_new_tokens=5, seed=3))


def test_samples_of_a_run_with_one_validation_at_its_end(make_trainer):
    trainer = make_trainer("run", samples=SAMPLES, max_steps=3, eval_every=0)
    trainer.run()
    assert {line["step"] for line in read_lines(trainer.metrics.samples_path)} == {3}


def test_samples_are_the_models_and_change_nothing(make_trainer):
    settings = {"max_steps": 9, "eval_every": 2, "model": DROPOUT}
    sampling, silent = make_trainer("sampling", samples=SAMPLES, **settings), make_trainer("silent", **settings)
    assert sampling.run().validation == silent.run().validation
    losses = [[line.get("loss") for line in read_lines(t.metrics.path)] for t in (sampling, silent)]
    assert losses[0] == losses[1]
    lines = read_lines(sampling.metrics.samples_path)
    assert [(line["step"], line["prompt"]) for line in lines] == [(s, p) for s in (4, 8, 9) for p in ("", "par")]
    prompts = [[256], list(b"par")]
    again = generate(sampling.model, prompts, SAMPLES.sampling, eot_id=256, runtime=sampling.runtime)
    assert [line["text"] for line in lines[-2:]] == [bytes(ids).decode(errors="replace") for ids in again]
    assert not silent.metrics.samples_path.exists()


def test_a_trace_is_left(make_trainer):
    trainer = make_trainer("run", max_steps=8, runtime={"profile": True})
    trainer.run()
    events = json.loads((trainer.metrics.path.parent / "profile" / "rank0.json").read_text())["traceEvents"]
    assert sum(event["name"].startswith("ProfilerStep#") and event["ph"] == "X" for event in events) == 3
    assert any(event["name"] == "aten::mm" for event in events)


def test_a_signal_in_an_evaluation_is_answered_before_its_next_batch(make_trainer):
    """The validation that was cut short is made up for, so that the record is that of a run which was not stopped."""
    settings = {"max_steps": 6, "eval_every": 3, "checkpoint_every": 0, "micro_batch_size": 1, "model": DROPOUT}
    straight, stopped, resumed = (make_trainer(name, **settings) for name in ("straight", "stopped", "resumed"))
    straight.run()
    windows, scored = stopped.validator.windows, []

    class Interrupting:
        def __len__(self):
            return len(windows)

        def batch(self, start, stop):
            scored.append(start)
            if start == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            return windows.batch(start, stop)

    stopped.validator.windows = Interrupting()
    with pytest.raises(StoppedError, match="SIGTERM at step 3, which is saved"):
        stopped.run()
    assert scored == [0, 1, 2]
    assert len(windows) > 4
    resumed.checkpoints.load(stopped.checkpoints.folder / "step_00000003")
    resumed.metrics = stopped.metrics
    resumed.run()
    kept = ("step", "loss", "val_loss")
    records = [[{k: line.get(k) for k in kept} for line in read_lines(t.metrics.path)] for t in (straight, resumed)]
    assert records[0] == records[1]
    for one, other in zip(straight.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_model_of_another_size_has_other_flops():
    sizes = [flops_per_token(GPT(ModelConfig(n_layer=n, n_head=2, n_embd=16, vocab_size=50)), 8) for n in (1, 2, 3)]
    assert sizes[2] - sizes[1] == sizes[1] - sizes[0] == 6 * 12 * 16 * 16 + 12 * 16 * 8


def test_a_signal_within_a_step_is_answered_before_its_next_micro_batch(make_trainer):
    settings = {"max_steps": 5, "checkpoint_every": 0, "micro_batch_size": 1, "model": DROPOUT}
    straight, stopped = (make_trainer(name, **settings) for name in ("straight", "stopped"))
    straight.run()
    forward, passes = stopped.update.loss.forward, []

    def interrupting(*inputs):
        passes.append(stopped.state.step)
        if len(passes) == 14:  # a step has 4 micro-batches
            os.kill(os.getpid(), signal.SIGTERM)
        return forward(*inputs)

    stopped.update.loss.forward = interrupting
    with pytest.raises(StoppedError, match="SIGTERM at step 3, which is saved"):
        stopped.run()
    assert passes == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 2
    # the same trainer continues: nothing of the step that was ended is left in its gradients
    stopped.signals.received = 0
    stopped.run()
    for one, other in zip(straight.model.parameters(), stopped.model.parameters(), strict=True):
        assert torch.equal(one, other)
