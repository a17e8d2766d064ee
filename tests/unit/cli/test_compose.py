"""What is typed becomes a job, or one line that says what to type instead."""

import json
from pathlib import Path

import pytest

from gpt2lab.cli.compose import CONFIG_DIR, JOBS, compose_config, config_groups, known_keys
from gpt2lab.cli.sweeping import experiment_params, sweep_settings
from gpt2lab.config import SampleJob, TrainJob, UserError
from gpt2lab.model.mlp import MLPS
from gpt2lab.model.norms import NORMS
from gpt2lab.model.positions import POSITIONS
from tests.tokenizer_files import smollm

GROUP_OF_JOB = {"eval": "eval", "eval/corpus": "eval", "sampling": "sample"}
REQUIRED_OPTIONS = {
    "data/hub": ["data.hub_path=owner/name", "data.hub_revision=0123"],
    "data/mixture": ["data.mixture={a: 1, b: 0.5}"],
}


@pytest.mark.parametrize("name", JOBS)
def test_defaults_compose(name):
    needed = ["sweep=runs/sweeps/one"] if name == "report" else []
    assert isinstance(compose_config(name, needed), JOBS[name])


@pytest.mark.parametrize(
    "option", [p.relative_to(CONFIG_DIR).with_suffix("") for p in sorted(CONFIG_DIR.glob("*/**/*.yaml"))], ids=str
)
def test_every_option_of_every_group_composes(option, tmp_path):
    group, choice = option.parent.as_posix(), option.name
    required = REQUIRED_OPTIONS.get(f"{group}/{choice}", [])
    required = [f"tokenizer.path={smollm(tmp_path)}"] if choice == "huggingface" else required
    plus = "+" if group == "experiment" else ""  # the default run is no experiment
    job = compose_config(GROUP_OF_JOB.get(group, "train"), [f"{plus}{group}={choice}", *required])
    if group.startswith("model/"):
        assert getattr(job.model, group.removeprefix("model/")).name == choice


@pytest.mark.parametrize(("group", "registry"), [("positions", POSITIONS), ("norm", NORMS), ("mlp", MLPS)])
def test_the_files_of_a_group_are_its_variants(group, registry):
    files = {path.stem for path in (CONFIG_DIR / "model" / group).glob("*.yaml")}
    assert files == set(registry)
    with pytest.raises(UserError) as error:
        compose_config("train", [f"model/{group}=nothing"])
    assert ", ".join(sorted(registry)) in str(error.value)


def test_the_short_name_of_the_modern_preset():
    modern, small = (compose_config("train", [f"model={name}"]).model for name in ("modern", "modern_small"))
    assert modern == small
    assert (modern.positions.name, modern.norm.name, modern.mlp.name, modern.bias) == (
        "rope",
        "rmsnorm",
        "swiglu",
        False,
    )
    shape = compose_config("train", ["model=gpt2_small"]).model
    assert (modern.n_layer, modern.n_head, modern.n_embd) == (shape.n_layer, shape.n_head, shape.n_embd)


def test_options_of_the_model_reach_it():
    typed = ["model.n_kv_head=4", "model.qk_norm=true", "model.vocab_multiple_of=128", "model.mlp.hidden_dim=99",
             "model/positions=rope", "model.positions.rope_fraction=0.25", "model=gpt2_small"]  # fmt: skip
    model = compose_config("train", typed).model
    assert (model.n_kv_head, model.qk_norm, model.padded_vocab_size, model.mlp.hidden_dim) == (4, True, 50_304, 99)
    assert model.positions.rope_fraction == 0.25


