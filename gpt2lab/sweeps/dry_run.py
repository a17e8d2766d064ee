"""What a sweep will take, before any of it runs: status, steps, tokens and time of each job."""

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


def dry_run_page(plan: Plan, jobs: Mapping[str, TrainJob], statuses: Mapping[str, str], sweep: SweepConfig) -> str:
    """The jobs, how they stand, and the tokens and time of those that are left; ``?`` for what is not known.

    Args:
        plan: the jobs in their order.
        jobs: their settings by name.
        statuses: how each job stands, by name.
        sweep: where it would run.
    """
    width = max(map(len, jobs))
    lines = [f"{'job':<{width}}  {'status':<9}  {'steps':>9}  {'tokens':>15}  {'minutes':>8}"]
    tokens_left: list[int | None] = []
    seconds_left: list[float | None] = []
    rate = functools.cache(_measured_rate)
    for name, job in jobs.items():
        steps = steps_of(job)
        tokens = None if steps is None else steps * job.training.batch_tokens
        per_second = rate(tuple(getattr(job.model, key) for key in SHAPE))
        seconds = tokens / per_second if tokens is not None and per_second else None
        if statuses[name] != COMPLETED:
            tokens_left.append(tokens)
            seconds_left.append(seconds)
        minutes = "?" if seconds is None else f"{seconds / 60:.1f}"
        lines.append(f"{name:<{width}}  {statuses[name]:<9}  {_count(steps):>9}  {_count(tokens):>15}  {minutes:>8}")
    tuning = f" ({len(plan.tuning)} of them tuning)" if plan.tuning else ""
    completed = len(jobs) - len(tokens_left)
    in_all = f"{len(jobs)} jobs{tuning}" + (f", {completed} completed" if completed else "")
    known_tokens = [tokens for tokens in tokens_left if tokens is not None]
    known_seconds = [seconds for seconds in seconds_left if seconds is not None]
    if len(known_tokens) < len(tokens_left):
        names = ", ".join(sorted({job.data.name for job in jobs.values()}))
        lines.append(in_all)
        lines.append(f"steps: unknown, since an epoch of {names} is not counted yet; prepare it first (prepare.py)")
        return "\n".join(lines)
    lines.append(f"{in_all}, {sum(known_tokens):,} tokens{' left' if completed else ''}")
    if len(known_seconds) < len(seconds_left):
        lines.append(f"time: unknown, since {RUNS}/ has no completed run of such a model; train one job first")
    elif seconds_left:
        lines.append(f"time: {_duration(sum(known_seconds) / sweep.parallel)} with sweep.parallel={sweep.parallel}")
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


def _duration(seconds: float) -> str:
    """``less than a minute``, ``about 1 minute``, ``about 12 minutes``, ``about 3.5 hours``."""
    minutes = round(seconds / 60)
    if minutes > 90:
        return f"about {seconds / 3600:.1f} hours"
    return f"about {minutes} minute{'' if minutes == 1 else 's'}" if minutes else "less than a minute"


def _count(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"
