"""What only a sweep has is not dropped silently where -m is missing."""

import sys

import pytest

from gpt2lab.cli import main
from gpt2lab.config import UserError


def run_job(monkeypatch, *arguments):
    """Run ``train.py`` with these arguments up to the composed job; returns it."""
    jobs = []
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr(sys, "argv", ["a folder/train.py", *arguments])
    monkeypatch.setattr(main, "run_composed", lambda name, job, typed: jobs.append(job))
    main.run_job("train")
    return jobs[0]


@pytest.mark.parametrize(
    ("arguments", "beginning", "end"),
    [
        (
            ["+experiment=positions_x_norm"],
            "+experiment=positions_x_norm: a study of model/positions, model/norm, seed; expected -m, or one",
            "model/positions=VALUE model/norm=VALUE seed=VALUE for one run",
        ),
        (
            ["seed=1", "+experiment=positions_x_norm", "model/norm=rmsnorm"],
            "+experiment=positions_x_norm: a study of",
            "or add model/positions=VALUE for one run",
        ),
        (["sweep.name=a b"], "sweep.name=a b: a setting of sweeps; expected -m before it; ", ""),
        (["from=runs/x", "sweep.parallel=2"], "sweep.parallel=2: a setting of sweeps", ""),
    ],
)
def test_study_without_m_is_refused_with_the_command_to_type(monkeypatch, arguments, beginning, end):
    with pytest.raises(UserError) as error:
        run_job(monkeypatch, *arguments)
    message = str(error.value)
    assert message.startswith(beginning)
    assert message.endswith(end)
    typed = " ".join(f"'{argument}'" if " " in argument else argument for argument in arguments)
    assert f"type python 'a folder/train.py' -m {typed}" in message


def test_one_run_of_a_study_and_an_experiment_without_axes_are_allowed(monkeypatch):
    assert run_job(monkeypatch, "+experiment=study_nano").training.max_steps == 400
    cell = ["+experiment=positions_x_norm", "model/positions=rope", "model/norm=rmsnorm", "seed=3"]  # a job of a sweep
    assert run_job(monkeypatch, *cell).model.positions.name == "rope"
