"""Meaning of every key, read from the docstrings of the configuration: for ``--help`` and docs/configuration.md."""

import ast
import dataclasses
import functools
import inspect
import itertools
import json
import re
import textwrap
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gpt2lab.cli.compose import CONFIG_DIR, JOBS, config_groups, variants_of
from gpt2lab.config import SweepConfig
from gpt2lab.config.data import DATA_SOURCES, DataConfig
from gpt2lab.shell import command_line

MAIN_KEYS: dict[str, dict[str, list[str]]] = {
    "train": {
        "choose": ["model", "model/positions", "model/norm", "model/mlp", "data", "tokenizer", "optimizer", "schedule"],
        "length": [
            "training.max_steps",
            "training.max_tokens",
            "training.max_epochs",
            "training.tokens_per_parameter",
            "training.batch_tokens",
        ],
        "rate": ["optimizer.lr", "schedule.warmup_steps"],
        "record": ["training.eval_every", "training.checkpoint_every", "logger", "run_dir", "seed"],
        "machine": ["runtime.device", "runtime.precision", "runtime.compile", "runtime.num_processes"],
        "start from": ["resume", "init_from", "from"],
        "sweep, with -m": [
            "sweep.name",
            "sweep.parallel",
            "sweep.launcher",
            "sweep.dry_run",
            "sweep.tune",
            "sweep.tune_values",
        ],
    },
    "eval": {
        "what": ["checkpoint", "baseline", "eval", "eval/corpus", "eval.text_file"],
        "how": ["eval.protocol", "eval.stride", "runtime.device", "runtime.precision", "out"],
    },
    "sample": {
        "what": [
            "checkpoint",
            "prompt",
            "prompt_file",
            "prompts_file",
            "sampling.num_samples",
            "sampling.max_new_tokens",
            "stop",
        ],
        "how": [
            "format",
            "sampling.temperature",
            "sampling.top_k",
            "sampling.top_p",
            "sampling.seed",
            "runtime.device",
        ],
    },
    "prepare": {
        "what": ["data", "data.name", "data.root", "tokenizer"],
        "how": ["prepare.num_workers", "prepare.overwrite", "verify", "inspect"],
    },
    "export": {"what": ["checkpoint", "out", "format"]},
    "report": {"what": ["sweep", "runs", "out"], "how": ["baseline", "metric", "average", "margin", "allow", "wandb"]},
    "explain": {
        "what": ["checkpoint", "prompt", "max_tokens", "steps", "seed"],
        "how": ["sampling.temperature", "sampling.top_k", "sampling.top_p", "runtime.device", "plots", "out"],
    },
}
"""keys that ``--help`` shows, by heading; a slash names a group of configs/"""

FROM_MEANING = "run to take the settings from, other arguments change them; with resume=auto the run itself goes on"
"""of ``from=RUN``, which is no key of the job"""
DOCS = CONFIG_DIR.parent / "docs"
"""only in a checkout"""


@dataclass(frozen=True)
class Setting:
    """One key of a job."""

    key: str
    kind: str
    default: str
    meaning: str


def settings_in(job: type, prefix: str = "", defaults: object = None) -> Iterator[Setting]:
    """Every key of a job's dataclass and of those nested in it, with type, default and meaning.

    Args:
        job: the dataclass.
        prefix: of its keys.
        defaults: what has the defaults; None: the dataclass itself.
    """
    meanings, hints = field_docs(job), typing.get_type_hints(job)
    for field in dataclasses.fields(job):
        hint = hints[field.name]
        default = _default(field) if defaults is None else getattr(defaults, field.name)
        if dataclasses.is_dataclass(hint):
            yield from settings_in(typing.cast(type, hint), f"{prefix}{field.name}.", default)
        else:
            typed = "(required)" if default is dataclasses.MISSING else _typed(default)
            yield Setting(f"{prefix}{field.name}", _kind(hint), typed, meanings.get(field.name, ""))


@functools.cache
def field_docs(config_class: type) -> dict[str, str]:
    """The string below each field of a dataclass and of those it extends, folded into one line."""
    docs: dict[str, str] = {}
    for part in reversed(config_class.__mro__):
        if dataclasses.is_dataclass(part):
            docs |= _own_field_docs(part)
    return docs


