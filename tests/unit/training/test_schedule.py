"""Schedules as an axis of a study: they end at the same learning rate, so that only the way there differs."""

import pytest

from gpt2lab.cli.compose import compose_config
from gpt2lab.training.schedule import lr_share


@pytest.mark.parametrize("ratio", [0.0, 0.1])
@pytest.mark.parametrize("settings", [["+experiment=study_nano"], ["model=gpt2_small"], ["model=gpt2_xl"]])
def test_decaying_schedules_end_at_the_same_rate(settings, ratio):
    final = {}
    for name in ("cosine", "linear", "wsd"):
        job = compose_config("train", [*settings, f"schedule={name}", f"schedule.min_lr_ratio={ratio}"])
        default = compose_config("train", [*settings, f"schedule={name}"])
        final[name] = lr_share(job.schedule, 400)(399), default.schedule.min_lr_ratio
    assert final["linear"] == pytest.approx(final["cosine"])
    assert final["wsd"] == pytest.approx(final["cosine"])
    assert final["cosine"][0] == pytest.approx(ratio)
