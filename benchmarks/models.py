"""The shapes that are measured, as gpt2lab's model and as that of ``transformers`` with the same weights.

A case names the shape, the precision, and with ``device`` (cpu by default) where both sides work.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gpt2lab.config import ModelConfig, NormConfig, PositionsConfig, RuntimeConfig
from gpt2lab.model import GPT
from gpt2lab.runtime import Runtime, open_runtime
from gpt2lab.tokenizers import load_tokenizer
from gpt2lab.weights import save_pretrained

SHAPES = {
    "nano": {"n_layer": 4, "n_head": 2, "n_embd": 128, "block_size": 256},
    "small": {"n_layer": 12, "n_head": 12, "n_embd": 768, "block_size": 1024},
    "medium": {"n_layer": 24, "n_head": 16, "n_embd": 1024, "block_size": 1024},
    "large": {"n_layer": 36, "n_head": 20, "n_embd": 1280, "block_size": 1024},
}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def device_of(case: Mapping[str, Any]) -> torch.device:
    """Where the case is measured."""
    return torch.device(case.get("device", "cpu"))


def our_model(case: Mapping[str, Any]) -> GPT:
    """A model with random weights, large enough that next tokens are as uneven as those of a trained one."""
    torch.manual_seed(0)
    config = ModelConfig(
        **SHAPES[case["shape"]],
        positions=PositionsConfig(case.get("positions", "learned")),
        norm=NormConfig(case.get("norm", "layernorm")),
    )
    model = GPT(config)
    with torch.no_grad():
        model.wte.weight *= case.get("logits", 1.0)
    return model.to(device_of(case))


def our_runtime(case: Mapping[str, Any]) -> Runtime:
    """The device in the case's precision; on a CPU freed memory is kept, as in gpt2lab's commands."""
    return open_runtime(RuntimeConfig(device=case.get("device", "cpu"), precision=case["precision"]))


def their_model(case: Mapping[str, Any]) -> nn.Module:
    """The same weights in ``transformers``, float32."""
    from transformers import AutoModelForCausalLM  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        export(case, Path(folder))
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device_of(case))


def export(case: Mapping[str, Any], folder: Path) -> None:
    """Write the model as a Hugging Face directory with GPT-2's tokenizer."""
    save_pretrained(our_model(case), load_tokenizer("gpt2"), folder)


def keep_freed_memory(case: Mapping[str, Any]) -> None:
    """Give the other side the allocator settings of ours, unless the case asks for the default ones."""
    if case.get("malloc", "kept") == "kept":
        our_runtime({**case, "precision": "fp32"})
