"""configs/experiment: every study composes all of its conditions, and its extreme ones run."""

import itertools
from importlib.resources import files

import pytest

from gpt2lab.cli.compose import compose_config
from gpt2lab.cli.sweeping import experiment_params
from gpt2lab.commands import train

STUDIES = sorted(
    path.name.removesuffix(".yaml")
    for path in files("configs").joinpath("experiment").iterdir()
    if path.name.endswith(".yaml") and path.name != "study_nano.yaml"
)


def conditions_of(study):
    """The overrides of each condition of a study, with its first seed."""
    axes = {
        key: value.split(",")
        for key, value in experiment_params([f"+experiment={study}"]).items()
        if "sweep." not in key
    }
    axes["seed"] = axes["seed"][:1]
    return [
        [f"{key}={value}" for key, value in zip(axes, values, strict=True)]
        for values in itertools.product(*axes.values())
    ]


@pytest.mark.parametrize("study", STUDIES)
def test_study_has_different_conditions_of_equal_length(study):
    jobs = [compose_config("train", [f"+experiment={study}", *condition]) for condition in conditions_of(study)]
    assert len(jobs) >= 2
    assert len({repr((job.model, job.optimizer, job.data, job.tokenizer)) for job in jobs}) == len(jobs)
    assert len({(job.training.max_steps, job.training.batch_tokens, job.training.eval_tokens) for job in jobs}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("study", STUDIES)
def test_study_runs_its_first_and_last_condition_for_two_steps(study, tmp_path_factory, tmp_path):
    root = tmp_path_factory.getbasetemp() / "studies"  # prepared once per vocabulary
    conditions = conditions_of(study)
    for number, condition in enumerate((conditions[0], conditions[-1])):
        job = compose_config(
            "train",
            [f"+experiment={study}", *condition, "training.max_steps=2", "training.eval_tokens=4096",
             f"data.root={root}", f"run_dir={tmp_path / str(number)}"],
        )  # fmt: skip
        result = train(job)
        assert 0 < result.validation.loss < 12
