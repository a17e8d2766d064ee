"""``python train.py from=RUN KEY=VALUE ...``: the job of a run's own record, with changes on top.

The record of a run that was resumed with other settings is that of its newest start (``config.2.yaml``, ...).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gpt2lab.cli.compose import check_variants, compose_values, config_groups, known_keys
from gpt2lab.config import TrainJob, UserError, did_you_mean, from_dict, one_line
from gpt2lab.runs import newest_config
from gpt2lab.runs.layout import CONFIG
from gpt2lab.runs.records import read_config

FROM = "from"
NOT_ON_TOP = ("experiment", "recipe")
"""groups whose files set keys of several others"""


def is_rerun(arguments: Sequence[str]) -> bool:
    """Whether the arguments name a run to take the configuration from."""
    return any(argument.startswith(f"{FROM}=") for argument in arguments)


def job_from_record(arguments: Sequence[str]) -> TrainJob:
    """The recorded job with the other arguments on top, in a run directory of its own.

    ``optimizer=muon`` puts the settings of that file in the place of the recorded ``optimizer.*``.

    With ``resume=auto`` the job continues the recorded run in its own directory.

    Raises:
        UserError: there is no record, it does not fit this version, or an argument does not fit the job.
    """
    given = dict(argument.partition("=")[::2] for argument in arguments)
    folder = Path(_unquoted(given.pop(FROM)))
    path = folder if folder.is_file() else newest_config(folder)
    if not path.is_file():
        raise UserError(f"{FROM}={folder}: no {CONFIG} there; expected a run directory")
    groups = {key: given.pop(key) for key in list(given) if key in config_groups()}
    for key in (*groups, *given):
        if key in NOT_ON_TOP or ("/" in key and key not in groups) or key.startswith(("+", "~")):
            raise UserError(
                f"{key}: cannot be put on top of {FROM}=; expected a key with dots, such as optimizer.lr=1e-3, or a "
                "group, such as model/positions=rope"
            )
    _check_types(given)
    values: Any = read_config(path)
    values |= {"run_dir": None, "resume": None}
    if given.get("resume") == "auto":
        values["run_dir"] = str(path.parent)
    _replace_groups(values, groups)
    changes = OmegaConf.from_dotlist([f"{key}={value}" for key, value in given.items()])
    merged: Any = OmegaConf.to_container(OmegaConf.merge(OmegaConf.create(values), changes))
    job = from_dict(TrainJob, merged)
    check_variants(merged)
    return job


def _unquoted(text: str) -> str:
    """The text of a value in quotation marks, as Hydra takes one that holds ``=`` or a comma."""
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def _replace_groups(values: dict[str, Any], groups: dict[str, str]) -> None:
    """Put the settings of each chosen group in the place of the recorded ones; the vocabulary follows the tokenizer."""
    if not groups:
        return
    composed: Any = OmegaConf.to_container(
        compose_values("train", [f"{group}={choice}" for group, choice in groups.items()]), resolve=True
    )
    for group in sorted(groups):  # model before model/positions
        *parents, last = group.split("/")
        there, new = values, composed
        for part in parents:
            there, new = there[part], new[part]
        there[last] = new[last]
    values["model"]["vocab_size"] = values["tokenizer"]["vocab_size"]


def _check_types(given: dict[str, str]) -> None:
    """Refuse values that do not have the type of their key; those of a dataset depend on its source."""
    for key, value in given.items():
        if not key.startswith("data."):
            try:
                OmegaConf.merge(OmegaConf.structured(TrainJob), OmegaConf.from_dotlist([f"{key}={value}"]))
            except OmegaConfBaseException as error:
                reason = one_line(error).partition(" full_key")[0]
                hint = did_you_mean(key, known_keys(TrainJob)) if "not in" in reason else ""
                raise UserError(f"{key}={value}: {reason}{hint}") from None
