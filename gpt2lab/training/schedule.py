"""Learning-rate schedules: pure functions of the step, as shares of the peak.

``SCHEDULES[name](step, total_steps, warmup_steps, min_lr_ratio) -> share`` for step = 0 ... total_steps - 1.
"""

import math
from collections.abc import Callable

from gpt2lab.config import TrainJob, choose

Schedule = Callable[[int, int, int, float], float]


def cosine(step: int, total_steps: int, warmup_steps: int, min_lr_ratio: float) -> float:
    """Linear warm-up to 1, then half a cosine down to ``min_lr_ratio`` at the last step. Loshchilov and Hutter 2017.

    The first step already moves: step s of the warm-up has (s + 1) / (warmup_steps + 1).
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = (step - warmup_steps) / max(1, total_steps - 1 - warmup_steps)
    return min_lr_ratio + (1 - min_lr_ratio) * (1 + math.cos(math.pi * progress)) / 2


SCHEDULES: dict[str, Schedule] = {"cosine": cosine}


def learning_rate(job: TrainJob, total_steps: int) -> Callable[[int], float]:
    """The run's learning rate as a function of the step.

    Raises:
        UserError: the warm-up is as long as the run.
    """
    schedule = choose(SCHEDULES, job.schedule.name, "schedule.name")
    warmup_steps = job.schedule.warmup_of(total_steps)
    return lambda step: job.peak_lr * schedule(step, total_steps, warmup_steps, job.schedule.min_lr_ratio)
