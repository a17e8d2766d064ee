"""What a sweep will take, before any of it runs: steps, tokens and time of each job."""

import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from gpt2lab.config import DataConfig, TrainJob, UserError
from gpt2lab.config.sweep import SweepConfig
from gpt2lab.data import Manifest, TrainableTokenizer, open_dataset, open_or_prepare, train_batches
from gpt2lab.model import GPT, shapes_only
from gpt2lab.runs import read_run
from gpt2lab.runs.layout import RUNS, SUMMARY
from gpt2lab.runs.records import COMPLETED
from gpt2lab.sweeps.plan import Plan
from gpt2lab.tokenizers import Tokenizer, open_tokenizer

OpenPrepared = Callable[[DataConfig, Tokenizer | TrainableTokenizer], tuple[Path, Manifest]]
"""``open_dataset`` or ``open_or_prepare``"""

SHAPE = ("n_layer", "n_embd", "vocab_size", "block_size")
"""model settings that decide how long a step takes"""
NEWEST = 200
"""runs that are searched for one with the same model"""


def dry_run_page(plan: Plan, jobs: Mapping[str, TrainJob], sweep: SweepConfig) -> str:
    """The jobs, their steps and tokens, and the time that the whole sweep takes; ``?`` for what is not known."""
    width = max(map(len, jobs))
    lines = [f"{'job':<{width}}  {'steps':>9}  {'tokens':>15}  {'minutes':>8}"]
    all_tokens: list[int | None] = []
    all_seconds: list[float | None] = []
    rate = functools.cache(_measured_rate)
    for name, job in jobs.items():
        steps = steps_of(job)
        tokens = None if steps is None else steps * job.training.batch_tokens
        per_second = rate(tuple(getattr(job.model, key) for key in SHAPE))
        seconds = tokens / per_second if tokens is not None and per_second else None
        all_tokens.append(tokens)
        all_seconds.append(seconds)
        minutes = "?" if seconds is None else f"{seconds / 60:.1f}"
        lines.append(f"{name:<{width}}  {_count(steps):>9}  {_count(tokens):>15}  {minutes:>8}")
    known_tokens = [tokens for tokens in all_tokens if tokens is not None]
    tuning = f" ({len(plan.tuning)} of them tuning)" if plan.tuning else ""
    if len(known_tokens) < len(all_tokens):
        names = ", ".join(sorted({job.data.name for job in jobs.values()}))
        lines.append(f"{len(jobs)} jobs{tuning}")
        lines.append(f"steps: unknown, since an epoch of {names} is not counted yet; prepare it first (prepare.py)")
    else:
        lines.append(f"{len(jobs)} jobs{tuning}, {sum(known_tokens):,} tokens")
    known_seconds = [seconds for seconds in all_seconds if seconds is not None]
    if len(known_seconds) < len(all_seconds):
        if len(known_tokens) == len(all_tokens):
            lines.append(f"time: unknown, since {RUNS}/ has no completed run of such a model; train one job first")
    else:
        minutes_in_all = sum(known_seconds) / 60 / sweep.parallel
        lines.append(f"time: about {minutes_in_all:.0f} minutes with sweep.parallel={sweep.parallel}")
    return "\n".join(lines)


def steps_of(job: TrainJob) -> int | None:
    """Optimizer steps of a job; None where they depend on a dataset that is not prepared yet."""
    try:
        return _steps(job, open_dataset)
    except UserError:
        return None


def steps_after_preparing(job: TrainJob) -> int:
    """Optimizer steps of a job; where they depend on a small dataset that is missing, it is prepared first.

    Raises:
        UserError: they depend on a dataset that cannot be read or fetched.
    """
    return steps_of(job) or _steps(job, open_or_prepare)


def _steps(job: TrainJob, open_prepared: OpenPrepared) -> int:
    with shapes_only():
        parameters = GPT(job.model).num_parameters()
    if job.training.max_epochs is None:
        return job.total_steps(epoch_tokens=0, parameters=parameters)
    folder, manifest = open_prepared(job.data, open_tokenizer(job.tokenizer))
    batches = train_batches(job.data, folder, manifest, job.batch_size, job.sequence_length, job.seed)
    return job.total_steps(epoch_tokens=batches.num_sequences * job.sequence_length, parameters=parameters)


def _measured_rate(shape: tuple[int, ...]) -> float | None:
    """Tokens per second, validations included, of the newest completed run of such a model; None: there is none."""
    summaries = sorted(Path(RUNS).glob(f"**/{SUMMARY}"), key=os.path.getmtime, reverse=True)
    for path in summaries[:NEWEST]:
        try:
            run = read_run(path.parent)
        except UserError:
            continue
        model = run.config.get("model", {})
        tokens, seconds = run.summary.get("tokens"), run.summary.get("wall_seconds")
        if run.status == COMPLETED and tokens and seconds and tuple(model.get(key) for key in SHAPE) == shape:
            return float(tokens) / float(seconds)
    return None


def _count(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"
