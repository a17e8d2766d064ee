"""Thirty steps of two small models in float64: a change that is meant to keep the numbers keeps these.

In float64 the order in which a processor adds does not show; the loss is reported in float32, which leaves its last
digit, so the values hold on any machine.
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
from tests.training_steps import take_step

WORDS = ["alpha", "beta", "gamma", "delta", "def", "return", "self", "the", "of", "and", "(", ")", ":", "=", "0", "1"]
COMMON = [
    "tokenizer=bytes",
    "model.n_layer=2",
    "model.n_head=2",
    "model.n_embd=32",
    "model.block_size=64",
    "model.dropout=0",
    "optimizer=adamw",
    "optimizer.lr=4e-3",
    "schedule=cosine",
    "schedule.warmup_steps=6",
    "schedule.min_lr_ratio=0.1",
    "training.max_steps=30",
    "training.batch_tokens=512",
    "training.micro_batch_size=4",
    "training.grad_clip=1.0",
    "training.z_loss=1e-4",
    "runtime.device=cpu",
    "runtime.precision=fp32",
    "seed=1337",
]
VARIANTS = {
    "gpt2": ["model/positions=learned", "model/norm=layernorm", "model/mlp=gelu", "model.bias=true"],
    "modern": ["model/positions=rope", "model/norm=rmsnorm", "model/mlp=swiglu", "model.bias=false"],
}
LOSSES = {
    "gpt2": [
        5.5469565,
        5.4771800,
        5.3606567,
        5.2467175,
        5.1478291,
        5.0105686,
        4.8492069,
        4.6698699,
        4.4663367,
        4.2944975,
        4.1258140,
        3.9845638,
        3.8147936,
        3.7049880,
        3.5722253,
        3.4753730,
        3.3745713,
        3.3058367,
        3.2400637,
        3.1828995,
        3.1367421,
        3.1439340,
        3.0713487,
        3.0349252,
        2.9943218,
        2.9921403,
        2.9738076,
        2.9657242,
        2.9702680,
        2.9314132,
    ],
    "modern": [
        5.5434780,
        5.5185924,
        5.4669180,
        5.3426085,
        5.1909580,
        5.0334187,
        4.8678980,
        4.7062702,
        4.5225029,
        4.3555703,
        4.1907768,
        4.0593719,
        3.8956175,
        3.7866852,
        3.6638117,
        3.5639081,
        3.4672935,
        3.4115953,
        3.3460670,
        3.2902613,
        3.2469897,
        3.2529590,
        3.1890016,
        3.1570182,
        3.1154590,
        3.1226475,
        3.1109030,
        3.0980551,
        3.1044147,
        3.0683765,
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_losses_of_the_first_thirty_steps(tmp_path, variant):
    """Recorded on 2026-11-28 (torch 2.13.0, CPU: AVX2 and without vector instructions, equal to 5e-7)."""
    rng = random.Random(0)
    paragraphs = [" ".join(rng.choice(WORDS) for _ in range(200)) for _ in range(300)]
    (tmp_path / "text.txt").write_text("\n\n".join(paragraphs))
    data = [
        "data=text_files",
        f"data.files=[{tmp_path}/text.txt]",
        f"data.root={tmp_path}",
        "data.min_document_bytes=0",
    ]
    job = compose_config("train", [*data, *COMMON, *VARIANTS[variant]])
    tokenizer, runtime = load_tokenizer("bytes"), open_runtime(job.runtime)
    manifest = prepare(job.data, PrepareConfig(), tokenizer)
    model = build_model(job.model, job.seed, runtime).double()
    folder = dataset_folder(job.data, tokenizer)
    trainer = build_trainer(job, model, tokenizer, folder, manifest, tmp_path / "run", runtime, World())
    losses = [take_step(trainer, step)["loss"] for step in range(30)]
    assert losses == pytest.approx(LOSSES[variant], rel=0, abs=2e-6)
