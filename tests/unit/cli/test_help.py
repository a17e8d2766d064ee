"""Help and the page of all keys come from the configuration itself."""

from pathlib import Path

import pytest

from gpt2lab.cli.compose import JOBS, config_groups, known_keys
from gpt2lab.cli.help import MAIN_KEYS, configuration_page, help_page, settings_of

PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"


def test_configuration_page_is_up_to_date():
    assert PAGE.read_text() == configuration_page() + "\n", "type python -m gpt2lab.cli.help > docs/configuration.md"


@pytest.mark.parametrize("name", JOBS)
def test_every_setting_has_a_meaning(name):
    assert [setting.key for setting in settings_of(JOBS[name]) if not setting.meaning] == []


@pytest.mark.parametrize("name", JOBS)
def test_help_shows_keys_that_exist(name):
    keys = [key for group in MAIN_KEYS[name].values() for key in group]
    assert set(keys) <= {*known_keys(JOBS[name]), *config_groups()}
    page = help_page(name, 80)
    assert all(f"{key}=" in page for key in keys)
    assert max(map(len, page.splitlines())) <= 100