@pytest.mark.parametrize(
    ("model", "lr", "batch_tokens", "max_steps", "warmup_steps"),
    [
        # llm.c, scripts/run_gpt2_{124M,350M,774M,1558M}.sh: -l, -d, -x and -u
        ("gpt2_small", 6e-4, 524_288, 18_865, 700),
        ("gpt2_medium", 3e-4, 524_288, 60_000, 700),
        ("gpt2_large", 2.5e-4, 524_288, 286_102, 700),
        ("gpt2_xl", 6e-4, 1_048_576, 32_000, 700),
        ("modern_small", 6e-4, 524_288, 18_865, 700),
        ("modern", 6e-4, 524_288, 18_865, 700),
    ],
)
def test_model_selects_its_published_recipe(model, lr, batch_tokens, max_steps, warmup_steps):
    job = compose_config("train", [f"model={model}"])
    assert (job.peak_lr, job.training.batch_tokens, job.training.max_steps) == (lr, batch_tokens, max_steps)
    assert job.schedule.warmup_of(max_steps) == pytest.approx(warmup_steps, abs=3)
    assert (job.optimizer.name, job.tokenizer.name, job.model.block_size) == ("adamw", "gpt2", 1024)


@pytest.mark.parametrize("num_processes", [1, 2, 4, 8, 16, 64])
@pytest.mark.parametrize("model", ["gpt2_small", "gpt2_medium", "gpt2_large", "gpt2_xl"])
def test_recipes_can_be_shared_by_processes(model, num_processes):
    job = compose_config("train", [f"model={model}", f"runtime.num_processes={num_processes}"])
    assert job.batch_size % (num_processes * job.micro_batch_of(num_processes)) == 0


def test_overrides_win_over_the_recipe():
    typed = ["training.max_steps=2", "training.batch_tokens=2048", "optimizer=muon", "optimizer.lr=1e-3"]
    typed += ["schedule=linear"]
    for overrides in ([*typed, "model=gpt2_medium"], ["model=gpt2_medium", *typed]):
        job = compose_config("train", overrides)
        assert (job.training.max_steps, job.training.batch_tokens) == (2, 2048)
        assert (job.optimizer.name, job.peak_lr, job.schedule.name) == ("muon", 1e-3, "linear")
        assert job.schedule.warmup_of(2) == 0


def test_study_is_gpt2_with_its_own_shape_and_length():
    job = compose_config("train", ["+experiment=study_nano"])
    assert (job.model.positions.name, job.model.norm.name, job.model.mlp.name) == ("learned", "layernorm", "gelu")
    assert (job.model.n_embd, job.model.vocab_size, job.training.max_steps) == (64, 2048, 400)
    changed = compose_config("train", ["+experiment=study_nano", "model/mlp=swiglu", "training.max_steps=9"])
    assert (changed.model.mlp.name, changed.training.max_steps) == ("swiglu", 9)


def test_predefined_study_brings_its_axes():
    assert experiment_params(["+experiment=positions_x_norm"]) == {
        "model/positions": "learned,rope",
        "model/norm": "layernorm,rmsnorm",
        "seed": "1,2,3,4,5,6,7,8",
        "sweep.tune": "optimizer.lr",
        "sweep.tune_values": "[2.5e-3,5e-3,1e-2,2e-2,4e-2,8e-2]",
    }


def test_learning_rate_of_the_scaling_study_follows_the_width():
    """At one rate for all widths the loss would fall with the size also because the rate fits some widths better."""
    widths = [int(width) for width in experiment_params(["+experiment=scaling"])["model.n_embd"].split(",")]
    jobs = [compose_config("train", ["+experiment=scaling", f"model.n_embd={width}"]) for width in widths]
    assert [job.peak_lr for job in jobs] == [0.3 / width for width in widths]
    assert {job.optimizer.name for job in jobs} == {"muon"}


def test_recipe_of_another_model_can_be_chosen():
    job = compose_config("train", ["model=gpt2_small", "recipe=gpt2_medium"])
    assert (job.model.n_layer, job.peak_lr) == (12, 3e-4)


def test_overrides_reach_the_job():
    job = compose_config("train", ["model/positions=rope", "model.positions.rope_theta=5e5", "tokenizer=bytes"])
    assert (job.model.positions.name, job.model.positions.rope_theta) == ("rope", 5e5)
    assert job.model.vocab_size == 257


