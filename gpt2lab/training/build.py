"""From a validated configuration to a ``Trainer``: every part is made here, once, in plain sight."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import torch
from torch import Generator, nn
from torch.utils.checkpoint import checkpoint

from gpt2lab.checkpoint import BackgroundCheckpoints, CheckpointManager
from gpt2lab.config import ModelConfig, TrainJob, choose, to_dict
from gpt2lab.data import Manifest, Prefetcher, train_batches, validation_batches
from gpt2lab.distributed import World
from gpt2lab.evaluation.device_batches import as_tensors
from gpt2lab.model import GPT
from gpt2lab.model.init import init_weights
from gpt2lab.runs.layout import CHECKPOINTS, PROFILE
from gpt2lab.runtime import Runtime, stream_seed
from gpt2lab.tokenizers import Tokenizer
from gpt2lab.training.loggers import LOGGERS, Guarded, RunIdentity
from gpt2lab.training.metrics import MetricsLog
from gpt2lab.training.optimizer import OPTIMIZERS, Optimizers
from gpt2lab.training.profile import Profiler, TracingProfiler
from gpt2lab.training.progress import Progress, Together
from gpt2lab.training.samples import Sampler
from gpt2lab.training.schedule import lr_share
from gpt2lab.training.spikes import SpikeWatch
from gpt2lab.training.throughput import Throughput, flops_per_token, peak_flops
from gpt2lab.training.trainer import Trainer, Validator
from gpt2lab.training.update import LossScale, Update


def build_model(config: ModelConfig, seed: int, runtime: Runtime) -> GPT:
    """A freshly initialised model on the run's device; drawn on the CPU, so that every device starts from the same."""
    with torch.device("meta"):
        model = GPT(config)
    model.to_empty(device="cpu")
    init_weights(model, config.n_layer, Generator().manual_seed(stream_seed("weights", seed)))
    return model.to(runtime.device)


def recompute_in_backward(blocks: Iterable[nn.Module]) -> None:
    """Keep only what goes into each block; backward computes the rest of it again (Chen et al. 2016)."""
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def build_trainer(
    job: TrainJob,
    model: GPT,
    tokenizer: Tokenizer,
    folder: Path,
    manifest: Manifest,
    run_dir: Path,
    runtime: Runtime,
    world: World,
) -> Trainer:
    """Assemble the run; nothing is written yet.

    Args:
        model: from ``build_model`` or loaded; trained in place.
        folder: the prepared data set.
        manifest: its manifest.
        run_dir: where metrics and checkpoints go.

    Raises:
        UserError: parts that do not fit each other (a split too short, a warm-up too long, an unknown name).
    """
    micro_batch_size = job.micro_batch_of(world.size)
    settings = (job.data, folder, manifest, job.batch_size, job.sequence_length, job.seed)
    batches = train_batches(*settings, rank=world.rank, world_size=world.size)
    total_steps = job.total_steps(batches.num_sequences * job.sequence_length)
    checkpoints = BackgroundCheckpoints if job.runtime.background_checkpoints else CheckpointManager
    make_optimizer = choose(OPTIMIZERS, job.optimizer.name, "optimizer.name")
    optimizer = Optimizers(make_optimizer(model, job.optimizer, job.peak_lr))
    identity = RunIdentity(run_dir, to_dict(job))
    loggers = [Guarded(name, choose(LOGGERS, name, "logger.names")(job.logger, identity)) for name in job.logger.names]
    if job.runtime.activation_checkpointing:
        recompute_in_backward(model.blocks)
    if job.runtime.compile:
        for block in model.blocks:
            block.compile()
    loss_scale = LossScale(runtime)
    update = Update(model, optimizer, loss_scale, job.training, micro_batch_size, job.seed, runtime, world)
    progress, spikes = Progress(), SpikeWatch()
    peak = peak_flops(runtime.device, runtime.precision)
    trace = run_dir / PROFILE / f"rank{world.rank}.json"
    description = {"config": to_dict(job), "data_fingerprint": manifest.fingerprint, "precision": runtime.precision}
    state = Together({"progress": progress, "skips": update.skips, "spikes": spikes, "loss_scale": loss_scale})
    return Trainer(
        model=model,
        update=update,
        lr_share=lr_share(job.schedule, total_steps),
        batches=batches,
        load=Prefetcher(lambda step: as_tensors(batches.batch(step), runtime)),
        validator=Validator(
            validation_batches(job.data, folder, manifest, job.sequence_length, job.training.eval_tokens),
            tokenizer.token_lengths(),
            micro_batch_size,
            runtime,
            world,
        ),
        checkpoints=checkpoints(
            run_dir / CHECKPOINTS,
            {"model": model, "optimizer": optimizer, "progress": state},
            description,
            job.training.keep_checkpoints,
            tokenizer.files,
        ),
        sampler=Sampler(job.samples, tokenizer, runtime),
        metrics=MetricsLog(run_dir, loggers),
        progress=progress,
        spikes=spikes,
        throughput=Throughput(flops_per_token(model, job.sequence_length), peak and peak * world.size),
        profiler=TracingProfiler(trace) if job.runtime.profile else Profiler(),
        runtime=runtime,
        settings=job.training,
        world=world,
        total_steps=total_steps,
    )
