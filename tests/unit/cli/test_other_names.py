"""Settings of other programs lead to ours."""

import pytest

from gpt2lab.cli.compose import CONFIG_DIR, JOBS, compose_config, settings_of
from gpt2lab.cli.other_names import OTHER_NAMES, OTHER_VALUES, name_here
from gpt2lab.config import UserError


def test_every_other_name_leads_to_a_key_of_a_command():
    known = {key for name in JOBS for key in settings_of(name).known}
    for texts in OTHER_NAMES.values():
        assert {text.partition(" ")[0].partition("=")[0] for text in texts} <= known
    assert all((CONFIG_DIR / f"{value.replace('=', '/')}.yaml").is_file() for value in OTHER_VALUES.values())


@pytest.mark.parametrize(
    ("command", "name", "shown"),
    [
        ("train", "eval_interval", "training.eval_every (in steps)"),
        ("train", "min_lr", "schedule.min_lr_ratio (min_lr / learning_rate)"),
        ("train", "wandb_log", "logger=wandb"),
        ("train", "out_dir", "run_dir"),
        ("sample", "out_dir", "checkpoint"),
        ("sample", "start", "prompt"),
        ("train", "start", None),
    ],
)
def test_a_name_of_nanogpt_leads_to_ours(command, name, shown):
    assert name_here(name, settings_of(command).known) == shown
    with pytest.raises(UserError) as error:
        compose_config(command, [f"{name}=1"])
    assert (f"did you mean {shown}?" in str(error.value)) == (shown is not None)
