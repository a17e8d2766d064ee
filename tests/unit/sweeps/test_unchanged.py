"""gpt2lab.sweeps.unchanged: a sweep is continued with the settings that its runs have."""

import pytest
import yaml

from gpt2lab.cli.compose import compose_config
from gpt2lab.config import UserError, to_dict


def test_a_sweep_whose_settings_were_edited_in_a_file_is_not_continued(sweep, tmp_path):
    """As an experiment's file between two starts; the overrides are the same."""
    arguments = ["model/norm=layernorm,rmsnorm", "training.max_steps=5", "sweep.name=s"]
    assert sweep(*arguments) == 0
    job = to_dict(compose_config("train", ["training.max_steps=5"]))
    job["optimizer"]["lr"] = compose_config("train", []).peak_lr
    job["runtime"] |= {"device": "cpu", "precision": "fp32"}
    del job["schedule"]["decay_share"]  # an earlier version had no such key
    config = tmp_path / "runs/sweeps/s/norm=layernorm/config.yaml"
    config.write_text(yaml.safe_dump(job))
    assert sweep(*arguments, "training.eval_every=2") == 0
    job["schedule"]["warmup_share"], job["training"]["eval_every"] = 0.375, 77
    config.write_text(yaml.safe_dump(job))
    reason = (
        r"norm=layernorm was made with other settings .*: schedule.warmup_share=\S+ \(was 0.375\); expected the same"
    )
    for more in ("sweep.parallel=1", "sweep.dry_run=true"):
        with pytest.raises(UserError, match=reason):
            sweep(*arguments, more)
    (config.parent / "summary.json").write_text('{"status": "failed: killed"}')
    assert sweep(*arguments) == 0  # it is made again with the settings of now
