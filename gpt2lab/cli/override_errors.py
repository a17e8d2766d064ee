"""One line for an error of Hydra's or OmegaConf's: the value, what was expected, what to type."""

import re
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from types import NoneType
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from gpt2lab import config
from gpt2lab.cli.other_names import OTHER_VALUES, name_here
from gpt2lab.config import DATA_SOURCES, did_you_mean, one_line
from gpt2lab.config.data import explain_option
from gpt2lab.config.escapes import expand_home
from gpt2lab.config.plain import EXPECTED
from gpt2lab.shell import command_line, shell_word

SOURCE_OF_CLASS = {source.__name__: name for name, source in DATA_SOURCES.items()}
"""data=NAME by the name of its dataclass"""
LOGGER = "logger"
"""the one group of which a job may have several variants, in ``logger.names``"""


@dataclass(frozen=True)
class Settings:
    """What a command takes on its command line."""

    command: str
    kinds: Mapping[str, Any]
    """type hint of each dotted key of the job"""
    data_kinds: Mapping[str, Any]
    """the same for the keys that only some sources of data have"""
    groups: Sequence[str]
    """folders of configs/ that the job has, as they are typed"""
    others: Mapping[str, list[str]]
    """keys and groups that only other commands have, and those commands"""

    @property
    def known(self) -> list[str]:
        """Keys and groups, each once."""
        return list(dict.fromkeys([*self.kinds, *self.groups]))

    def kind_of(self, key: str) -> Any:
        """The type hint of a key; None: it is not known."""
        return self.kinds.get(key, self.data_kinds.get(key))


def explain_unparsable(override: str, reason: str) -> str:
    """The line for an override that Hydra's grammar has no place for: most often its value needs quotes."""
    key, equals, value = override.partition("=")
    if not equals:
        return f"{override}: no value; expected KEY=VALUE; --help lists the main keys"
    if value.endswith(",") and not value.startswith("["):
        return f"{override}: a comma at its end; expected a value; try {shell_word(override.rstrip(','))}"
    # the name of a sweep's run has commas: in [a/norm=rmsnorm,seed=1,b] only the last one divides
    items = re.split(r",(?![^,/]*=)", value[1:-1]) if value.startswith("[") and value.endswith("]") else None
    quoted = _in_quotes(value) if items is None else f"[{','.join(_in_quotes(item.strip()) for item in items)}]"
    typed = shell_word(f"{key}={quoted}")
    if reason and "token recognition" not in reason and "LexerNoViable" not in reason:
        return f"{override}: not understood ({reason.partition(' See https')[0]}); try {typed}"
    return f'{override}: a value with such characters needs quotes; expected {key}="..."; try {typed}'


def _in_quotes(text: str) -> str:
    """A text in double quotes, as Hydra's grammar reads one, with the home folder for ~."""
    return QuotedString(text=expand_home(text), quote=Quote.double).with_quotes()


def of_other_commands(key: str, commands: Sequence[str]) -> str:
    """The line for a key or group that this command does not have."""
    return f"{key}: not a setting of this command, only of {', '.join(f'{name}.py' for name in commands)}"


def unknown_key(key: str, value: str, reason: str, settings: Settings) -> str:
    """The line for a key that the job does not have.

    Args:
        key: as typed.
        value: as typed.
        reason: what OmegaConf says; it names the part that is missing, and where.
        settings: of the command.
    """
    if (commands := settings.others.get(key)) and not name_here(key, settings.known):
        return of_other_commands(key, commands)
    missing = re.search(r"Key '([^']+)' not in '(\w+)'", reason)
    if missing and missing[1] not in key.split(".") and hasattr(config, missing[2]):
        # a key within the value that was typed, as in [{temprature: 1}]
        hint = did_you_mean(missing[1], typing.get_type_hints(getattr(config, missing[2])))
        return f"{key}: unknown key {missing[1]} in it{hint}"
    if missing and key == f"data.{missing[1]}" and missing[2] in SOURCE_OF_CLASS:
        return f"{key}: {explain_option(missing[1], SOURCE_OF_CLASS[missing[2]])}"
    return f"{key}: unknown key{nearest_key(key, value, settings)}"


def no_such_option(argument: str, settings: Settings) -> str:
    """The line for ``--KEY=VALUE``, as other programs take it."""
    override = argument.lstrip("-")
    key, _, value = override.partition("=")
    hint = f"; try {shell_word(override)}" if value and key in settings.known else nearest_key(key, value, settings)
    return f"{argument}: no such option; expected KEY=VALUE{hint or '; --help lists the main keys'}"


def nearest_key(key: str, value: str, settings: Settings) -> str:
    """The end of an error line: what an unknown key may mean, or nothing."""
    last = re.split(r"[./]", key)[-1]
    if other := name_here(last, settings.known):
        return f"; did you mean {other}?"
    by_last_part = [known for known in settings.known if re.split(r"[./]", known)[-1] == last]
    groups = [known for known in by_last_part if known in settings.groups]  # model.norm itself cannot be set
    by_last_part = [known for known in by_last_part if known.replace(".", "/") not in groups] + [
        f"{group}={value or 'NAME'}" for group in groups
    ]
    is_clear = 0 < len(by_last_part) <= 3
    return f"; did you mean {' or '.join(by_last_part)}?" if is_clear else did_you_mean(key, settings.known)


