"""``python train.py from=RUN KEY=VALUE ...``: the job of a run's own record, with changes on top.

    config.yaml of the newest start <- files of the chosen groups <- keys with dots <- the tokenizer's vocabulary

The record of a run that was resumed with other settings is that of its newest start (``config.2.yaml``, ...).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gpt2lab.cli.compose import (
    check_variants,
    config_groups,
    explain_override,
    group_files,
    groups_of,
    known_keys,
    literal_text,
    refuse_unused_forms,
    settings_of,
    uninterpolated,
)
from gpt2lab.cli.override_errors import omegaconf_reason, several_values, unknown_key, wrong_value
from gpt2lab.config import DataConfig, TrainJob, UserError, from_dict, to_dict
from gpt2lab.config.differences import Difference, differences
from gpt2lab.config.escapes import expand_home
from gpt2lab.runs import newest_config
from gpt2lab.runs.layout import CONFIG
from gpt2lab.runs.records import read_config

FROM = "from"
WHOLE_GROUPS = ("data", "tokenizer", "logger", "runtime")
"""Groups whose file stands for all of their settings: another tokenizer does not have the recorded one's path. A file
of any other group is a variant: what it does not set, such as the warm-up of a schedule, stays as recorded."""


@dataclass(frozen=True)
class Rerun:
    """The job of a run's record with changes on top."""

    job: TrainJob
    followed: list[Difference]
    """settings that the files of the chosen groups changed, and those that follow from them"""

    def describe(self) -> str:
        """What was changed without being typed by its own key."""
        return f"{FROM}=: {', '.join(map(str, self.followed))}; what else was not typed is as recorded"


def is_rerun(arguments: Sequence[str]) -> bool:
    """Whether the arguments name a run to take the configuration from."""
    return any(argument.startswith(f"{FROM}=") for argument in arguments)


def job_from_record(arguments: Sequence[str]) -> TrainJob:
    """The job of ``read_rerun``."""
    return read_rerun(arguments).job


def read_rerun(arguments: Sequence[str]) -> Rerun:
    """The recorded job with the other arguments on top, in a run directory of its own.

    ``optimizer=muon`` puts what that file sets in the place of the recorded values.

    With ``resume=auto`` the job continues the recorded run in its own directory.

    Raises:
        UserError: there is no record, it does not fit this version, or an argument does not fit the job.
    """
    refuse_unused_forms(argument for argument in arguments if not argument.startswith("~"))
    given = dict(argument.partition("=")[::2] for argument in arguments)
    folder = Path(expand_home(_unquoted(given.pop(FROM))))
    path = folder if folder.is_file() else newest_config(folder)
    if not path.is_file():
        raise UserError(f"{FROM}={folder}: no {CONFIG} there; expected a run directory")
    own_groups = groups_of(known_keys(TrainJob))
    groups = {key: given.pop(key) for key in list(given) if key in own_groups}
    for key in given:
        if key in config_groups() or "/" in key or key.startswith(("+", "~")):
            raise UserError(
                f"{key}: cannot be put on top of {FROM}=; expected a key with dots, such as optimizer.lr=1e-3, or a "
                "group, such as model/positions=rope"
            )
    recorded = from_dict(TrainJob, read_config(path) | {"run_dir": None, "resume": None})
    try:
        values = _with_groups(_literal(to_dict(recorded)), groups)
        _apply(values, given)
        if given.get("resume") == "auto" and "run_dir" not in given:
            values.run_dir = uninterpolated(str(path.parent))
        if "model.vocab_size" not in given:
            values.model.vocab_size = values.tokenizer.vocab_size
        merged: Any = OmegaConf.to_container(values, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise explain_override(error, "train", arguments) from error
    job = from_dict(TrainJob, merged)
    check_variants(merged)
    changed = differences(to_dict(recorded), to_dict(job))
    return Rerun(job, [change for change in changed if change.key not in {*given, "run_dir", "resume"}])


def _unquoted(text: str) -> str:
    """The text of a value in quotation marks, as Hydra takes one that holds ``=`` or a comma."""
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def _literal(value: Any) -> Any:
    """Plain values whose texts OmegaConf gives back as they are, with the ``${`` that they may hold."""
    if isinstance(value, dict):
        return {key: _literal(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_literal(part) for part in value]
    return uninterpolated(value) if isinstance(value, str) else value


def _with_groups(recorded: dict[str, Any], groups: Mapping[str, str]) -> DictConfig:
    """The recorded values and what the files of the chosen groups set, with the types of ``TrainJob``."""
    files: Any = OmegaConf.to_container(group_files(groups)) if groups else {}
    for group in WHOLE_GROUPS:
        if group in groups:
            recorded[group] = {}
    source = DataConfig.class_of({**recorded["data"], **files.get("data", {})})
    schema = OmegaConf.structured(TrainJob)
    schema.data = source
    if "mixture" in schema.data:
        OmegaConf.set_struct(conf=schema.data.mixture, value=False)
    merged = OmegaConf.merge(schema, recorded, files)
    assert isinstance(merged, DictConfig)
    return merged


def _apply(values: DictConfig, given: Mapping[str, str]) -> None:
    """Set keys with dots, by Hydra's grammar and with the types of their keys."""
    settings = settings_of("train")
    for key, value in given.items():
        (override,) = OverridesParser.create().parse_overrides([literal_text(f"{key}={value}")])
        if override.is_sweep_override():
            raise UserError(several_values(f"{key}={value}", settings))
        try:
            OmegaConf.update(values, key, override.value(), merge=True)
        except OmegaConfBaseException as error:
            reason = omegaconf_reason(error)
            if "not in" in reason:
                raise UserError(unknown_key(key, value, reason, settings)) from None
            raise UserError(wrong_value(key, value, reason, settings)) from None
