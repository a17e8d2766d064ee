"""Trainers of a tiny model on a small corpus."""

import dataclasses

import pytest

from gpt2lab.config import (
    ModelConfig,
    OptimizerConfig,
    PrepareConfig,
    RuntimeConfig,
    SamplesConfig,
    TextFilesConfig,
    TokenizerConfig,
    TrainingConfig,
    TrainJob,
)
from gpt2lab.data import dataset_folder, prepare
from gpt2lab.distributed import World
from gpt2lab.runtime import open_runtime
from gpt2lab.tokenizers import load_tokenizer
from gpt2lab.training.build import build_model, build_trainer

TINY = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 16, "vocab_size": 257}


@pytest.fixture
def make_trainer(tmp_path):
    """Trainers on one small corpus, each with a run folder of its own."""
    (tmp_path / "text.txt").write_text("\n\n".join(f"paragraph {i}: {'word ' * (i % 7)}" for i in range(200)))
    data = TextFilesConfig(
        min_document_bytes=0, name="t", root=str(tmp_path), files=[str(tmp_path / "text.txt")],
        delimiter="\n\n", val_fraction=0.2,
    )  # fmt: skip
    tokenizer = load_tokenizer("bytes")
    manifest = prepare(data, PrepareConfig(), tokenizer)

    def make(name, *, model=None, masking=False, packing="windows", samples=None, runtime=None, **training):
        settings = {"max_steps": 4, "batch_tokens": 64, "eval_tokens": 160, "log_every": 1} | training
        job = TrainJob(
            model=ModelConfig(**(TINY | (model or {}))),
            tokenizer=TokenizerConfig("bytes", 257),
            data=dataclasses.replace(data, document_masking=masking, packing=packing),
            optimizer=OptimizerConfig(lr=1e-2),
            training=TrainingConfig(**settings),
            runtime=RuntimeConfig(**({"device": "cpu", "precision": "fp32"} | (runtime or {}))),
            samples=samples or SamplesConfig(),
        )
        run_dir = tmp_path / name
        run_dir.mkdir()
        machine = open_runtime(job.runtime)
        model = build_model(job.model, job.seed, machine)
        trainer = build_trainer(
            job, model, tokenizer, dataset_folder(data, tokenizer), manifest, run_dir, machine, World()
        )
        trainer.job, trainer.manifest = job, manifest
        return trainer

    return make