def _own_field_docs(config_class: type) -> dict[str, str]:
    tree = ast.parse(textwrap.dedent(inspect.getsource(config_class)))
    body = typing.cast(ast.ClassDef, tree.body[0]).body
    docs = {}
    for statement, following in itertools.pairwise(body):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            docstring = following.value if isinstance(following, ast.Expr) else None
            if isinstance(docstring, ast.Constant) and isinstance(docstring.value, str):
                docs[statement.target.id] = " ".join(docstring.value.split())
    return docs


def summary(name: str) -> str:
    """What the command ``name`` does, in one sentence."""
    return (JOBS[name].__doc__ or "").strip().splitlines()[0]


def help_page(name: str, width: int) -> str:
    """What ``python NAME.py --help`` prints."""
    meanings = {setting.key: setting.meaning for setting in settings_in(JOBS[name])}
    if name == "train":
        meanings |= {f"sweep.{setting.key}": setting.meaning for setting in settings_in(SweepConfig)}
        meanings["from"] = FROM_MEANING
    groups = set(config_groups())
    typed = command_line(name)
    column = max(28, *(len(key) + 2 for keys in MAIN_KEYS[name].values() for key in keys))
    lines = [summary(name), "", f"usage: {typed} KEY=VALUE ...", ""]
    for heading, keys in MAIN_KEYS[name].items():
        lines.append(heading)
        for key in keys:
            text = " | ".join(variants_of(key)) if key in groups else meanings[key].replace("``", "")
            first, others = f"  {key + '=':<{column}}", " " * (column + 2)
            lines.append(textwrap.fill(text, width, initial_indent=first, subsequent_indent=others))
        lines.append("")
    notes = {f"{typed} --cfg job": "shows the configuration that your arguments give, with every key, and stops"}
    if name == "train":
        notes[f"{typed} -m AXIS=A,B"] = "runs a sweep: one job for each combination of values"
    if DOCS.is_dir():
        notes["docs/configuration.md"] = "every key, its type, default and meaning"
    return "\n".join([*lines, *(f"{command}: {meaning}" for command, meaning in notes.items())])


def configuration_page() -> str:
    """docs/configuration.md: every key of every command; ``python -m gpt2lab.cli.help`` prints it."""
    lines = [
        "# Configuration",
        "",
        "Every key of every command, from the dataclasses in `gpt2lab/config/`. A key that several commands share with",
        "the same meaning is listed once, under the first of them. `python train.py from=RUN` takes the settings of a",
        "run ([commands.md](commands.md)). `python -m gpt2lab.cli.help > docs/configuration.md`",
        "writes this page. A default here is the dataclass's; the files of `configs/` choose others for a variant or a",
        "recipe, and `python train.py --cfg job` shows what your arguments give. `data=NAME` brings its own keys.",
    ]
    shown: set[Setting] = set()
    for name, job in JOBS.items():
        lines += ["", f"## python {name}.py", ""]
        settings = [setting for setting in settings_in(job) if setting not in shown]
        shown |= {setting for setting in settings if setting.key not in ("checkpoint", "out")}
        lines += _table(settings)
    lines += ["", "## python train.py -m", ""]
    lines += _table([dataclasses.replace(setting, key=f"sweep.{setting.key}") for setting in settings_in(SweepConfig)])
    common = {setting.key for setting in settings_in(DataConfig)}
    for name, source in DATA_SOURCES.items():
        own = [setting for setting in settings_in(source) if setting.key not in common]
        if own:
            lines += ["", f"## data={name}", ""]
            lines += _table([dataclasses.replace(setting, key=f"data.{setting.key}") for setting in own])
    return "\n".join(lines)


def _table(settings: list[Setting]) -> list[str]:
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for setting in settings:
        meaning = setting.meaning.replace("``", "`")
        cells = (f"`{setting.key}`", setting.kind, f"`{setting.default}`", meaning)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return lines


def _kind(hint: Any) -> str:
    name = hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
    return re.sub(r"\b(\w+\.)+", "", name)


def _default(field: "dataclasses.Field[Any]") -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _typed(value: Any) -> str:
    """A value as it is typed on the command line; of a dataclass the fields that are not null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        items = {name: item for name, item in vars(value).items() if item is not None}
        return "{" + ", ".join(f"{name}: {_typed(item)}" for name, item in items.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_typed, value)) + "]"
    if isinstance(value, str) and re.fullmatch(r"\S+", value):
        return value
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    print(configuration_page())
