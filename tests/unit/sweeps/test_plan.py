"""Which jobs the arguments of a sweep give, and what they are called."""

import pytest

from gpt2lab.config import SweepConfig, UserError
from gpt2lab.sweeps.plan import plan_sweep

GRID = ["model/positions=learned,rope", "seed=0,1", "model.n_layer=2"]


def test_plan_has_every_cell_with_every_seed_the_first_seed_first():
    plan = plan_sweep(GRID, {}, SweepConfig())
    assert [job.name for job in plan.jobs] == [
        "positions=learned,seed=0", "positions=rope,seed=0", "positions=learned,seed=1", "positions=rope,seed=1",
    ]  # fmt: skip
    assert plan.jobs[1].overrides == ("model/positions=rope", "seed=0")
    assert plan.jobs[1].condition == "positions=rope"
    assert plan.common == ("model.n_layer=2",)
    assert (list(plan.axes), plan.seeds) == (["model/positions", "seed"], ["0", "1"])


def test_plan_takes_axes_of_an_experiment_where_the_command_line_has_none():
    experiment = {"model/positions": "learned,rope", "seed": "range(3)"}
    plan = plan_sweep(["seed=7,8", "+experiment=x"], experiment, SweepConfig())
    assert plan.axes == {"model/positions": ["learned", "rope"], "seed": ["7", "8"]}
    assert plan_sweep(["model/positions=none"], experiment, SweepConfig()).seeds == ["0", "1", "2"]


def test_plan_takes_the_order_of_axes_from_an_earlier_start():
    order = ["model/positions", "model/norm", "seed"]
    typed = ["seed=0,1", "model/norm=layernorm,rmsnorm", "model/positions=learned,rope"]
    before = plan_sweep(typed[::-1], {}, SweepConfig())
    again = plan_sweep(typed, {}, SweepConfig(), order)
    assert list(again.axes) == list(before.axes) == order
    assert again.jobs == before.jobs
    assert set(plan_sweep(typed, {}, SweepConfig()).jobs) != set(before.jobs)


def test_plan_writes_keys_whole_where_their_last_parts_agree():
    plan = plan_sweep(["model.norm.name=a,b", "model.mlp.name=c,d"], {}, SweepConfig())
    assert plan.jobs[0].name == "model.norm.name=a,model.mlp.name=c"


def test_plan_tunes_every_condition_with_the_same_values_and_seeds():
    tuned = SweepConfig(tune="optimizer.lr", tune_values=[1e-3, 2e-3, 4e-3], tune_seeds=[50])
    plan = plan_sweep(GRID, {}, tuned)
    assert len(plan.tuning) == 2 * 3
    assert plan.tuning[0].name == "tuning/positions=learned,lr=0.001,seed=50"
    assert plan.tuning[0].condition == plan.jobs[0].condition


@pytest.mark.parametrize(
    ("overrides", "settings", "message"),
    [
        (["seed=1"], {}, "-m: nothing varies"),
        (["seed=1,1"], {}, "seed=1,1"),
        (["seed=1,2", "seed=3"], {}, "seed: given twice"),
        (["seed=1,2", "run_dir=x"], {}, "run_dir: a sweep sets it"),
        (["logger=wandb,tensorboard"], {}, "expected one value; try 'logger.names=[wandb,tensorboard]'"),
        (["logger.project=a,b"], {}, "logger.project=a,b: no axis"),
        (["seed=1,2", "hydra.sweep.dir=x"], {}, "Hydra's own sweep settings"),
        (["data.name='a b','a/b'"], {}, "two jobs have this folder name"),
        ([f"data.name={'a' * 260},b"], {}, "too long for a folder name"),
        (["model/positions=glob(*)"], {}, "model/positions=glob(*): not a list of values; expected values one by one"),
        (["optimizer.lr=interval(0,1)"], {}, "optimizer.lr=interval(0,1): not a list of values; expected values"),
        (["optimizer.lr=1,2"], {"tune": "optimizer.lr", "tune_values": [1, 2, 3]}, "a key that is neither an axis"),
        (["data.name=a,b"], {"tune": "seed", "tune_values": [1, 2, 3]}, "a key that is neither an axis nor the seed"),
        (["seed=1,2", "optimizer.lr=1"], {"tune": "optimizer.lr", "tune_values": [1, 2, 3]}, "one of them alone"),
    ],
)
def test_plan_refuses(overrides, settings, message):
    with pytest.raises(UserError) as error:
        plan_sweep(overrides, {}, SweepConfig(**settings))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "a/b"}, "sweep.name=a/b"),
        ({"launcher": "pbs"}, "sweep.launcher=pbs"),
        ({"parallel": 0}, "sweep.parallel=0"),
        ({"ray": {"num_cpus": 1}}, "sweep.launcher=ray"),
        ({"slurm": {"a": 1}}, "sweep.launcher=slurm"),
        ({"tune_values": [1.0, 2.0, 3.0]}, "without sweep.tune"),
        ({"tune": "optimizer.lr", "tune_values": [1.0, 2.0]}, "at least 3"),
        ({"tune": "optimizer.lr", "tune_values": [1.0, 2.0, 3.0], "wandb_file": "x"}, "no sweep.tune"),
    ],
)
def test_sweep_settings_are_checked(settings, message):
    with pytest.raises(UserError) as error:
        SweepConfig(**settings)
    assert message in str(error.value)
