"""Help and the page of all keys come from the configuration itself."""

import re
import sys
from pathlib import Path

import pytest

from gpt2lab.cli.compose import JOBS, compose_config, config_groups, known_keys
from gpt2lab.cli.help import MAIN_KEYS, _typed, configuration_page, help_page, settings_in
from gpt2lab.config import ExplainJob, SampleJob, SweepConfig
from gpt2lab.config.sampling import DecodingConfig

PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"


def test_configuration_page_is_up_to_date():
    assert PAGE.read_text() == configuration_page() + "\n", "type python -m gpt2lab.cli.help > docs/configuration.md"


def test_configuration_page_has_every_setting_in_a_row_of_four_cells():
    rows = [line for line in configuration_page().splitlines() if line.startswith("| `")]
    assert all(len(re.split(r"(?<!\\)\|", row)) == 6 for row in rows)
    for name, job in JOBS.items():
        for setting in settings_in(job):
            meaning = setting.meaning.replace("|", r"\|").replace("``", "`")
            assert any(f"`{setting.key}`" in row and meaning in row for row in rows), (name, setting)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"), (True, "true"), (1e-8, "1e-08"), ("adamw", "adamw"), ("", '""'), ("\n\n", r'"\n\n"'),
        (["", "a"], '["", a]'), (DecodingConfig(temperature=0.5, top_k=4), "{temperature: 0.5, top_k: 4}"),
    ],
)  # fmt: skip
def test_defaults_are_written_as_they_are_typed(value, text):
    assert _typed(value) == text


def test_defaults_are_those_of_the_job():
    for job, key, default in ((ExplainJob, "sampling.top_k", "40"), (SampleJob, "sampling.top_k", "null")):
        assert {setting.key: setting.default for setting in settings_in(job)}[key] == default
    assert ExplainJob().sampling == compose_config("explain").sampling


@pytest.mark.parametrize("name", JOBS)
def test_every_setting_has_a_meaning(name):
    assert [setting.key for setting in settings_in(JOBS[name]) if not setting.meaning] == []


@pytest.mark.parametrize("name", JOBS)
def test_help_shows_keys_that_exist(name):
    keys = [key for group in MAIN_KEYS[name].values() for key in group]
    of_train = {"from", *known_keys(SweepConfig, "sweep.")} if name == "train" else set()
    assert set(keys) <= {*known_keys(JOBS[name]), *config_groups(), *of_train}
    page = help_page(name, 80)
    assert all(f"{key}=" in page for key in keys)
    assert max(map(len, page.splitlines())) <= 110
    assert all(re.search(rf"^  {re.escape(key)}= +\S", page, re.MULTILINE) for key in keys)


@pytest.mark.parametrize("name", JOBS)
def test_help_says_what_the_command_does_and_how_it_was_started(name, monkeypatch):
    monkeypatch.setattr(sys, "argv", [f"{name}.py"])
    first, *others = help_page(name, 80).splitlines()
    assert re.fullmatch(r"[A-Z][^`]{20,}\.", first)
    assert f"usage: python {name}.py KEY=VALUE ..." in others
    assert "`" not in "".join(others)
    monkeypatch.setattr(sys, "argv", ["/venv/bin/gpt2lab"])
    assert f"usage: gpt2lab {name} KEY=VALUE ..." in help_page(name, 80)
    monkeypatch.setattr("gpt2lab.cli.help.DOCS", Path("/nowhere"))  # an installed package
    assert "docs/" not in help_page(name, 80)
