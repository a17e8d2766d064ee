"""The command line that prepares a dataset, quoted for Hydra and for the shell."""

import re

from gpt2lab.config import DataConfig
from gpt2lab.data.manifest import TextTokenizer, TrainableTokenizer
from gpt2lab.shell import command_line

PLAIN_WORD = re.compile(r"[A-Za-z/_][\w./*-]*")
"""A value that needs no quotes in an override"""


def prepare_command(data: DataConfig, tokenizer: TextTokenizer | TrainableTokenizer) -> str:
    """The command on one line, with every setting in it, since a YAML file may set any of them."""
    settings = {key: value for key, value in vars(data).items() if key != "source"}
    overrides = [f"data={data.source}", *tokenizer.overrides]
    overrides += [f"data.{key}={hydra_value(value)}" for key, value in settings.items()]
    return command_line("prepare", *overrides)


def hydra_value(value: object) -> str:
    """A value as Hydra's override grammar reads it."""
    if value is None:
        return "null"
    if isinstance(value, list):
        return f"[{','.join(map(hydra_value, value))}]"
    if not isinstance(value, str) or (PLAIN_WORD.fullmatch(value) and value.lower() not in ("true", "false", "null")):
        return str(value)
    # Hydra expects an escape only before a quote, and before backslashes that precede a quote.
    return '"' + re.sub(r'(\\*)("|$)', lambda found: found[1] * 2 + '\\"' * bool(found[2]), value) + '"'
