"""configs/experiment: every study composes all of its conditions, and its last one runs."""

import itertools
from importlib.resources import files

import pytest

from gpt2lab.cli.compose import compose_config
from gpt2lab.cli.sweeping import experiment_params
from gpt2lab.commands import train
from gpt2lab.config.training import LENGTHS

TWO_STEPS = [f"training.{key}=null" for key in LENGTHS if key != "max_steps"] + ["training.max_steps=2"]
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
    lengths = {tuple(getattr(job.training, key) for key in LENGTHS) for job in jobs}
    assert len({(job.training.batch_tokens, job.training.eval_tokens) for job in jobs}) == len(lengths) == 1


@pytest.mark.slow
@pytest.mark.parametrize("study", STUDIES)
def test_last_condition_of_a_study_runs_for_two_steps(study, tmp_path_factory, tmp_path):
    root = tmp_path_factory.getbasetemp() / "studies"  # prepared once per vocabulary
    job = compose_config(
        "train",
        [f"+experiment={study}", *conditions_of(study)[-1], *TWO_STEPS, "training.eval_tokens=4096",
         f"data.root={root}", f"run_dir={tmp_path}", "runtime.device=cpu"],
    )  # fmt: skip
    assert 0 < train(job).validation.loss < 12
