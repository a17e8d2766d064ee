"""sample: what goes to standard output, where prompts come from, and how a sample ends."""

import io
import json
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from gpt2lab.cli.compose import compose_config
from gpt2lab.commands import sampling
from gpt2lab.commands.sampling import draw_continuations, sample, show_text
from gpt2lab.config import RuntimeConfig, SampleJob, SamplingConfig, UserError
from gpt2lab.distributed import World
from gpt2lab.generation.text import Continuation
from gpt2lab.model import GPT
from gpt2lab.tokenizers import load_tokenizer
from gpt2lab.weights import LoadedModel


@pytest.fixture
def make_job(folder):
    def make(max_new_tokens=12, num_samples=2, **settings):
        sampling = SamplingConfig(max_new_tokens=max_new_tokens, num_samples=num_samples)
        runtime = RuntimeConfig(device="cpu", precision="fp32")
        return SampleJob(checkpoint=str(folder), sampling=sampling, runtime=runtime, **settings)

    return make


def test_standard_output_holds_the_prompt_and_the_text_alone(make_job, capsys):
    made = sample(make_job(prompt="the fox"))
    assert capsys.readouterr().out == "".join(f"the fox{one.text}\n" for one in made)
    assert len(made) == 2
    assert made[0].text != made[1].text


def test_samples_are_the_same_one_by_one_and_together(make_job, capsys):
    one_by_one, together = (sample(make_job(prompt="the", stream=stream)) for stream in (True, False))
    assert [one.text for one in one_by_one] == [one.text for one in together]


def test_several_processes_cannot_print_while_they_draw(make_job, monkeypatch):
    monkeypatch.setattr(sampling, "open_world", lambda: World(size=2))
    with pytest.raises(UserError, match=r"^stream=true: 2 processes draw all samples .* try stream=false$"):
        sample(make_job())


@pytest.mark.parametrize(("positions", "prompt", "warned"), [("learned", 6, 1), ("learned", 5, 0), ("rope", 6, 0)])
def test_learned_positions_that_were_never_trained_are_a_warning(
    make_job, tiny_model, cpu, caplog, positions, prompt, warned
):
    """The last token drawn is never read, so 6 + 12 tokens take position 17 of a model that was trained on 16."""
    model = tiny_model(positions=positions, vocab_size=257, block_size=64)
    loaded = LoadedModel(model, load_tokenizer("bytes"), SimpleNamespace(context=16))
    list(draw_continuations(make_job(), ["a", "b" * prompt], loaded, cpu, World()))
    expected = "prompt and samples have up to 17 tokens, training.sequence_length=16: later learned positions are"
    assert sum(expected in message and message.endswith("by 1") for message in caplog.messages) == warned


def test_json_lines_hold_everything(make_job, capsys):
    made = sample(make_job(prompt="the\n'fox'", format="jsonl"))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        {
            "sample": i,
            "prompt": "the\n'fox'",
            "text": one.text,
            "tokens": one.tokens,
            "finish_reason": one.finish_reason,
        }
        for i, one in enumerate(made, 1)
    ]
    assert {one.finish_reason for one in made} <= {"length", "end_of_text"}


def test_stop_strings_end_a_sample_and_are_no_part_of_it(make_job, capsys):
    (free,) = sample(make_job(num_samples=1))
    stop = free.text[len(free.text) // 2 :][:3]
    (stopped,) = sample(make_job(num_samples=1, stop=[stop, "never seen"]))
    assert (stopped.text, stopped.finish_reason) == (free.text[: free.text.index(stop)], "stop")


@pytest.mark.parametrize(
    ("typed", "stop"),
    [(r'["\n"]', "\n"), (r'["a\tb"]', "a\tb"), (r'["\\n"]', r"\n"), (r'["\d\\"]', "\\d\\"), ('["\n"]', "\n")],
)
def test_escapes_in_a_typed_stop_string_are_characters(make_job, monkeypatch, typed, stop):
    used = []

    def continuation(ids, tokenizer, limit, stop):
        used.extend(stop)
        return Continuation([], tokenizer, limit)

    monkeypatch.setattr(sampling, "Continuation", continuation)
    sample(make_job(num_samples=1, stop=compose_config("sample", [f"stop={typed}"]).stop))
    assert used == [stop]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1", "utf-16"])
def test_json_lines_are_json_in_every_encoding_of_standard_output(make_job, monkeypatch, encoding):
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding, errors="backslashreplace"))
    sample(make_job(prompt="café \u65e5", format="jsonl", num_samples=1))
    text = shown.getvalue().decode("utf-16" if encoding == "utf-16" else "utf-8")
    assert json.loads(text)["prompt"] == "café \u65e5"
    assert ("é" in text) == encoding.startswith("utf")