def omegaconf_reason(error: OmegaConfBaseException) -> str:
    """What OmegaConf says of a key or value, without the lines that say where it was."""
    return one_line(error).partition(" full_key")[0]


def wrong_value(key: str, value: str, reason: str, settings: Settings) -> str:
    """The line for a value of another type than its key's.

    Args:
        key: as typed.
        value: as typed.
        reason: what OmegaConf says.
        settings: of the command.
    """
    if commands := settings.others.get(key):
        return of_other_commands(key, commands)
    kind = settings.kind_of(key)
    if kind is None:
        return f"{key}={value}: {reason}"
    if (group := key.replace(".", "/")) in settings.groups:
        return f"{key}={value}: {key} is a group; choose a variant with a slash: {group}={value}"
    if is_dataclass(kind):
        return f"{key}={value}: {key} holds several settings; expected one of them, {key}.NAME=VALUE"
    item = next(part for part in (*typing.get_args(kind), kind) if part is not NoneType)
    if typing.get_origin(kind) is dict:
        return f"{key}={value}: expected names with values; try '{key}={{NAME: VALUE}}'"
    if typing.get_origin(kind) is list and value.startswith("["):
        return f"{key}={value}: expected a list, each item {EXPECTED.get(item, 'with settings in braces')}"
    if typing.get_origin(kind) is list:
        return f"{key}={value}: expected a list; try {shell_word(f'{key}=[{value}]')}"
    return f"{key}={value}: expected {EXPECTED[item]}"


def several_names(group: str, names: str) -> str:
    """The line for ``GROUP=[A,B]`` where one file is expected; ``names`` is the list as it was typed."""
    several = (
        f"-m {group}={names[1:-1]} for a sweep" if group != LOGGER else f"'logger.names={names}' for several loggers"
    )
    return f"{group}={names}: expected one name; try {several}"


def several_values(override: str, settings: Settings) -> str:
    """The line for ``KEY=A,B`` where one value is expected."""
    key, _, value = override.lstrip("+").partition("=")
    kind = settings.kind_of(key)
    if key == LOGGER:
        return several_names(key, f"[{value}]")
    if typing.get_origin(kind) is list:
        return wrong_value(key, value, "", settings)
    tries = []
    if float in (kind, *typing.get_args(kind)) and re.fullmatch(r"[+-]?\d+,\d+", value):
        tries.append(f"{key}={value.replace(',', '.')} with a decimal point")
    if str in (kind, *typing.get_args(kind)):
        tries.append(f"{shell_word(f'{key}={_in_quotes(value)}')} for a text with a comma")
    if settings.command == "train":
        tries.append(f"{command_line('train', '-m', override)} for a sweep")
    return f"{override}: expected one value{'; try ' if tries else ''}{', or '.join(tries)}"


def override_message(error: BaseException, overrides: Sequence[str], settings: Settings) -> str:
    """What is wrong with an override, and what to type instead.

    Args:
        error: raised while a configuration was composed.
        overrides: as they were typed.
        settings: of the command.
    """
    chain = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    text = " ".join(one_line(link) for link in chain)

    if found := re.search(r"UserError raised while resolving interpolation: (.+?) full_key: ", text):
        return found[1]
    if isinstance(error, OverrideParseException):
        return explain_unparsable(str(error.override), text)
    if found := re.search(r"LexerNoViableAltException: (\S+)", text):
        return explain_unparsable(found[1], "")
    if found := re.search(r"Ambiguous value for argument '(.+?)' 1\. To use it as a list", text):
        return several_values(found[1], settings)
    added = re.search(r"^In '(?:schema/)?([^']+)/[^/']+': ConfigKeyError", text)  # a group that was typed with +
    if added and (commands := settings.others.get(added[1])):
        return of_other_commands(added[1], commands)
    if found := re.search(r"Could not override 'experiment'.*?experiment=([\w.-]+)", text):
        return f"experiment={found[1]}: the default run has none to replace; type +experiment={found[1]}"
    if found := re.search(r"Could not override '([^']+)'", text):
        values = dict(override.lstrip("+").partition("=")[::2] for override in overrides)
        return unknown_key(found[1], values.get(found[1], ""), text, settings)
    if found := re.search(r"Could not find '([^']+)' Available options in '([^']+)': (.*?) Config search path", text):
        name, files = found[1].removeprefix(found[2]).removeprefix("/"), found[3].split()
        meant = OTHER_VALUES.get(f"{found[2]}={name}")
        if ":" in name and found[2].startswith("model/"):  # MODULE:CLASS
            meant = f"{found[2].replace('/', '.')}.name={name}"
        hint = f"; did you mean {meant}?" if meant else did_you_mean(name, files)
        return f"{found[2]}={name}: no such {found[2]}; expected {', '.join(files)}{hint}"
    if found := re.search(r"Could not load '([^']+)/([^/']+)'", text):  # one name of a list
        return f"{found[1]}: {found[2]} is not a file of configs/{found[1]}; expected one name"
    if found := re.search(r"An item is already at '([^']+)'", text):
        override = next(override for override in overrides if override.lstrip("+").partition("=")[0] == found[1])
        return f"{override}: the key is there already; expected it without +; try {shell_word(override.lstrip('+'))}"
    problem = r"Value .+?|Invalid .+?|Cannot .+?|field .+?"
    if found := re.search(rf"Error merging override \+*(\S+?)=(.*?) ({problem})\.? full_key", text):
        key, value, reason = found.groups()
        return wrong_value(key, value, reason, settings)
    return text
