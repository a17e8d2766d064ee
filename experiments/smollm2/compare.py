"""Compare gpt2lab with transformers and lm-evaluation-harness on SmolLM2-135M.

    python experiments/smollm2/compare.py MODEL TEXT

MODEL is the directory that convert.py writes, TEXT a UTF-8 file of some ten kilobytes. The windows have 512 tokens, so
that a small text has several; RoPE reads them as in the full context of 8,192.
"""

import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import lm_eval
import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from transformers import AutoModelForCausalLM, AutoTokenizer

CONTEXT, STRIDE = 512, 256
TASK = "local_text"


def main(model: str, text_file: str) -> None:
    """Print each number of gpt2lab beside the other library's; fail if they differ by more than 1e-4."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        short = with_short_context(Path(model), folder / "model")
        text = Path(text_file).read_text(encoding="utf-8")
        write_task(folder, text)
        ours = gpt2lab("eval", f"eval.text_file={text_file}", "eval.protocol=huggingface", f"eval.stride={STRIDE}",
                       checkpoint=short, out=folder / "perplexity.json")  # fmt: skip
        harness = gpt2lab("eval", "eval=tasks", "eval.tasks.names=[]", f"eval.tasks.lm_eval=[{TASK}]",
                          f"eval.tasks.folder={folder}", checkpoint=short, out=folder / "tasks.json")  # fmt: skip
        pairs = [
            ("token perplexity, transformers' page", find(ours, "token_perplexity"), perplexity(short, text)),
            *(
                (f"{name}, lm-eval", find(harness, name), value)
                for name, value in harness_metrics(short, folder).items()
            ),
        ]
    for name, found, expected in pairs:
        print(f"{name:40s} gpt2lab {found:.6f}  reference {expected:.6f}  relative {found / expected - 1:+.1e}")
    assert all(abs(found / expected - 1) < 1e-4 for _, found, expected in pairs)


def with_short_context(model: Path, folder: Path) -> Path:
    """Return a directory of the same files whose config.json has ``CONTEXT`` positions."""
    folder.mkdir()
    for path in model.iterdir():
        if path.name != "config.json":
            (folder / path.name).symlink_to(path.resolve())
    settings = json.loads((model / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"max_position_embeddings": CONTEXT}))
    return folder


def gpt2lab(command: str, *overrides: str, checkpoint: Path, out: Path) -> dict[str, object]:
    """Run a command of gpt2lab in float32; return what it wrote."""
    arguments = [*overrides, f"checkpoint={checkpoint}", f"out={out}", "runtime.device=cpu", "runtime.precision=fp32"]
    subprocess.run([sys.executable, f"{command}.py", *arguments], check=True)
    record: dict[str, object] = json.loads(out.read_text())
    return record


def find(record: object, key: str) -> float:
    """Return the first number under ``key``, however deep."""
    if isinstance(record, dict):
        if isinstance(record.get(key), float):
            return record[key]
        return next((value for part in record.values() if not math.isnan(value := find(part, key))), math.nan)
    return math.nan


@torch.no_grad()
def perplexity(folder: Path, text: str) -> float:
    """The loop of "Perplexity of fixed-length models" in transformers' documentation, every scored token alike."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt").input_ids
    nll, scored, previous_end = 0.0, 0, 0
    for begin in range(0, ids.shape[1], STRIDE):
        end = min(begin + CONTEXT, ids.shape[1])
        labels = ids[:, begin:end].clone()
        labels[:, : max(0, previous_end - begin)] = -100
        n = int((labels[:, 1:] != -100).sum())
        nll += model(ids[:, begin:end], labels=labels).loss.item() * n
        scored, previous_end = scored + n, end
        if end == ids.shape[1]:
            break
    return math.exp(nll / scored)


def write_task(folder: Path, text: str) -> None:
    """Write a task of lm-eval that scores the text, each of its four parts as a document."""
    size = len(text) // 4
    rows = [{"page": text[i * size : (i + 1) * size]} for i in range(4)]
    (folder / "pages.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = json.dumps({"data_files": {"test": str(folder / "pages.jsonl")}, "cache_dir": str(folder / "cache")})
    aggregations = dict.fromkeys(("word_perplexity", "byte_perplexity"), "weighted_perplexity")
    metrics = "".join(
        f"  - {{metric: {name}, aggregation: {aggregation}, higher_is_better: false}}\n"
        for name, aggregation in {**aggregations, "bits_per_byte": "bits_per_byte"}.items()
    )
    (folder / f"{TASK}.yaml").write_text(
        f"task: {TASK}\ndataset_path: json\ndataset_kwargs: {files}\noutput_type: loglikelihood_rolling\n"
        f'test_split: test\ndoc_to_text: ""\ndoc_to_target: "{{{{page}}}}"\nmetric_list:\n{metrics}'
    )


def harness_metrics(folder: Path, tasks: Path) -> dict[str, float]:
    """The task's metrics by lm-eval's own backend for transformers."""
    model = HFLM(str(folder), device="cpu", batch_size=1, dtype="float32", max_length=CONTEXT)
    manager = TaskManager(include_path=str(tasks), include_defaults=False)
    results = lm_eval.simple_evaluate(model, tasks=[TASK], task_manager=manager, bootstrap_iters=0)
    metrics = results["results"][TASK]
    return {name: metrics[f"{name},none"] for name in ("word_perplexity", "byte_perplexity", "bits_per_byte")}


if __name__ == "__main__":
    main(*sys.argv[1:])
