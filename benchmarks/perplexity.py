"""Perplexity of long documents: gpt2lab beside lm-evaluation-harness's Hugging Face backend, on the same weights.

    python benchmarks/perplexity.py [--layers 4] [--width 256] [--context 1024] [--batch 8] [--kilobytes 100]

Both score the same text of Python's standard library with lm_eval's rolling windows, in float32 on the CPU, each in a
Python process of its own, in turns. Timed is the scoring alone, tokenising included, imports and loading not; memory is
the peak of the whole process. Prints a Markdown table: the best tokens a second of several, and the largest memory.
"""

import argparse
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from gpt2lab.config import ModelConfig
from gpt2lab.model import GPT
from gpt2lab.tokenizers import load_tokenizer
from gpt2lab.weights import save_pretrained

ROOT = Path(__file__).resolve().parent.parent
REPORT = """
print(json.dumps({"nll": nll, "seconds": seconds, "kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))
"""

WAYS = {
    "lm_eval, Hugging Face backend": """
import json, resource, sys, time
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
model = HFLM(sys.argv[1], device="cpu", dtype="float32", batch_size=int(sys.argv[3]))
texts = json.load(open(sys.argv[2]))
started = time.perf_counter()
nll = -sum(model.loglikelihood_rolling([Instance("loglikelihood_rolling", {}, (t,), i) for i, t in enumerate(texts)]))
seconds = time.perf_counter() - started
""",
    "gpt2lab": """
import json, resource, sys, time
from gpt2lab.config import CorpusConfig, EvalConfig, RuntimeConfig
from gpt2lab.evaluation.perplexity.evaluate import evaluate_perplexity
from gpt2lab.evaluation.text_model import TextModel
from gpt2lab.runtime import open_runtime
from gpt2lab.weights import open_model
runtime = open_runtime(RuntimeConfig(device="cpu", precision="fp32"))
opened = open_model(sys.argv[1], runtime.device)
with open(sys.argv[2] + ".jsonl", "w") as file:
    file.writelines(json.dumps({"text": text}) + "\\n" for text in json.load(open(sys.argv[2])))
corpus = CorpusConfig(name="files", form="documents", file=sys.argv[2] + ".jsonl")
config = EvalConfig(protocol="lm_eval", corpus=corpus, batch_size=int(sys.argv[3]))
started = time.perf_counter()
nll = evaluate_perplexity(TextModel(opened.model, opened.tokenizer, opened.source, runtime), config).metrics["nll"]
seconds = time.perf_counter() - started
""",
}


def write_model(folder: Path, layers: int, width: int, context: int) -> None:
    """A model with random weights and GPT-2's vocabulary, as a Hugging Face directory."""
    shape = ModelConfig(n_layer=layers, n_head=width // 64, n_embd=width, block_size=context, vocab_size=50_257)
    save_pretrained(GPT(shape), load_tokenizer("gpt2"), folder)


def read_texts(size: int) -> list[str]:
    """Files of the standard library, whole, until there are ``size`` bytes."""
    texts: list[str] = []
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        if sum(map(len, texts)) >= size:
            break
        texts.append(path.read_text(encoding="utf-8"))
    return texts


def measure(way: str, model: Path, texts: Path, batch_size: int) -> dict[str, float]:
    """Run one way once."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-c", WAYS[way] + REPORT, str(model), str(texts), str(batch_size)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(result.stdout.splitlines()[-1])


def main() -> None:
    """Make model and text, measure in turns, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = {"layers": 4, "width": 256, "context": 1024, "batch": 8, "kilobytes": 100, "repeat": 3}
    for name, size in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=size)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model, texts = Path(folder, "model"), Path(folder, "texts.json")
        write_model(model, given.layers, given.width, given.context)
        content = read_texts(given.kilobytes * 1000)
        texts.write_text(json.dumps(content))
        tokens = sum(len(load_tokenizer("gpt2").encode(text)) for text in content)
        runs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
        for _ in range(given.repeat):
            for way in WAYS:
                runs[way].append(measure(way, model, texts, given.batch))
    best = {way: min(run["seconds"] for run in results) for way, results in runs.items()}
    memory = {way: max(run["kib"] for run in results) / 1024 for way, results in runs.items()}
    theirs = next(iter(WAYS))
    shape = f"{given.layers} layers, {given.width} wide, context {given.context}, batches of {given.batch}"
    print(f"## {shape}; {tokens:,} tokens\n")
    print("| way | seconds | tokens/s | ratio | peak memory | ratio | nll |")
    print("|---|---|---|---|---|---|---|")
    for way in WAYS:
        print(
            f"| {way} | {best[way]:.2f} | {tokens / best[way]:,.0f} | {best[theirs] / best[way]:.2f} | "
            f"{memory[way]:,.0f} MiB | {memory[way] / memory[theirs]:.2f} | {runs[way][0]['nll']:,.3f} |"
        )


if __name__ == "__main__":
    main()
