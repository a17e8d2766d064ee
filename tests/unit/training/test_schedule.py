"""Learning rates by hand, and schedules as an axis of a study."""

import pytest

from gpt2lab.cli.compose import compose_config
from gpt2lab.config import ScheduleConfig, UserError
from gpt2lab.training.schedule import lr_share


def shares(total_steps, **settings):
    share = lr_share(ScheduleConfig(**settings), total_steps)
    return [share(step) for step in range(total_steps)]


def test_cosine_by_hand():
    share = shares(13, warmup_steps=3, min_lr_ratio=0.1)
    assert share[:3] == pytest.approx([0.25, 0.5, 0.75])
    assert share[3] == 1.0  # the peak follows the warm-up
    # steps 3 ... 12 are nine intervals of half a cosine; a third of the way it is (1 + cos 60 degrees) / 2 = 3/4
    assert share[6] == pytest.approx(0.1 + 0.9 * 0.75)
    assert share[9] == pytest.approx(0.1 + 0.9 * 0.25)
    assert share[12] == pytest.approx(0.1)
    assert share[3:] == sorted(share[3:], reverse=True)


def test_other_schedules_by_hand():
    # five intervals after the warm-up; wsd falls in the last two of them
    warm = {"warmup_steps": 1, "min_lr_ratio": 0.2}
    assert shares(7, name="constant", warmup_steps=1) == [0.5, 1, 1, 1, 1, 1, 1]
    assert shares(7, name="linear", **warm) == pytest.approx([0.5, 1, 0.84, 0.68, 0.52, 0.36, 0.2])
    assert shares(7, name="wsd", decay_share=0.4, **warm) == pytest.approx([0.5, 1, 1, 1, 1, 0.6, 0.2])
    assert shares(1, name="linear", warmup_steps=0) == [1.0]
    with pytest.raises(UserError, match="schedule.name=cosin: expected one of cosine, linear, wsd, constant"):
        ScheduleConfig(name="cosin")


def test_warm_up():
    assert shares(100)[4:6] == pytest.approx([5 / 6, 1.0])  # 5 % of 100 steps
    with pytest.raises(UserError, match="schedule.warmup_steps=7: expected fewer than the run's 7"):
        shares(7, warmup_steps=7)
    with pytest.raises(UserError, match="schedule.warmup_share=0.96: expected a share that leaves at least one of"):
        shares(10, warmup_share=0.96)


@pytest.mark.parametrize("ratio", [0.0, 0.1])
@pytest.mark.parametrize("settings", [["+experiment=study_nano"], ["model=gpt2_small"], ["model=gpt2_xl"]])
def test_decaying_schedules_end_at_the_same_rate(settings, ratio):
    """Only the way there differs."""
    final = {}
    for name in ("cosine", "linear", "wsd"):
        job = compose_config("train", [*settings, f"schedule={name}", f"schedule.min_lr_ratio={ratio}"])
        default = compose_config("train", [*settings, f"schedule={name}"])
        final[name] = lr_share(job.schedule, 400)(399), default.schedule.min_lr_ratio
    assert final["linear"] == pytest.approx(final["cosine"])
    assert final["wsd"] == pytest.approx(final["cosine"])
    assert final["cosine"][0] == pytest.approx(ratio)
