"""What is typed becomes a job, or one line that says what to type instead."""

from pathlib import Path

import pytest

from gpt2lab.cli.compose import CONFIG_DIR, JOBS, compose_config, config_groups, known_keys
from gpt2lab.config import SampleJob, TrainJob, UserError
from gpt2lab.model.mlp import MLPS
from gpt2lab.model.norms import NORMS
from gpt2lab.model.positions import POSITIONS

GROUP_OF_JOB = {"eval": "eval", "eval/corpus": "eval", "sampling": "sample"}


@pytest.mark.parametrize("name", JOBS)
def test_defaults_compose(name):
    assert isinstance(compose_config(name), JOBS[name])


@pytest.mark.parametrize(
    "option", [p.relative_to(CONFIG_DIR).with_suffix("") for p in sorted(CONFIG_DIR.glob("*/**/*.yaml"))], ids=str
)
def test_every_option_of_every_group_composes(option):
    group, choice = option.parent.as_posix(), option.name
    job = compose_config(GROUP_OF_JOB.get(group, "train"), [f"{group}={choice}"])
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
        (["+model.drop_out=0.1"], ["unknown key drop_out", "did you mean dropout?"]),
        (["+max_step=5"], ["unknown key max_step"]),
        (["training=5"], ["training=5", "several settings"]),
        (["model/norm=batchnorm"], ["batchnorm: no such model/norm", "layernorm, rmsnorm"]),
        (["training.max_steps=1.5"], ["training.max_steps=1.5", "Integer"]),
        (["optimizer.lr=fast"], ["optimizer.lr=fast", "Float"]),
        (["model.n_layer=null"], ["model.n_layer=null", "not Optional"]),
        (["model.n_head=5"], ["model.n_head=5"]),
        (["model.n_kv_head=5", "model=gpt2_small"], ["model.n_kv_head=5", "4 or 6"]),
        (["model/positions=rope", "model.positions.rope_fraction=2"], ["model.positions.rope_fraction=2"]),
        (["model/positions=learned", "model.positions.rope_fractoin=1"], ["rope_fractoin"]),
        (["model.mlp.hidden_dim=wide"], ["model.mlp.hidden_dim=wide", "Integer"]),
        (["nonsense"], ["nonsense"]),
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
    "text",
    [
        "Hello, I'm a language model,", "", " ", "    def ", "'quoted'", '"a" + \'b\'', "[1, {x: 2}]", "a=b",
        "null", "1e5", "true", "${seed} $HOME \\${x} \\\\${y}", "back\\slash\\",
        "\\'", "line\nbreak\ttab", "東京 🙂", "%s {}", "\\\\'\\", "prompt=prompt",
    ],
)  # fmt: skip
def test_a_prompt_is_what_was_typed(text):
    assert compose_config("sample", [f"prompt={text}"]).prompt == text


def test_known_keys_are_the_dataclasses():
    assert {"seed", "model.positions.rope_theta", "training.batch_tokens"} <= set(known_keys(TrainJob))
    assert "sampling.top_p" in known_keys(SampleJob)
    assert {"model", "model/positions", "data"} <= set(config_groups())


def test_a_misspelt_key_in_a_list_is_named():
    with pytest.raises(UserError, match=r"^eval\.quality\.decoding: unknown key temprature .* mean temperature\?$"):
        compose_config("eval", ["eval.quality.decoding=[{temprature: 1}]"])
    job = compose_config("eval", ["eval=sampling", "eval.quality.decoding=[{top_k: 3}]"])
    assert [setting.label for setting in job.eval.quality.decoding] == ["top_k=3"]
