"""configs/*.yaml + overrides -> a validated job, through Hydra.

compose_config("train", ["model=gpt2_small"])       the job of ``python train.py model=gpt2_small``, no file touched
"""

import dataclasses
import functools
import importlib.resources
import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gpt2lab.cli.override_errors import Settings, of_other_commands, override_message, several_names
from gpt2lab.config import (
    DATA_SOURCES,
    DataConfig,
    EvalJob,
    ExplainJob,
    ExportJob,
    PrepareJob,
    ReportJob,
    SampleJob,
    SweepConfig,
    TrainJob,
    UserError,
    did_you_mean,
    from_dict,
)
from gpt2lab.config.errors import check, check_name
from gpt2lab.config.escapes import expand_home
from gpt2lab.config.plain import LARGEST_INT
from gpt2lab.config.tokenizer import vocab_size_of

JOBS: dict[str, type] = {
    "train": TrainJob,
    "prepare": PrepareJob,
    "eval": EvalJob,
    "sample": SampleJob,
    "export": ExportJob,
    "report": ReportJob,
    "explain": ExplainJob,
}
"""commands whose configuration Hydra composes"""

VARIANT_GROUPS = ("model/positions", "model/norm", "model/mlp", "optimizer", "schedule", "tokenizer")
"""groups whose files have the names of the variants"""

FREE_TEXT = ("prompt",)
"""Keys whose value is taken as it is typed: a prompt may hold commas, quotes and brackets, which Hydra would parse."""

NO_NAME = r"null|true|false|[+-]?(\d[\d_.e+-]*|inf|nan)|\{.*\}|\[\s*[\[{].*"
"""a value of a group that Hydra takes for something else than the name of a file"""

NAMES = (
    "checkpoint", "baseline", "sweep", "run_dir", "resume", "init_from", "out", "prompt_file", "prompts_file",
    "eval.text_file", "eval.sample_quality.scorer", "tokenizer.path", "data.name", "logger.run_name", "logger.group",
    "eval.corpus.file", "eval.tasks.folder", "sweep.name", "sweep.root", "sweep.wandb_file",
)  # fmt: skip
"""Keys of paths and names, whose value may look like a number (2026_11), hold = and commas without quotes
(positions=rope,seed=1), and begin with ~, the home folder, where the shell leaves it as it is."""


def find_configs() -> Path:
    """The folder of the YAML files: in the installed package, or beside it in a checkout."""
    packaged = Path(str(importlib.resources.files("gpt2lab"))) / "configs"
    return packaged if packaged.is_dir() else packaged.parent.parent / "configs"


CONFIG_DIR = find_configs()

OmegaConf.register_new_resolver("vocab_size_of", vocab_size_of, replace=True)

for _name, _job in JOBS.items():
    _schema = OmegaConf.structured(_job)
    if "data" in _schema:
        _schema.data = DataConfig  # the class of any source can be merged into their base class
    ConfigStore.instance().store(name=f"{_name}_schema", node=_schema)
for _name, _source in DATA_SOURCES.items():
    _schema = OmegaConf.structured(_source)
    if "mixture" in _schema:
        OmegaConf.set_struct(conf=_schema.mixture, value=False)  # Hydra would refuse new keys in a dictionary
    ConfigStore.instance().store(group="schema/data", name=_name, node=_schema)

_ONLY_GROUPS = "only_groups"
ConfigStore.instance().store(name=_ONLY_GROUPS, node={"defaults": ["_self_", {"recipe": "gpt2_nano"}]})
"""models override the recipe, which has to be there for that"""


def compose_config(name: str, overrides: Iterable[str] = ()) -> Any:
    """The validated job of ``python NAME.py OVERRIDES``.

    Raises:
        UserError: an unknown command, key or group, a value of the wrong type, values that do not fit each other.
    """
    is_list = isinstance(overrides, Iterable) and not isinstance(overrides, str | Mapping)
    texts = list(overrides) if is_list else []
    is_fit = is_list and all(isinstance(text, str) for text in texts)
    check(is_fit, "overrides", overrides, 'a list of texts, such as ["training.max_steps=100"]')
    values = compose_values(name, texts)
    try:
        return to_job(values)
    except OmegaConfBaseException as error:
        raise explain_override(error, name, texts) from error