@pytest.mark.parametrize("content", ["the fox", "the fox\n", "\ufeffthe fox\r\n"])
def test_prompt_from_standard_input_and_from_a_file(make_job, capsys, monkeypatch, tmp_path, content):
    expected = [one.text for one in sample(make_job(prompt="the fox"))]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
    assert [one.text for one in sample(make_job(prompt="-"))] == expected
    (tmp_path / "prompt.txt").write_text(content)
    assert [one.text for one in sample(make_job(prompt_file=str(tmp_path / "prompt.txt")))] == expected


@pytest.mark.parametrize("name", ["prompts.txt", "prompts.jsonl", "-"])
@pytest.mark.parametrize(("stream", "mark"), [(True, ""), (False, "\ufeff")])
def test_each_prompt_of_a_file_gets_its_samples(make_job, capsys, monkeypatch, tmp_path, name, stream, mark):
    prompts = ["the fox", "12", "naïve café"]
    lines = [json.dumps({"prompt": prompt, "id": 7}) if name.endswith("jsonl") else prompt for prompt in prompts]
    content = mark + "\r\n\n".join(lines)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
    (tmp_path / name).write_text(content)
    file = name if name == "-" else str(tmp_path / name)
    made = sample(make_job(prompts_file=file, format="jsonl", stream=stream))
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["sample"], one["prompt"]) for one in shown] == list(
        enumerate(sorted(prompts * 2, key=prompts.index), 1)
    )
    assert [one["text"] for one in shown] == [one.text for one in made]
    alone = sample(make_job(prompt=prompts[0]))
    assert [one.text for one in made[:2]] == [one.text for one in alone]
    assert made[4].text != made[0].text


def test_impossible_settings_are_one_line(make_job, tmp_path):
    with pytest.raises(UserError, match="prompt=a and prompt_file=b: give one"):
        make_job(prompt="a", prompt_file="b")
    with pytest.raises(UserError, match="prompt=a and prompts_file=b: give one"):
        make_job(prompt="a", prompts_file="b")
    for content, message in (
        ("\n", "no prompt; expected one on each line"),
        ('{"prompt": "a"}\n{"text": "a"}', 'line 2: expected {"prompt": "text"}'),
        ("[", "line 1"),
        ('{"prompt": 3}', "line 1"),
    ):
        (tmp_path / "p.jsonl").write_text(content)
        with pytest.raises(UserError, match=re.escape(message)):
            sample(make_job(prompts_file=str(tmp_path / "p.jsonl")))
    with pytest.raises(UserError, match="stop="):
        make_job(stop=[""])
    with pytest.raises(UserError, match=r"^stop=the: expected a list of strings; try 'stop=\[\"the\"\]'$"):
        make_job(stop="the")
    with pytest.raises(UserError, match=r"^stop=the: expected a list; try 'stop=\[the\]'$"):
        compose_config("sample", ["stop=the"])
    with pytest.raises(UserError, match="format=xml: expected one of text, jsonl"):
        sample(make_job(format="xml"))
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    with pytest.raises(UserError, match=r"prompt_file=.*: expected UTF-8, byte 3 is not"):
        sample(make_job(prompt_file=str(tmp_path / "latin")))


def test_a_closed_pipe_ends_without_a_traceback_and_notices_are_on_standard_error(folder):
    arguments = ["-m", "gpt2lab.cli", "sample", f"checkpoint={folder}", "sampling.num_samples=50"]
    arguments += ["sampling.max_new_tokens=40", "format=jsonl", "runtime.device=cpu"]
    with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        first = process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read().decode()
    assert json.loads(first)["sample"] == 1
    assert process.returncode == 0
    assert "Traceback" not in errors
    assert "--- sample 1 of 50" in errors


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"stream": False, "num_samples": 4}, "decoding 4 samples at once: type sampling.batch_size=2$"),
        ({"num_samples": 4}, "decoding 1 samples at once: expected a device with more memory; try runtime.device=cpu$"),
    ],
)
def test_out_of_memory_says_what_to_type(make_job, monkeypatch, settings, line):
    def full(*arguments, **keywords):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(GPT, "hidden", full)
    with pytest.raises(UserError, match=f"^out of memory in {line}"):
        sample(make_job(prompt="the", **settings))


def test_an_error_line_after_an_interrupted_sample_begins_on_its_own_line(capsys):
    def interrupted():
        yield "of"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        show_text(1, "the state ", interrupted())
    assert capsys.readouterr().out == "the state of\n"
