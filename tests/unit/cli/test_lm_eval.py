"""lm-evaluation-harness's command with gpt2lab's models."""

import sys

import pytest
from lm_eval._cli import HarnessCLI

from gpt2lab.cli import lm_eval
from gpt2lab.config import UserError


@pytest.mark.parametrize(
    ("model", "typed", "device", "batch_size"),
    [
        ("gpt2lab", [], "auto", "16"),
        ("gpt2lab", ["--device", "cuda:0", "--batch_size", "1"], "cuda:0", "1"),
        ("gpt2lab", ["--config", "{config}"], None, "16"),
        ("hf", [], None, None),
    ],
)
def test_device_and_batch_size_are_the_harnesss_only_if_typed(tmp_path, monkeypatch, model, typed, device, batch_size):
    """Its defaults are cuda:0 and 1; what is left None here comes from the file, or is its default."""
    (tmp_path / "config.yaml").write_text("device: cpu\n")
    typed = [text.format(config=tmp_path / "config.yaml") for text in typed]
    monkeypatch.setattr(sys, "argv", ["lm_eval", "--model", model, "--tasks", "hellaswag", *typed])
    arguments = lm_eval.with_own_defaults(HarnessCLI().parse_args())
    assert (arguments.device, getattr(arguments, "batch_size", None)) == (device, batch_size)


@pytest.mark.parametrize(
    ("typed", "given"),
    [
        (["checkpoint=s/lr=3e-4,seed=1,device=cpu"], {"checkpoint": "s/lr=3e-4,seed=1", "device": "cpu"}),
        (["precision=fp32", "checkpoint=s/a=1,b=2"], {"precision": "fp32", "checkpoint": "s/a=1,b=2"}),
        (['{"checkpoint": "s/precision=bf16,seed=1"}'], {"checkpoint": "s/precision=bf16,seed=1"}),
        (["pretrained=gpt2,dtype=float32"], {"pretrained": "gpt2", "dtype": "float32"}),
    ],
)  # fmt: skip
def test_a_checkpoints_name_may_hold_commas_and_equals_signs(typed, given):
    lines = [["--model_args", *typed], ["-a", *typed]] + ([[f"--model_args={typed[0]}"]] if len(typed) == 1 else [])
    for line in lines:
        words = lm_eval.with_model_args_as_json(["run", *line, "--tasks", "hellaswag"])
        arguments = HarnessCLI()._parser.parse_args(words)
        assert (arguments.model_args, arguments.tasks) == (given, ["hellaswag"])


def test_a_mistake_of_the_users_is_one_line(monkeypatch, capsys):
    def execute(harness, arguments):
        raise UserError("checkpoint=nowhere: no such folder;\nexpected a run")

    monkeypatch.setattr(HarnessCLI, "execute", execute)
    monkeypatch.setattr(sys, "argv", ["lm_eval", "--model", "gpt2lab", "--tasks", "hellaswag"])
    with pytest.raises(SystemExit) as ended:
        lm_eval.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: checkpoint=nowhere: no such folder; expected a run\n"
