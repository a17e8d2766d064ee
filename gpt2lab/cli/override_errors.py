"""One line for an error of Hydra's or OmegaConf's: the value, what was expected, what to type."""

import re
import typing
from collections.abc import Mapping, Sequence

from hydra.errors import OverrideParseException

from gpt2lab import config
from gpt2lab.config import DATA_SOURCES, did_you_mean, one_line
from gpt2lab.config.data import explain_option

SOURCE_OF_CLASS = {source.__name__: name for name, source in DATA_SOURCES.items()}
"""data=NAME by the name of its dataclass"""


def explain_unparsable(override: str, reason: str) -> str:
    """The line for an override that Hydra's grammar has no place for: most often its value needs quotes."""
    key, equals, value = override.partition("=")
    if not equals:
        return f"{override}: no value; expected KEY=VALUE; --help lists the main keys"
    quoted = f'"{value}"'
    if value.startswith("[") and value.endswith("]"):
        quoted = "[" + ",".join(f'"{item.strip()}"' for item in value[1:-1].split(",")) + "]"
    if reason and "token recognition" not in reason and "LexerNoViable" not in reason:
        return f"{override}: not understood ({reason.partition(' See https')[0]}); try '{key}={quoted}'"
    return f"{override}: a value with such characters needs quotes; expected {key}=\"...\"; try '{key}={quoted}'"


def of_other_commands(key: str, commands: Sequence[str]) -> str:
    """The line for a key or group that this command does not have."""
    return f"{key}: not a setting of this command, only of {', '.join(f'{name}.py' for name in commands)}"


OTHER_NAMES = {
    "learning_rate": "optimizer.lr",
    "max_lr": "optimizer.lr",
    "wd": "optimizer.weight_decay",
    "warmup": "schedule.warmup_steps",
    "warmup_iters": "schedule.warmup_steps",
    "steps": "training.max_steps",
    "max_iters": "training.max_steps",
    "epochs": "training.max_epochs",
    "num_epochs": "training.max_epochs",
    "batch_size": "training.batch_tokens",
    "gradient_accumulation_steps": "training.batch_tokens",
    "max_grad_norm": "training.grad_clip",
    "hidden_size": "model.n_embd",
    "d_model": "model.n_embd",
    "num_layers": "model.n_layer",
    "num_heads": "model.n_head",
    "context_length": "model.block_size",
    "max_length": "sampling.max_new_tokens",
}
"""what other programs call a setting, by the last part of its key"""


def override_message(
    error: BaseException, keys: Sequence[str], groups: Sequence[str], others: Mapping[str, list[str]]
) -> str:
    """What is wrong with an override, and what to type instead.

    Args:
        error: raised while a configuration was composed.
        keys: dotted keys of the job.
        groups: folders of configs/ that the job has, as they are typed.
        others: keys and groups that only other commands have, and those commands.
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
    inner = re.search(r"Key '([^']+)' not in '(\w+)'", text)
    overridden = re.search(r"Could not override '([^']+)'", text)
    added = re.search(r"^In '(?:schema/)?([^']+)/[^/']+': ConfigKeyError", text)  # a group that was typed with +
    typed = overridden or added
    if typed and (commands := others.get(typed[1])):
        return of_other_commands(typed[1], commands)
    if inner and overridden and overridden[1].rpartition(".")[2] != inner[1] and hasattr(config, inner[2]):
        # a key within the value that was typed, as in [{temprature: 1}]
        hint = did_you_mean(inner[1], typing.get_type_hints(getattr(config, inner[2])))
        return f"{overridden[1]}: unknown key {inner[1]} in it{hint}"
    if inner and overridden and overridden[1] == f"data.{inner[1]}" and inner[2] in SOURCE_OF_CLASS:
        return f"{overridden[1]}: {explain_option(inner[1], SOURCE_OF_CLASS[inner[2]])}"
    if found := re.search(r"Could not override 'experiment'.*?experiment=([\w.-]+)", text):
        return f"experiment={found[1]}: the default run has none to replace; type +experiment={found[1]}"
    if overridden:
        key, known = overridden[1], [*keys, *groups]
        # model.positions is written with a slash when a variant is chosen, so "positions" alone may mean the group
        by_last_part = [k for k in known if re.split(r"[./]", k)[-1] == key.rsplit(".", 1)[-1]]
        if (other := OTHER_NAMES.get(re.split(r"[./]", key)[-1])) in known:
            by_last_part = [str(other)]
        hint = f"; did you mean {' or '.join(by_last_part)}?" if by_last_part else did_you_mean(key, known)
        return f"{key}: unknown key{hint}"
    if found := re.search(r"Could not find '([^']+)' Available options in '([^']+)': (.*?) Config search path", text):
        name = found[1].removeprefix(found[2]).removeprefix("/")
        return f"{found[2]}={name}: no such {found[2]}; expected {', '.join(found[3].split())}"
    if found := re.search(r"Could not load '([^']+)/([^/']+)'", text):  # one name of a list
        return f"{found[1]}: {found[2]} is not a file of configs/{found[1]}; expected one name"
    if found := re.search(r"Error merging override (\S+?)=(\S*) Invalid type assigned", text):
        key, value = found.groups()
        if (group := key.replace(".", "/")) in groups:
            return f"{key}={value}: {key} is a group; choose a variant with a slash: {group}={value}"
        return f"{key}={value}: {key} holds several settings; expected one of them, {key}.NAME={value}"
    if found := re.search(r"Error merging override (\S+?)=(.*) Invalid value assigned: \w+ is not a ListConfig", text):
        key, value = found.groups()
        return f"{key}={value}: expected a list; try '{key}=[{value}]'"
    problem = r"Value .+?|Invalid value .+?|Cannot convert .+?|field .+?"
    if found := re.search(rf"Error merging override (.+?) ({problem})\.? full_key", text):
        return f"{found[1]}: {found[2]}"
    return text