def compose_values(name: str, overrides: Iterable[str] = (), *, with_hydra: bool = False) -> DictConfig:
    """What Hydra makes of the files and overrides, not validated yet; with the node ``hydra`` if asked for.

    Raises:
        UserError: an unknown key or group, or a value of the wrong type.
    """
    check_name(name, JOBS, "command")
    overrides = list(overrides)
    refuse_unused_forms(overrides)
    try:
        with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3", job_name=name):
            typed = [literal_text(override) for override in overrides]
            return hydra.compose(name, typed, return_hydra_config=with_hydra)
    except (HydraException, OmegaConfBaseException, ValueError, TypeError) as error:  # a group set to null or a list
        raise explain_override(error, name, overrides) from error


def group_files(groups: Mapping[str, str]) -> DictConfig:
    """What the files of the chosen groups set, and nothing else: no defaults, no recipe, interpolations unresolved.

    Args:
        groups: file name by group, such as ``{"model/positions": "rope"}``.

    Raises:
        UserError: there is no such file.
    """
    chosen = [f"{group}={groups[group]}" for group in sorted(groups)]
    refuse_unused_forms(chosen)
    # a variant of model is in the defaults list already where model is chosen too
    added = ["" if group.startswith("model/") and "model" in groups else "+" for group in sorted(groups)]
    overrides = [f"{plus}{override}" for plus, override in zip(added, chosen, strict=True)]
    try:
        with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3", job_name="train"):
            return hydra.compose(_ONLY_GROUPS, [*overrides, "~recipe"])
    except (HydraException, OmegaConfBaseException, ValueError, TypeError) as error:  # a group set to null or a list
        raise explain_override(error, "train", chosen) from error


def to_job(values: DictConfig) -> Any:
    """Build, and so check, the dataclasses.

    Raises:
        UserError: a key added with ``+`` that they do not have, a variant that no file of configs/ describes, values
            that do not fit each other.
    """
    job_class: Any = OmegaConf.get_type(values)
    plain: Any = OmegaConf.to_container(values, resolve=True, throw_on_missing=True)
    job = from_dict(job_class, plain)
    check_variants(plain)
    return job


def check_variants(values: dict[str, Any]) -> None:
    """Refuse the name of a variant that its group does not have, before data is prepared or a file written.

    ``optimizer=sgd`` is refused by Hydra, ``optimizer.name=sgd`` only here.
    """
    for group in VARIANT_GROUPS:
        *parents, last = group.split("/")
        node: Any = values
        for part in (*parents, last):
            node = node.get(part, {})
        is_own_class = group.startswith("model/") and ":" in str(node.get("name"))  # MODULE:CLASS, imported later
        if "name" in node and not is_own_class and node["name"] not in (known := variants_of(group)):
            key = f"{group.replace('/', '.')}.name"
            raise UserError(
                f"{key}={node['name']}: expected one of {', '.join(known)}{did_you_mean(str(node['name']), known)}"
            )
    for name in values.get("logger", {}).get("names", []):
        known = [logger for logger in variants_of("logger") if logger != "jsonl"]  # metrics.jsonl is always written
        if name not in known:
            raise UserError(f"logger.names={name}: expected {', '.join(known)}{did_you_mean(name, known)}")


def variants_of(group: str) -> list[str]:
    """The files of a group: ``learned``, ``rope``, ... of ``model/positions``."""
    return sorted(path.stem for path in (CONFIG_DIR / group).glob("*.yaml"))


def refuse_unused_forms(overrides: Iterable[str]) -> None:
    """Refuse what Hydra takes, and what nobody means.

    ``~KEY``: what is removed would come back as a default that nobody chose (``~model`` as GPT-2 small).
    ``GROUP=[A,B]``: Hydra merges the files, so that B would be chosen and A ignored. Experiments may be merged.
    ``init_from=``: a variable of the shell that has no value, so that the run would start from scratch.
    """
    for override in overrides:
        key, equals, text = override.lstrip("+").partition("=")
        if re.fullmatch(r"\[[^\[{]*,[^\[{]*\]", text) and key in config_groups() and key != "experiment":
            raise UserError(several_names(key, text))
        if equals and key in NAMES and text in ("", "''", '""'):
            raise UserError(
                f"{override}: no value, as of an unset variable of the shell; expected a name; try {key}=null"
            )
        if override.startswith("~"):
            key = override[1:].partition("=")[0]
            raise UserError(f"{override}: nothing can be left out; expected another value; try {key}=VALUE")