@pytest.mark.parametrize(
    ("overrides", "fragments"),
    [
        (["training.max_step=5"], ["training.max_step: unknown key", "training.max_steps"]),
        (["positions=rope"], ["positions: unknown key", "model/positions"]),
        (["max_steps=5"], ["max_steps: unknown key", "training.max_steps"]),
        (["model.positions=rope"], ["choose a variant with a slash: model/positions=rope"]),
        (["model.norm=rmsnorm"], ["model/norm=rmsnorm"]),
        (["+model.drop_out=0.1"], ["model.drop_out: unknown key", "did you mean dropout?"]),
        (["+max_step=5"], ["max_step: unknown key"]),
        (["steps=5"], ["steps: unknown key; did you mean training.max_steps?"]),
        (["+model.n_layer=2"], ["+model.n_layer=2: the key is there already", "try model.n_layer=2"]),
        (["optimizer.lr=1e-3,"], ["optimizer.lr=1e-3,: a comma at its end", "try optimizer.lr=1e-3"]),
        (["model/positions=RoPE"], ["did you mean rope?"]),
        (["training=5"], ["training=5", "several settings"]),
        (["model/norm=batchnorm"], ["model/norm=batchnorm: no such model/norm", "layernorm, rmsnorm"]),
        (["model/norm=mine:Norm"], ["no such model/norm", "did you mean model.norm.name=mine:Norm?"]),
        (["optimizer="], ["optimizer=: no such optimizer; expected adamw, muon"]),
        (["model=null"], ["model=null: expected the name of a file of configs/model: gpt2_large, "]),
        (["training.max_steps=2", "model/norm=3"], ["model/norm=3: expected the name", "layernorm, rmsnorm"]),
        (["optimizer=[[muon]]"], ["optimizer=[[muon]]: expected the name of a file of configs/optimizer: adamw, muon"]),
        (["data={text_files: 1}"], ["data={text_files: 1}: expected the name of a file of configs/data: "]),
        (["+experiment=3"], ["+experiment=3: expected the name of a file of configs/experiment: "]),
        (["recipe=3"], ["recipe=3: expected the name of a file of configs/recipe: "]),
        (["eval/corpus=3"], ["eval/corpus: not a setting of this command, only of eval.py"]),
        (["model=[b]"], ["model: b is not a file of configs/model; expected one name"]),
        (["model/norm=[layernorm,rmsnorm]"], ["expected one name; try -m model/norm=layernorm,rmsnorm for a sweep"]),
        (["logger=[wandb,tensorboard]"], ["expected one name; try 'logger.names=[wandb,tensorboard]' for several"]),
        (["init_from="], ["init_from=: no value, as of an unset variable of the shell; expected", "init_from=null"]),
        (["resume=''"], ["resume='': no value"]),
        (["training.max_steps=1.5"], ["training.max_steps=1.5: expected a whole number"]),
        (["optimizer.lr=fast"], ["optimizer.lr=fast: expected a finite number"]),
        (["model.n_layer=null"], ["model.n_layer=null: expected a whole number"]),
        (["model.n_head=5"], ["model.n_head=5"]),
        (["model.n_kv_head=5", "model=gpt2_small"], ["model.n_kv_head=5", "4 or 6"]),
        (["model/positions=rope", "model.positions.rope_fraction=2"], ["model.positions.rope_fraction=2"]),
        (["model/positions=learned", "model.positions.rope_fractoin=1"], ["rope_fractoin"]),
        (["model.mlp.hidden_dim=wide"], ["model.mlp.hidden_dim=wide: expected a whole number"]),
        (["nonsense"], ["nonsense"]),
        (["experiment=study_nano"], ["experiment=study_nano: the default run has none", "+experiment=study_nano"]),
        (["optimizer.name=adam"], ["optimizer.name=adam: expected one of adamw, muon; did you mean adamw?"]),
        (["schedule.name=cosin"], ["schedule.name=cosin", "did you mean cosine?"]),
        (["model.positions.name=rop"], ["model.positions.name=rop", "did you mean rope?"]),
        (["model.norm.name=x"], ["model.norm.name=x", "layernorm, rmsnorm"]),
        (["model.mlp.name=x"], ["model.mlp.name=x", "swiglu"]),
        (["logger.names=[wandbb]"], ["logger.names=wandbb", "did you mean wandb?"]),
        (["~model"], ["~model: nothing can be left out", "try model=VALUE"]),
        (["~optimizer"], ["~optimizer"]),
        (["seed=1,2"], ["seed=1,2: expected one value; try ", "train -m seed=1,2 for a sweep"]),
        (["optimizer.lr=0,001"], ["try optimizer.lr=0.001 with a decimal point"]),
        (["logger=wandb,tensorboard"], ["try 'logger.names=[wandb,tensorboard]' for several loggers"]),
        (["logger.tags=a,b"], ["logger.tags=a,b: expected a list; try 'logger.tags=[a,b]'"]),
        (["logger.project=a,b"], ["""try 'logger.project="a,b"' for a text with a comma"""]),
        (["norm=rmsnorm"], ["norm: unknown key; did you mean model/norm=rmsnorm?"]),
        (["model=gpt2"], ["no such model", "did you mean model=gpt2_small?"]),
        (["optimizer=adam"], ["did you mean adamw?"]),
        (["training=[1]"], ["training=[1]: training holds several settings"]),
        (["data=mixture", "data.mixture=5"], ["data.mixture=5: expected names with values"]),
    ],
)
def test_mistakes_are_one_line(overrides, fragments):
    with pytest.raises(UserError) as error:
        compose_config("train", overrides)
    message = str(error.value)
    assert all(fragment in message for fragment in fragments), message
    assert "\n" not in message
    assert str(Path.cwd()) not in message


