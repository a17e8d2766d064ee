"""``from=RUN``: the job of a run's own record."""

import dataclasses

import pytest
import yaml

from gpt2lab.cli.compose import compose_config
from gpt2lab.cli.rerun import job_from_record
from gpt2lab.config import UserError, to_dict


@pytest.fixture
def run(tmp_path):
    """A run directory of a rope model."""
    job = compose_config("train", ["model/positions=rope", "optimizer.lr=3e-3", "seed=5", "run_dir=x", "resume=auto"])
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(to_dict(job)))
    return tmp_path


def test_rerun_has_the_recorded_settings_and_a_directory_of_its_own(run):
    for where in (run, run / "config.yaml", f"'{run}'"):
        job = job_from_record([f"from={where}"])
        assert (job.model.positions.name, job.optimizer.lr, job.seed) == ("rope", 3e-3, 5)
        assert job.run_dir is job.resume is None


def test_rerun_takes_changes_on_top(run):
    job = job_from_record([f"from={run}", "seed=6", "training.max_steps=9", "model.positions.name=learned"])
    assert (job.seed, job.training.max_steps, job.model.positions.name) == (6, 9, "learned")
    assert job_from_record([f"from={run}", "resume=auto"]).run_dir == str(run)


@pytest.mark.parametrize("resume", [[], ["resume=auto"]])
def test_rerun_has_the_settings_of_the_newest_start(run, resume):
    """The line that a stopped run prints continues it as it was, not as it first began."""
    for number, lr in ((2, 1e-4), (3, 1e-5)):
        job = compose_config("train", [f"optimizer.lr={lr}", "training.max_steps=20000"])
        (run / f"config.{number}.yaml").write_text(yaml.safe_dump(to_dict(job)))
    job = job_from_record([f"from={run}", *resume])
    assert (job.optimizer.lr, job.training.max_steps) == (1e-5, 20000)
    assert job_from_record([f"from={run}/config.yaml", *resume]).optimizer.lr == 3e-3
    assert job.run_dir == (str(run) if resume else None)


def test_rerun_takes_a_group_on_top_of_the_record(run):
    recorded = job_from_record([f"from={run}"])
    job = job_from_record([f"from={run}", "model/positions=alibi", "model.n_layer=3"])
    expected = dataclasses.replace(
        recorded.model, positions=dataclasses.replace(recorded.model.positions, name="alibi")
    )
    assert job.model == dataclasses.replace(expected, n_layer=3)
    assert (job.optimizer.lr, job.seed) == (3e-3, 5)


def test_rerun_takes_the_vocabulary_of_another_tokenizer_and_the_settings_of_another_optimizer(run):
    job = job_from_record([f"from={run}", "tokenizer=bytes", "optimizer=muon", "optimizer.momentum=0.9"])
    assert job.tokenizer.name == "bytes"
    assert job.model.vocab_size == job.tokenizer.vocab_size == 257
    assert (job.optimizer.name, job.optimizer.momentum) == ("muon", 0.9)
    assert job.optimizer.lr == compose_config("train", ["optimizer=muon"]).optimizer.lr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("seed=many", "seed=many"),
        ("training.max_step=3", "did you mean training.max_steps"),
        ("model/norm=rmsnrm", "rmsnrm"),
        ("model/nrm=rmsnorm", "model/nrm: cannot be put on top of from=; expected a key with dots"),
        ("+experiment=study_nano", "+experiment: cannot be put on top of from="),
        ("recipe=gpt2_small", "recipe: cannot be put on top of from="),
        ("optimizer.name=sgd", "optimizer.name=sgd: expected one of adamw, muon"),
        ("model.n_head=5", "model.n_head=5"),
    ],
)
def test_rerun_refuses_a_change_that_does_not_fit(run, change, message):
    with pytest.raises(UserError) as error:
        job_from_record([f"from={run}", change])
    assert message in str(error.value)


def test_rerun_of_no_run_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"from=.*: no config.yaml there"):
        job_from_record([f"from={tmp_path}"])