def explain_override(error: BaseException, name: str, overrides: Sequence[str]) -> UserError:
    """An error of Hydra's or OmegaConf's as a ``UserError`` about the command ``name``."""
    settings = settings_of(name)
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        if key in config_groups() and re.fullmatch(NO_NAME, value, re.IGNORECASE):
            if key in settings.others:
                return UserError(of_other_commands(key, settings.others[key]))
            files = sorted(path.stem for path in (CONFIG_DIR / key).glob("*.yaml"))
            return UserError(f"{override}: expected the name of a file of configs/{key}: {', '.join(files)}")
    return UserError(override_message(error, overrides, settings))


@functools.cache
def settings_of(name: str) -> Settings:
    """What the command ``name`` takes on its command line."""
    commands_of: dict[str, list[str]] = {f"sweep.{key}": ["train"] for key in known_keys(SweepConfig)}
    for command, job in JOBS.items():
        for key in {*(keys := known_keys(job)), *groups_of(keys)}:
            commands_of.setdefault(key, []).append(command)
    others = {key: commands for key, commands in commands_of.items() if name not in commands}
    kinds = key_kinds(JOBS[name])
    return Settings(name, kinds, data_kinds() if "data" in kinds else {}, groups_of(kinds), others)


def literal_text(override: str) -> str:
    """Quote free text and names, so that Hydra and OmegaConf give them back, and write out 1e3; leave others alone."""
    key, equals, text = override.partition("=")
    if (number := whole_number(text)) is not None and key in whole_number_keys():
        return f"{key}={number}"
    is_interpolated = "${" in text and not re.search("[=,]", text)
    is_name = key in NAMES and text.lower() != "null" and not text.startswith(("'", '"')) and not is_interpolated
    if not equals or (key not in FREE_TEXT and not is_name):
        return override
    text = expand_home(text) if is_name else text
    return f"{key}={QuotedString(text=uninterpolated(text), quote=Quote.single).with_quotes()}"


def uninterpolated(text: str) -> str:
    """Text that OmegaConf gives back as ``text``, with the ``${...}`` in it.

    A backslash keeps OmegaConf from replacing it; those before it are doubled, as it would take them for its own.
    """
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", text)


@functools.cache
def whole_number_keys() -> frozenset[str]:
    """Keys of all commands that take a whole number."""
    kinds = [key_kinds(job) for job in JOBS.values()] + [data_kinds(), key_kinds(SweepConfig, "sweep.")]
    return frozenset(key for one in kinds for key, kind in one.items() if int in (kind, *typing.get_args(kind)))


def whole_number(text: str) -> int | None:
    """The value of ``1e3`` or ``1000.0``, which Hydra reads as a float; None: not such a text, or not whole."""
    exponent = r"e\+?\d{1,2}"
    if not re.fullmatch(rf"[+-]?\d[\d_]*(\.\d*({exponent})?|{exponent})", text, re.IGNORECASE):
        return None
    number = Decimal(text)
    is_whole = number == number.to_integral_value() and abs(number) < LARGEST_INT
    return int(number) if is_whole else None


def known_keys(job: Any, prefix: str = "") -> list[str]:
    """Every dotted key of a job's dataclass and of those nested in it."""
    return list(key_kinds(job, prefix))


def key_kinds(job: Any, prefix: str = "") -> dict[str, Any]:
    """The type hint of every dotted key of a job's dataclass and of those nested in it."""
    kinds = {}
    for key, kind in typing.get_type_hints(job).items():
        kinds[prefix + key] = kind
        if dataclasses.is_dataclass(kind):
            kinds |= key_kinds(kind, f"{prefix}{key}.")
    return kinds


def data_kinds() -> dict[str, Any]:
    """The type hint of every key of every source of data."""
    return {key: kind for source in DATA_SOURCES.values() for key, kind in key_kinds(source, "data.").items()}


def groups_of(keys: Iterable[str]) -> list[str]:
    """The groups that a job with these keys has."""
    return [group for group in config_groups() if group.replace("/", ".") in keys]


def config_groups() -> list[str]:
    """The folders under configs/, as they are typed: ``model``, ``model/positions``, ..."""
    return sorted(str(path.relative_to(CONFIG_DIR)) for path in CONFIG_DIR.rglob("*") if path.is_dir())