@pytest.mark.parametrize(
    ("command", "override", "owners"),
    [
        ("eval", "data=python_stdlib", "train.py, prepare.py"),
        ("train", "eval=full", "eval.py"),
        ("prepare", "training.max_steps=3", "train.py"),
        ("sample", "+model/norm=rmsnorm", "train.py"),
        ("report", "sweep.name=x", "train.py"),
    ],
)
def test_setting_of_another_command_names_that_command(command, override, owners):
    key = override.removeprefix("+").partition("=")[0]
    with pytest.raises(UserError, match=f"^{key}: not a setting of this command, only of {owners}$"):
        compose_config(command, [override])


@pytest.mark.parametrize(
    "text",
    [
        "Hello, I'm a language model,", "", " ", "    def ", "'quoted'", '"a" + \'b\'', "[1, {x: 2}]", "a=b",
        "null", "1e5", "true", "${seed} $HOME \\${x} \\\\${y}", "back\\slash\\",
        "\\'", "line\nbreak\ttab", "東京 🙂", "%s {}", "\\\\'\\", "prompt=prompt",
    ],
)  # fmt: skip
def test_a_prompt_is_what_was_typed(text):
    assert compose_config("sample", [f"prompt={text}"]).prompt == text


def test_a_whole_number_may_be_written_with_an_exponent():
    job = compose_config(
        "train", ["training.max_steps=null", "training.max_tokens=2.5e9", "seed=1_000", "model.n_layer=3.0"]
    )
    assert (job.training.max_tokens, job.seed, job.model.n_layer) == (2_500_000_000, 1000, 3)
    for text in ("2.5", "1e-3", "1e99"):
        with pytest.raises(UserError, match=f"^training.max_steps={text}: expected a whole number"):
            compose_config("train", [f"training.max_steps={text}"])
    assert compose_config("train", ["run_dir=1e3", "training.grad_clip=1e0"]).run_dir == "1e3"
    assert sweep_settings(["sweep.parallel=1e1"]).parallel == 10


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("sweep.tune_values=1e-3,2e-3,4e-3", "; try 'sweep.tune_values=[1e-3,2e-3,4e-3]'"),
        ("sweep.parallel=many", "sweep.parallel=many: expected a whole number"),
        ("sweep.tune=lr", "sweep.tune=lr: unknown key; did you mean optimizer.lr?"),
    ],
)
def test_mistakes_in_settings_of_a_sweep_name_them(argument, message):
    needed = ["sweep.tune_values=[1,2,3]"] if argument.startswith("sweep.tune=") else []
    with pytest.raises(UserError) as error:
        sweep_settings([*needed, argument])
    assert message in str(error.value)


