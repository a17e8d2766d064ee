"""Perplexity with a sliding window, and multiple-choice questions, against ``transformers`` and lm_eval's backend."""

import sysconfig
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import Pair
from benchmarks.models import DTYPES, device_of, export, keep_freed_memory, our_model, our_runtime, their_model
from gpt2lab.evaluation.scoring import score_tokens
from gpt2lab.evaluation.tasks.likelihoods import Request, score_requests
from gpt2lab.evaluation.text_model import TextModel
from gpt2lab.evaluation.windows import sliding_windows
from gpt2lab.tokenizers import load_tokenizer
from gpt2lab.weights import open_model


def text(size: int) -> str:
    """The beginning of Python's standard library."""
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    return "\n".join(path.read_text(encoding="utf-8") for path in files[:20])[:size]


def ids_of(case: Mapping[str, Any]) -> list[int]:
    """Its first tokens."""
    return load_tokenizer("gpt2").encode(text(20 * case["tokens"]))[: case["tokens"]]


def gpt2lab(case: Mapping[str, Any]) -> Callable[[], float]:
    """``score_tokens``, which every protocol of the perplexity uses."""
    model, runtime, ids = our_model(case).eval(), our_runtime(case), np.array(ids_of(case))
    windows = list(sliding_windows(len(ids), model.config.block_size, case["stride"]))

    def run() -> float:
        score_tokens(model, ids, windows, runtime, case.get("batch", 2))
        return len(ids)

    return run


def transformers(case: Mapping[str, Any]) -> Callable[[], float]:
    """The loop of its documentation of perplexity: windows, labels of -100 for the context."""
    keep_freed_memory(case)
    model = their_model(case).to(DTYPES[case["precision"]]).eval()
    ids = torch.tensor([ids_of(case)], device=device_of(case))
    context, stride = model.config.n_positions, case["stride"]

    def run() -> float:
        previous_end, total = 0, 0.0
        for begin in range(0, ids.shape[1], stride):
            end = min(begin + context, ids.shape[1])
            window, scored = ids[:, begin:end], end - previous_end
            labels = window.clone()
            labels[:, :-scored] = -100
            with torch.no_grad():
                total += model(window, labels=labels).loss.item() * scored
            previous_end = end
            if end == ids.shape[1]:
                break
        return ids.shape[1]

    return run


def questions(case: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Contexts of about 100 tokens, each with four short choices."""
    whole = text(case["questions"] * 400)
    contexts = [whole[i * 400 : (i + 1) * 400].strip() for i in range(case["questions"])]
    return [(context, f" {choice}") for context in contexts for choice in ("yes", "no", "a list", "an integer")]


def our_tasks(case: Mapping[str, Any]) -> Callable[[], float]:
    """``score_requests``, which tasks and the lm_eval adapter use."""
    runtime = our_runtime(case)
    with tempfile.TemporaryDirectory() as folder:
        export(case, Path(folder))
        opened = open_model(folder, runtime.device)
    text_model = TextModel(**vars(opened), runtime=runtime)
    requests = [Request(*question) for question in questions(case)]

    def run() -> float:
        score_requests(text_model, requests, case.get("batch", 8))
        return len(requests)

    return run


def lm_eval_tasks(case: Mapping[str, Any]) -> Callable[[], float]:
    """lm_eval's Hugging Face backend."""
    keep_freed_memory(case)
    from lm_eval.api.instance import Instance  # noqa: PLC0415
    from lm_eval.models.huggingface import HFLM  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        export(case, Path(folder))
        dtype = {"fp32": "float32", "bf16": "bfloat16"}[case["precision"]]
        model = HFLM(folder, device=str(device_of(case)), dtype=dtype, batch_size=case.get("batch", 8))
    asked = [Instance("loglikelihood", {}, question, i) for i, question in enumerate(questions(case))]

    def run() -> float:
        model.loglikelihood(asked, disable_tqdm=True)
        return len(asked)

    return run


WORKERS = {"gpt2lab": gpt2lab, "transformers": transformers, "gpt2lab tasks": our_tasks, "lm_eval HF": lm_eval_tasks}
PAIRS = [
    Pair("perplexity small, stride 512, bf16", "gpt2lab", "transformers",
         {"shape": "small", "precision": "bf16", "tokens": 3000, "stride": 512}, target=2.0, quick=True),
    Pair("perplexity small, stride 512, fp32", "gpt2lab", "transformers",
         {"shape": "small", "precision": "fp32", "tokens": 3000, "stride": 512}, target=1.3, quick=True),
    *(Pair(f"multiple choice small, 4 choices, {precision}", "gpt2lab tasks", "lm_eval HF",
           {"shape": "small", "precision": precision, "questions": 6}, unit="requests", target=3.0, quick=True)
      for precision in ("bf16", "fp32")),
]  # fmt: skip
GPU = {"device": "cuda", "shape": "medium", "precision": "bf16"}
GPU_PAIRS = [
    Pair("perplexity medium, stride 512, bf16", "gpt2lab", "transformers",
         {**GPU, "tokens": 60_000, "stride": 512, "batch": 16}, target=1.5, quick=True),
    Pair("multiple choice medium, 4 choices, bf16", "gpt2lab tasks", "lm_eval HF",
         {**GPU, "questions": 100, "batch": 64}, unit="requests", target=3.0),
]  # fmt: skip
