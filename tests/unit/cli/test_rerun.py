"""``from=RUN``: the job of a run's own record."""

import dataclasses
import json
from pathlib import Path

import pytest
import yaml

from gpt2lab.cli.compose import compose_config
from gpt2lab.cli.rerun import job_from_record, read_rerun
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
    job = job_from_record([f"from={run}", "seed=6", "training.max_steps=9e0", "model.positions.name=learned"])
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


def record(folder, *arguments):
    (folder / "config.yaml").write_text(yaml.safe_dump(to_dict(compose_config("train", arguments))))
    return f"from={folder}"


@pytest.mark.parametrize(
    ("change", "followed"),
    [
        ("schedule=linear", ["schedule.name=linear (was cosine)"]),
        ("optimizer=muon", ["optimizer.lr=0.01 (was 0.0006)", "optimizer.name=muon (was adamw)"]),
        ("model/norm=rmsnorm", ["model.norm.name=rmsnorm (was layernorm)"]),
        ("tokenizer=bytes", ["model.vocab_size=257 (was 50257)", "tokenizer.name=bytes (was gpt2)"]),
        ("optimizer.lr=1e-4", []),
    ],
)
def test_a_group_changes_what_its_file_sets_and_says_so(tmp_path, change, followed):
    """Not what the recipe of the default run sets: its warm-up and its learning rate are those of another model."""
    run = record(tmp_path, "model=gpt2_small", "optimizer.weight_decay=0.2", "schedule.min_lr_ratio=0.3")
    rerun = read_rerun([run, change])
    assert [str(difference) for difference in rerun.followed][: len(followed)] == followed
    assert rerun.job.schedule.warmup_share == 0.037
    assert rerun.job.schedule.min_lr_ratio == 0.3
    assert rerun.job.optimizer.weight_decay == 0.2
    assert all(difference in rerun.describe() for difference in followed)


def test_a_model_keeps_the_recorded_training_and_what_its_file_does_not_set(tmp_path):
    run = record(tmp_path, "model=gpt2_small", "model.dropout=0.1", "training.max_steps=77")
    job = job_from_record([run, "model=modern_small", "model/positions=alibi"])
    assert (job.model.norm.name, job.model.positions.name, job.model.dropout) == ("rmsnorm", "alibi", 0.1)
    assert (job.training.max_steps, job.optimizer.lr, job.model.vocab_size) == (77, 6e-4, 50257)


@pytest.mark.parametrize(
    ("changes", "vocab_size"),
    [
        (["tokenizer=huggingface", "tokenizer.path={path}"], 300),
        (["tokenizer=bpe", "tokenizer.vocab_size=300"], 300),
        (["tokenizer.vocab_size=300"], 300),
        (["tokenizer=bytes"], 257),
    ],
)
def test_the_vocabulary_follows_the_tokenizer_that_all_changes_choose(tmp_path, changes, vocab_size):
    vocabulary = {str(token): token for token in range(300)}
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({"model": {"vocab": vocabulary}, "added_tokens": []}))
    run = record(tmp_path, "tokenizer=bpe")
    job = job_from_record([run, *(change.format(path=path) for change in changes)])
    assert job.model.vocab_size == job.tokenizer.vocab_size == vocab_size


def test_another_tokenizer_data_or_logger_keeps_nothing_of_the_recorded_one(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({"model": {"vocab": ["a", "b"]}, "added_tokens": []}))
    recorded = [
        "tokenizer=huggingface",
        f"tokenizer.path={path}",
        "data=text_files",
        "data.files=[a.txt]",
        "logger=wandb",
    ]
    run = record(tmp_path, *recorded)
    job = job_from_record([run, "tokenizer=gpt2", "data=wikitext2", "logger=jsonl"])
    assert job.tokenizer == compose_config("train", ["tokenizer=gpt2"]).tokenizer
    assert job.data == compose_config("train", ["data=wikitext2"]).data
    assert job.logger.names == []


def test_a_share_of_a_mixture_can_be_changed(tmp_path):
    run = record(tmp_path, "data=mixture", "data.name=m", "data.mixture={a: 0.5, b: 0.5}")
    assert job_from_record([run, "data.mixture.a=1", "data.mixture.c=2"]).data.mixture == {"a": 1, "b": 0.5, "c": 2}


def test_values_have_the_types_of_their_keys(tmp_path):
    job = job_from_record([record(tmp_path), "data.name=2024", "run_dir=2024", "optimizer.weight_decay=0"])
    assert (job.data.name, job.run_dir, job.optimizer.weight_decay) == ("2024", "2024", 0)


def test_a_recorded_text_is_no_interpolation(tmp_path):
    job = compose_config("train", [])
    job.samples.prompts = ["costs ${seed} and \\${x"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(to_dict(job)))
    assert job_from_record([f"from={tmp_path}"]).samples.prompts == job.samples.prompts


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
        ("seed=1,2", "seed=1,2: expected one value; try gpt2lab train -m seed=1,2 for a sweep"),
        ("max_steps=5", "max_steps: unknown key; did you mean training.max_steps?"),
        ("data.files=[x]", "data.files: data=state_of_the_union has no such option; it is one of data=text_files"),
        ("prompt=x", "prompt: not a setting of this command, only of sample.py"),
        ("training.log_every=1.5", "training.log_every=1.5: expected a whole number"),
        ("training=5", "training=5: training holds several settings"),
        ("data.nme=x", "data.nme: unknown key; did you mean name?"),
        ("model/norm=null", "model/norm=null: expected the name of a file of configs/model/norm"),
        ("logger.project=a b'", "logger.project=a b': a value with such characters needs quotes"),
        ("data.root=~/x", f"try 'data.root=\"{Path.home()}/x\"'"),
        ("sampling=default", "sampling: cannot be put on top of from="),
        ("tokenizer=huggingface", "tokenizer.path=null: expected the tokenizer.json to use"),
    ],
)
def test_rerun_refuses_a_change_that_does_not_fit(run, change, message):
    with pytest.raises(UserError) as error:
        job_from_record([f"from={run}", change])
    assert message in str(error.value)
    assert str(error.value).startswith("+") == change.startswith("+")  # the one that is put before groups is ours


def test_rerun_of_no_run_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UserError, match=rf"^from={tmp_path}/mine: no config.yaml there"):
        job_from_record(["from=~/mine"])
    with pytest.raises(UserError, match=r"from=.*: no config.yaml there"):
        job_from_record([f"from={tmp_path}"])