def test_unknown_command_is_an_error_line():
    with pytest.raises(UserError, match=r"^command=trian: expected one of train, .*; did you mean train\?$"):
        compose_config("trian")


def test_known_keys_are_the_dataclasses():
    assert {"seed", "model.positions.rope_theta", "training.batch_tokens"} <= set(known_keys(TrainJob))
    assert "sampling.top_p" in known_keys(SampleJob)
    assert {"model", "model/positions", "data"} <= set(config_groups())


def test_a_misspelt_key_in_a_list_is_named():
    with pytest.raises(
        UserError, match=r"^eval\.sample_quality\.decoding: unknown key temprature .* mean temperature\?$"
    ):
        compose_config("eval", ["eval.sample_quality.decoding=[{temprature: 1}]"])
    job = compose_config("eval", ["eval=sample_quality", "eval.sample_quality.decoding=[{top_k: 3}]"])
    assert [setting.label for setting in job.eval.sample_quality.decoding] == ["top_k=3"]


def test_the_vocabulary_follows_the_tokenizer(tmp_path):
    folder = smollm(tmp_path / "a folder")
    job = compose_config("train", ["tokenizer=huggingface", f"tokenizer.path='{folder}'"])
    ids = len(json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"])
    assert job.model.vocab_size == job.tokenizer.vocab_size == ids
    assert compose_config("train", ["tokenizer=bpe", "tokenizer.vocab_size=512"]).model.vocab_size == 512


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["tokenizer=huggingface"], "tokenizer.path=null: expected"),
        (
            ["tokenizer=huggingface", "tokenizer.path=/nowhere"],
            "tokenizer.path=/nowhere: /nowhere is missing; expected",
        ),
        (["tokenizer=gpt2", "tokenizer.path=x"], "tokenizer.path=x: tokenizer=gpt2 reads no file"),
        (["tokenizer=bpe", "tokenizer.vocab_size=9"], "tokenizer.vocab_size=9: expected at least 258"),
    ],
)
def test_tokenizer_settings_that_cannot_be_are_one_line(overrides, message):
    with pytest.raises(UserError) as caught:
        compose_config("train", overrides)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("typed", ["runs/sweeps/s/positions=rope,seed=1", "'runs/sweeps/s/positions=rope,seed=1'"])
def test_a_path_may_hold_equals_signs_and_commas_with_and_without_quotes(typed):
    job = compose_config("eval", [f"checkpoint={typed}", f"baseline={typed}"])
    assert job.checkpoint == job.baseline == "runs/sweeps/s/positions=rope,seed=1"
    assert compose_config("report", [f"sweep={typed}"]).sweep == "runs/sweeps/s/positions=rope,seed=1"
    assert compose_config("eval", ["checkpoint=null"]).checkpoint is None


@pytest.mark.parametrize(
    "name", ["2026_11", "1e3", "0x10", "007", "true", "on", "[a]", "{a}", "a b", "it's", "é", "a~b"]
)
def test_a_name_is_what_was_typed(name):
    """Hydra reads 2026_11 as the number 202611, and 1e3 as 1000.0."""
    job = compose_config("train", [f"run_dir={name}", f"init_from={name}", f"logger.run_name={name}"])
    assert job.run_dir == job.init_from == job.logger.run_name == name
    assert compose_config("eval", [f"checkpoint={name}"]).checkpoint == name
    assert sweep_settings([f"sweep.name={name}"]).name == name
    assert compose_config("train", ["run_dir=null", "resume=NULL"]).run_dir is None
    assert compose_config("train", ["run_dir=runs/${seed}", "seed=3"]).run_dir == "runs/3"


def test_the_home_folder_has_its_sign_in_paths(monkeypatch):
    """zsh gives ``run_dir=~/x`` to the program as it is typed, and bash ``eval.text_file=~/x``."""
    monkeypatch.setenv("HOME", "/home/me")
    assert compose_config("train", ["run_dir=~/x", "init_from=~/y"]).run_dir == "/home/me/x"
    assert compose_config("eval", ["eval.text_file=~/a b.txt"]).eval.text_file == "/home/me/a b.txt"
    assert compose_config("sample", ["prompt=~/x"]).prompt == "~/x"
