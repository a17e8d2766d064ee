"""Several gloo processes evaluate and sample as one does."""

import json
import subprocess
import sys
import time

import pytest

from tests.integration.conftest import ONE_THREAD, ROOT, run_ranks

pytestmark = pytest.mark.slow
PAIR = {"sentence_good": "A cat sits.", "sentence_bad": "A cat sit.", "linguistics_term": "agreement"}
EVALUATION = [
    "eval.parts=[perplexity,tasks,context,sample_quality]", "eval.tasks.names=[blimp,lambada_openai]",
    "eval.tasks.folder=questions", "eval.tasks.batch_size=3", "eval.sample_quality.num_prompts=10",
    "eval.sample_quality.new_tokens=8", "eval.sample_quality.batch_size=3",
    "eval.sample_quality.decoding=[{temperature:1.0},{top_k:40}]",
]  # fmt: skip


def test_three_processes_evaluate_as_one(trained, workplace):
    """The same table but for file names, the same scores of documents, samples and numbers in eval.json."""
    (workplace / "questions" / "blimp").mkdir(parents=True)
    pairs = [{**PAIR, "sentence_bad": f"A cat sit{'.' * n}"} for n in range(1, 40)]
    (workplace / "questions" / "blimp" / "a.jsonl").write_text("".join(f"{json.dumps(pair)}\n" for pair in pairs))
    # the model has learned that after a space there is another one: some last tokens are greedy, others are not
    texts = [f"{'x' * n} {ending}" for n in range(1, 9) for ending in " ab"]
    (workplace / "questions" / "lambada_openai.jsonl").write_text(
        "".join(f"{json.dumps({'text': text})}\n" for text in texts)
    )
    shown = {
        n: run_ranks(
            workplace, "eval.py", n, "checkpoint=runs/trained", *EVALUATION, "eval.batch_size=2",
            "eval.context.num_blocks=20", f"out={n}/eval.json",
        ).stdout.replace(f"/{n}/eval.json", "/N/eval.json").replace(f" {n}/eval.json", " N/eval.json")
        for n in (1, 3)
    }  # fmt: skip
    assert shown[1] == shown[3]
    assert "bits_per_byte" in shown[1]
    one, three = (workplace / str(n) for n in (1, 3))
    assert (one / "documents.jsonl").read_bytes() == (three / "documents.jsonl").read_bytes()
    (samples,) = one.glob("*.samples.jsonl")
    assert samples.read_bytes() == (three / samples.name).read_bytes()
    entries = [json.loads((folder / "eval.json").read_text())["evaluations"] for folder in (one, three)]
    assert 0 < entries[0][1]["lambada_openai"]["acc_last_token"] < 1
    for of_one, of_three in zip(*entries, strict=True):
        differing = {key for key in of_one if of_one[key] != of_three[key]}
        assert differing <= {"job", "environment", "wall_seconds", "tokens_per_second"}, differing


def test_three_processes_draw_the_samples_of_one(trained, workplace):
    (workplace / "prompts.txt").write_text("".join(f"def {'f' * n}\n" for n in range(1, 6)))
    settings = ["checkpoint=runs/trained", "prompts_file=prompts.txt", "sampling.num_samples=2", "stream=false"]
    settings += ["sampling.max_new_tokens=9", "format=jsonl"]
    one, three = (run_ranks(workplace, "sample.py", n, *settings) for n in (1, 3))
    assert len(one.stdout.splitlines()) == 10
    assert three.stdout == one.stdout


RAISING_IN_EVALUATION = """
import os, sys
from gpt2lab.evaluation import scoring
hidden_states = scoring.hidden_states
calls = []
def raising(*arguments):
    calls.append(arguments)
    if len(calls) == 3 and os.environ["RANK"] == "1":
        raise RuntimeError("planted on one process")
    return hidden_states(*arguments)
scoring.hidden_states = raising
sys.argv[0] = "eval.py"
from gpt2lab.cli.main import run_command
run_command("eval")
"""


def test_a_process_that_raises_ends_the_evaluation(trained, workplace):
    (workplace / "planted.py").write_text(RAISING_IN_EVALUATION)
    started = time.monotonic()
    result = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "planted.py",
         "checkpoint=runs/trained", "eval.batch_size=2", "out=failed.json"],
        cwd=workplace, env=ONE_THREAD | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode != 0
    assert "RuntimeError: planted on one process" in result.stderr
    assert time.monotonic() - started < 60
    assert not (workplace / "failed.json").exists()
