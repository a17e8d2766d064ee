"""gpt2lab.config.data: each source has its own options, composed by Hydra or built from plain values."""

import pytest
import yaml

from gpt2lab.cli.compose import compose_config
from gpt2lab.config import DATA_SOURCES, DataConfig, HubConfig, UserError, from_dict, to_dict
from gpt2lab.config.jobs import PrepareJob
from gpt2lab.data import SOURCES

REQUIRED = {"hub": {"hub_path": "o/n", "hub_revision": "0123"}, "mixture": {"mixture": {"a": 1.0, "b": 0.5}}}


def test_every_source_has_a_dataclass():
    assert set(DATA_SOURCES) == set(SOURCES) | {"mixture"}
    for name, config in DATA_SOURCES.items():
        data = config(**REQUIRED.get(name, {}))
        assert (data.source, data.name) == (name, name)


@pytest.mark.parametrize("name", DATA_SOURCES)
def test_config_survives_yaml(name):
    data = DATA_SOURCES[name](**REQUIRED.get(name, {}))
    values = yaml.safe_load(yaml.safe_dump(to_dict(PrepareJob(data=data))))
    assert from_dict(PrepareJob, values).data == data
    assert type(from_dict(DataConfig, to_dict(data))) is DATA_SOURCES[name]


@pytest.mark.parametrize("name", DATA_SOURCES)
def test_yaml_file_of_a_source_leaves_the_defaults_of_its_dataclass(name):
    overrides = [f"data.{key}={value}" for key, value in REQUIRED.get(name, {}).items()]
    overrides = [override.replace("'", "") for override in overrides]
    expected = DATA_SOURCES[name](**REQUIRED.get(name, {}))
    assert compose_config("prepare", [f"data={name}", *overrides]).data == expected


def test_options_of_a_source_are_composed():
    data = compose_config("train", ["data=text_files", "data.files=[a.txt,b c.txt]", "data.delimiter=null"]).data
    assert (data.source, data.files, data.delimiter, data.min_document_bytes) == (
        "text_files", ["a.txt", "b c.txt"], None, 4096,
    )  # fmt: skip
    data = compose_config("train", ["data=wikitext2"]).data
    assert type(data) is HubConfig
    assert (data.name, data.hub_path, data.hub_split) == ("wikitext2", "Salesforce/wikitext", "train")
    mixture = compose_config(
        "train", ["data=mixture", "data.mixture={wikitext103: 0.7, tinystories: 0.3}"]
    ).data.mixture
    assert mixture == {"wikitext103": 0.7, "tinystories": 0.3}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data=nothing"], "nothing: no such data; expected .*state_of_the_union, text_files"),
        (["data.source=nothing"], "data=nothing: expected one of state_of_the_union"),
        (
            ["data.files=[a]"],
            r"data\.files: data=state_of_the_union has no such option; it is one of data=text_files or",
        ),
        (["data=python_stdlib", "data.files=[a]"], r"data\.files: data=python_stdlib has no such option"),
        (["data.val_fraction=0.1"], r"data\.val_fraction: data=state_of_the_union has no such option; it is one of"),
        (["data=python_stdlib", "+data.files=[a]"], r"data\.files=\['a'\]: data=python_stdlib has no such option"),
        (
            ["data=jsonl_files", "data.delimiter=x"],
            r"data=jsonl_files has no such option; .*data=text_files or data=hub",
        ),
        (["data=text_files", "data.val_fracton=0.1"], r"data\.val_fracton: unknown key; did you mean val_fraction"),
        (["data=text_files", "data.val_fraction=x"], r"data\.val_fraction=x: expected a finite number"),
        (["data=text_files", "data.files=a.txt"], r"data\.files=a\.txt: expected a list; try .data\.files=\[a\.txt\]."),
        (["data=text_files", "data.root=[]"], r"data\.root=\[\]: expected a text"),
        (["data=text_files", "data.min_document_bytes=-1"], r"data\.min_document_bytes=-1: expected 0 or more bytes"),
        (["data=text_files", "data.on_error=x"], r"data\.on_error=x: expected stop or skip"),
        (["data=hub"], r"data\.hub_path='': expected a dataset of the Hub"),
        (["data=wikitext2", "data.delimiter=x"], "data.delimiter='x': expected null with data.document_start"),
        (
            ["data=hub", "data.hub_path=a", "data.document_start='['"],
            r"data\.document_start=\[: no regular expression \(.*\); expected one; put a backslash before a character",
        ),
        (["data=mixture"], r"data\.mixture=\{\}: expected prepared datasets and their weights: type"),
        (["data=mixture", "data.mixture={a: x}"], r"data\.mixture=\{a: x\}: expected names with values"),
        (["data=mixture", "data.mixture={a: -1}"], "data.mixture=.*: expected weights above 0"),
    ],
)
def test_option_that_a_source_does_not_have_is_one_line(overrides, message):
    with pytest.raises(UserError, match=message) as error:
        compose_config("prepare", overrides)
    assert "\n" not in str(error.value)


def test_plain_values_with_an_option_of_another_source_are_refused():
    values = to_dict(DATA_SOURCES["python_stdlib"]()) | {"files": ["a"]}
    with pytest.raises(UserError, match=r"data\.files=\['a'\]: data=python_stdlib has no such option"):
        from_dict(DataConfig, values)
    with pytest.raises(UserError, match="data=: expected one of state_of_the_union"):
        from_dict(DataConfig, {"files": ["a"]})
