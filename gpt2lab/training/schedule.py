"""Learning-rate schedules: pure functions of the step, as shares of the peak.

step -> warm-up: linear to 1; then ``SCHEDULES[name](progress, config)``, progress from 0 to 1 at the last step
"""

import math
from collections.abc import Callable

from gpt2lab.config import ScheduleConfig, choose


def cosine(progress: float, config: ScheduleConfig) -> float:
    """Half a cosine from 1 down to ``min_lr_ratio``. Loshchilov and Hutter 2017, equation 5."""
    return config.min_lr_ratio + (1 - config.min_lr_ratio) * (1 + math.cos(math.pi * progress)) / 2


def linear(progress: float, config: ScheduleConfig) -> float:
    """A straight line from 1 down to ``min_lr_ratio``."""
    return 1 - (1 - config.min_lr_ratio) * progress


def wsd(progress: float, config: ScheduleConfig) -> float:
    """Stay at 1, then a line to ``min_lr_ratio`` over the last ``decay_share``. Hu et al. 2024, section 4.2."""
    decayed = max(0.0, progress - (1 - config.decay_share)) / config.decay_share
    return 1 - (1 - config.min_lr_ratio) * decayed


def constant(progress: float, config: ScheduleConfig) -> float:
    """Stay at 1."""
    return 1.0


SCHEDULES: dict[str, Callable[[float, ScheduleConfig], float]] = {
    "cosine": cosine,
    "linear": linear,
    "wsd": wsd,
    "constant": constant,
}


def lr_share(config: ScheduleConfig, total_steps: int) -> Callable[[int], float]:
    """The share of the peak learning rate at step 0 ... total_steps - 1.

    The first step already moves: step s of the warm-up has (s + 1) / (warmup_steps + 1).

    Raises:
        UserError: the warm-up is as long as the run, or there is no such schedule.
    """
    schedule = choose(SCHEDULES, config.name, "schedule.name")
    warmup_steps = config.warmup_of(total_steps)

    def share(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        return schedule((step - warmup_steps) / max(1, total_steps - 1 - warmup_steps), config)

    return share
