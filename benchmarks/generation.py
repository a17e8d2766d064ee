"""Generation of text, against ``transformers``' ``generate`` with the same weights, prompt and length."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from benchmarks.harness import Pair, Worker
from benchmarks.models import DTYPES, device_of, keep_freed_memory, our_model, our_runtime, their_model
from gpt2lab.config import SamplingConfig
from gpt2lab.generation import generate

PROMPT = [464, 3290, 318, 257, 1310, 3290, 286, 262]


def gpt2lab(case: Mapping[str, Any]) -> Callable[[], float]:
    """``generate``."""
    model, runtime = our_model(case).eval(), our_runtime(case)
    decoding = {"top_p": case["top_p"]} if "top_p" in case else {"temperature": 0}
    sampling = SamplingConfig(max_new_tokens=case["new"], batch_size=case["batch"], **decoding)

    def run() -> float:
        rows = generate(model, [PROMPT] * case["batch"], sampling, eot_id=-1, runtime=runtime)
        return sum(map(len, rows))

    return run


def transformers(precision: str) -> Worker:
    """``generate`` of a model in this precision."""

    def prepare(case: Mapping[str, Any]) -> Callable[[], float]:
        keep_freed_memory(case)
        model = their_model(case).to(DTYPES[precision]).eval()
        ids = torch.tensor([PROMPT] * case["batch"], device=device_of(case))
        options = {"do_sample": True, "top_p": case["top_p"], "top_k": 0} if "top_p" in case else {"do_sample": False}
        length = {"max_new_tokens": case["new"], "min_new_tokens": case["new"], "pad_token_id": 0}

        def run() -> float:
            with torch.inference_mode():
                model.generate(ids, attention_mask=torch.ones_like(ids), **length, **options)
            return case["batch"] * case["new"]

        return run

    return prepare


WORKERS = {
    "gpt2lab": gpt2lab,
    "transformers fp32": transformers("fp32"),
    "transformers bf16": transformers("bf16"),
}
SMALL = {"shape": "small", "precision": "auto", "logits": 6.0}
NANO = {"shape": "nano", "precision": "auto", "logits": 6.0}
PAIRS = [
    Pair(f"generate small, batch {batch}, {name}, auto", "gpt2lab", f"transformers {theirs}",
         {**SMALL, "theirs": theirs, "batch": batch, "new": new, **decoding},
         target=1.6 if batch < 32 and not decoding else None, quick=batch < 32 and not decoding)
    for batch, new in ((1, 64), (8, 48), (32, 24))
    for name, decoding in (("greedy", {}), ("top_p 0.9", {"top_p": 0.9}))
    for theirs in ("fp32", "bf16")
] + [
    Pair("generate small, batch 8, 192 tokens, fp32", "gpt2lab", "transformers fp32",
         {**SMALL, "precision": "fp32", "batch": 8, "new": 24}),
    *(Pair("generate nano, batch 1, greedy, auto", "gpt2lab", f"transformers {theirs}",
           {**NANO, "theirs": theirs, "batch": 1, "new": 200}, target=3.0, quick=True)
      for theirs in ("fp32", "bf16")),
]  # fmt: skip
GPU_MEDIUM = {"device": "cuda", "shape": "medium", "precision": "bf16", "logits": 6.0}
GPU_PAIRS = [
    Pair(f"generate medium, batch {batch}, {name}, bf16", "gpt2lab", "transformers bf16",
         {**GPU_MEDIUM, "batch": batch, "new": 128, **decoding},
         target={1: 5.0, 32: 2.0}.get(batch) if not decoding else None, quick=batch != 8 and not decoding)
    for batch in (1, 8, 32)
    for name, decoding in (("greedy", {}), ("top_p 0.9", {"top_p": 0.9}))
]  # fmt: skip
