"""Thirty steps of the default model in float32: a change that is meant to keep the numbers keeps these."""

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
LOSSES = [
    10.798960, 10.405103, 10.029180, 9.511926, 9.022442, 8.533157, 8.023567, 7.491096, 6.994331, 6.461084,
    5.970590, 5.538132, 5.076990, 4.683808, 4.340041, 4.067463, 3.829185, 3.617991, 3.448577, 3.345119,
    3.232828, 3.205328, 3.126996, 3.118188, 3.042366, 3.058252, 3.023543, 3.011611, 3.007139, 2.974677,
]  # fmt: skip


@pytest.mark.slow
def test_losses_of_the_first_thirty_steps(tmp_path):
    """Recorded on 2026-11-24 (x86-64, torch 2.13.0, CPU); one and two threads agreed to 1e-6."""
    rng = random.Random(0)
    paragraphs = [" ".join(rng.choice(WORDS) for _ in range(200)) for _ in range(300)]
    (tmp_path / "text.txt").write_text("\n\n".join(paragraphs))
    overrides = [
        "data=text_files",
        f"data.files=[{tmp_path}/text.txt]",
        f"data.root={tmp_path}",
        "data.min_document_bytes=0",
    ]
    overrides += ["training.max_steps=30", "training.batch_tokens=512", "runtime.device=cpu", "runtime.precision=fp32"]
    job = compose_config("train", overrides)
    tokenizer, runtime = load_tokenizer("gpt2"), open_runtime(job.runtime)
    manifest = prepare(job.data, PrepareConfig(), tokenizer)
    model = build_model(job.model, job.seed, runtime)
    folder = dataset_folder(job.data, tokenizer)
    trainer = build_trainer(job, model, tokenizer, folder, manifest, tmp_path / "run", runtime, World())
    losses = [trainer.train_step(step)["loss"] for step in range(30)]
    assert losses == pytest.approx(LOSSES, rel=0, abs=1e-5)
