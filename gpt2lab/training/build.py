"""From a validated configuration to a ``Trainer``: every part is made here, once."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Generator, nn
from torch.utils.checkpoint import checkpoint

from gpt2lab.checkpoint import BackgroundCheckpoints, CheckpointManager, UnwrittenCheckpoints
from gpt2lab.config import ModelConfig, RuntimeConfig, TrainJob, choose, to_dict
from gpt2lab.data import Manifest, Prefetcher, TrainBatches, train_batches, validation_batches
from gpt2lab.distributed import World
from gpt2lab.evaluation.device_batches import as_tensors
from gpt2lab.evaluation.scoring import Perplexity
from gpt2lab.model import GPT, shapes_only
from gpt2lab.model.init import allocate, init_weights
from gpt2lab.runs.layout import CHECKPOINTS, PROFILE
from gpt2lab.runtime import Runtime, explaining_out_of_memory, stream_seed
from gpt2lab.tokenizers import Tokenizer
from gpt2lab.training.loggers import LOGGERS, Guarded, RunIdentity
from gpt2lab.training.loss_scale import LossScale
from gpt2lab.training.memory import MODEL_ADVICE
from gpt2lab.training.metrics import MetricsLog
from gpt2lab.training.optimizer import OPTIMIZERS, Optimizers
from gpt2lab.training.parallel import parallel_strategy
from gpt2lab.training.plan import RunPlan
from gpt2lab.training.profiler import Profiler, TracingProfiler
from gpt2lab.training.references import Reference, bigram, unigram
from gpt2lab.training.samples import Sampler
from gpt2lab.training.schedule import lr_share
from gpt2lab.training.state import TrainState
from gpt2lab.training.task_evaluation import make_task_evaluator
from gpt2lab.training.throughput import Throughput, flops_per_token, peak_flops
from gpt2lab.training.trainer import Trainer, no_plots
from gpt2lab.training.update import Update
from gpt2lab.training.validator import Validator


def build_model(config: ModelConfig, seed: int, runtime: Runtime) -> GPT:
    """A freshly initialized model on the run's device; drawn on the CPU, so that all devices start from equal weights.

    Each parameter is drawn from a stream of its own, seeded by (seed, name): models that differ in a variant share the
    initial values of all matrices whose name and shape they have in common.

    Raises:
        UserError: the memory is not enough.
    """
    with shapes_only():
        model = GPT(config)
    with explaining_out_of_memory(f"the weights of {model.num_parameters():,} parameters", MODEL_ADVICE):
        allocate(model, "cpu")
        init_weights(model, config.n_layer, lambda name: Generator().manual_seed(stream_seed("weights", seed, name)))
        return model.to(runtime.device)


def prepare_blocks(blocks: Iterable[nn.Module], config: RuntimeConfig) -> None:
    """Compile each block and checkpoint its activations, as configured.

    A checkpointed block keeps its inputs only, and backward computes the rest again (Chen et al. 2016). Compilation
    comes first: ``checkpoint`` around a compiled function works, compiling around ``checkpoint`` compiles nothing.
    """
    for block in blocks:
        if config.compile and not config.activation_checkpointing:
            block.compile()
        if config.activation_checkpointing:
            forward = torch.compile(block.forward) if config.compile else block.forward
            block.forward = partial(checkpoint, forward, use_reentrant=False)


def build_trainer(
    job: TrainJob,
    model: GPT,
    tokenizer: Tokenizer,
    folder: Path,
    manifest: Manifest,
    run_dir: Path,
    runtime: Runtime,
    world: World,
    plot: Callable[[Path], Sequence[Path]] = no_plots,
) -> Trainer:
    """Assemble the run; nothing is written yet.

    Args:
        job: the configuration.
        model: from ``build_model`` or loaded; trained in place.
        tokenizer: of the prepared dataset.
        folder: the prepared dataset.
        manifest: its manifest.
        run_dir: folder of metrics and checkpoints.
        runtime: device and precision.
        world: the processes of the run.
        plot: draws the plots of the completed run directory and returns their paths.

    Raises:
        UserError: parts that do not fit each other (a split too short, a warm-up too long).
    """
    micro_batch_size = job.micro_batch_of(world.size)
    settings = (job.data, folder, manifest, job.batch_size, job.sequence_length, job.data_seed)
    batches = train_batches(*settings, rank=world.rank, world_size=world.size)
    windows = validation_batches(job.data, folder, manifest, job.sequence_length, job.training.eval_tokens)
    plan = make_plan(job, model, batches, manifest, run_dir, runtime, world)
    prepare_blocks(model.blocks, job.runtime)

    parallel = parallel_strategy(job.runtime.parallel, world)
    parallel.shard(model, runtime)
    make_optimizer = choose(OPTIMIZERS, job.optimizer.name, "optimizer.name")
    optimizer = Optimizers(make_optimizer(model, job.optimizer, job.peak_lr, runtime.dtype))
    state = TrainState(LossScale(runtime))
    writer = BackgroundCheckpoints if job.runtime.background_checkpoints else CheckpointManager
    make_checkpoints = writer if world.is_main else UnwrittenCheckpoints
    peak = peak_flops(runtime.device, runtime.precision)

    def references(scored: Perplexity) -> list[Reference]:
        streams = [sequences.stream for sequences in batches.datasets]
        val = windows.sequences.parts
        return [unigram(manifest, scored), bigram(streams, val, manifest.vocab_size, scored)]

    return Trainer(
        model=model,
        update=Update(model, optimizer, state, job.training, micro_batch_size, job.seed, runtime, parallel),
        lr_share=lr_share(job.schedule, plan.total_steps),
        batches=batches,
        load=Prefetcher(lambda step: as_tensors(batches.batch(step), runtime)),
        validator=Validator(windows, tokenizer.token_lengths(), micro_batch_size, runtime, world),
        sampler=Sampler(job.samples, tokenizer, runtime),
        evaluate_tasks=make_task_evaluator(job, model, tokenizer, run_dir, runtime),
        checkpoints=make_checkpoints(
            run_dir / CHECKPOINTS,
            {**parallel.state_parts(model, optimizer), "train_state": state},
            {"config": to_dict(job), "data_fingerprint": manifest.fingerprint, "precision": runtime.precision},
            job.training.keep_checkpoints,
            tokenizer.files,
        ),
        metrics=MetricsLog(run_dir, make_loggers(job, plan)),
        state=state,
        plan=plan,
        throughput=Throughput(plan.flops_per_token, peak and peak * world.size),
        profiler=TracingProfiler(run_dir / PROFILE / f"rank{world.rank}.json") if job.runtime.profile else Profiler(),
        runtime=runtime,
        settings=job.training,
        total_steps=plan.total_steps,
        parallel=parallel,
        references=references,
        plot=plot,
    )


def make_plan(
    job: TrainJob,
    model: GPT,
    batches: TrainBatches,
    manifest: Manifest,
    run_dir: Path,
    runtime: Runtime,
    world: World,
) -> RunPlan:
    """Resolve every value that is null or auto in the configuration."""
    total_steps = job.total_steps(
        epoch_tokens=batches.num_sequences * job.sequence_length, parameters=model.num_parameters()
    )
    return RunPlan(
        run_dir=run_dir,
        model=job.model,
        parameters=model.num_parameters(),
        parameters_without_embeddings=model.num_parameters_without_embeddings(),
        device=str(runtime.device),
        device_name=runtime.device_name,
        precision=runtime.precision,
        processes=world.size,
        total_steps=total_steps,
        batch_tokens=job.training.batch_tokens,
        sequence_length=job.sequence_length,
        micro_batch_size=job.micro_batch_of(world.size),
        optimizer=job.optimizer.name,
        peak_lr=job.peak_lr,
        schedule=job.schedule.name,
        warmup_steps=job.schedule.warmup_of(total_steps),
        data_name=job.data.name,
        tokenizer=job.tokenizer.name,
        train_tokens=batches.num_tokens,
        unused_tokens=batches.dropped_tokens,
        epoch_sequences=batches.num_sequences,
        data_fingerprint=manifest.fingerprint,
        flops_per_token=flops_per_token(model, job.sequence_length),
    )


def make_loggers(job: TrainJob, plan: RunPlan) -> list[Guarded]:
    """The loggers that the configuration names."""
    config = job.logger
    identity = RunIdentity(
        plan.run_dir, to_dict(job), plan.resolved(), name=config.run_name, group=config.group, tags=config.tags
    )
    return [Guarded(name, choose(LOGGERS, name, "logger.names")(config, identity)) for name in config.names]
