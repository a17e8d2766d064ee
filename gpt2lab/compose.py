"""All Hydra glue: configs/*.yaml + command line -> validated dataclasses -> the job; and the run folder.

run_job("train", train)       an entry point: compose, check, run; a mistake of the user's is one line and exit status 2
compose_config("train", [..]) the same configuration as a value, no files touched
"""

import dataclasses
import fcntl
import importlib.metadata
import json
import logging
import os
import platform
import re
import secrets
import subprocess
import sys
import time
import typing
from collections.abc import Callable, Iterable
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any, NoReturn

import hydra
import torch
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from tqdm import tqdm

from gpt2lab import config
from gpt2lab.config import (
    EvalJob,
    ExportJob,
    PrepareJob,
    SampleJob,
    TrainJob,
    UserError,
    did_you_mean,
    from_dict,
    one_line,
    to_dict,
)
from gpt2lab.config.tokenizer import vocab_size_of
from gpt2lab.distributed import RankFailedError, is_launched, launch
from gpt2lab.training.signals import StoppedError
from gpt2lab.weights.checkpoint_format import RUNS

CONFIG_DIR = Path(__file__).resolve().parent.parent / "configs"
JOBS: dict[str, type] = {
    "train": TrainJob,
    "prepare": PrepareJob,
    "eval": EvalJob,
    "sample": SampleJob,
    "export": ExportJob,
}
FREE_TEXT = ("prompt",)
"""Keys whose value is taken as it is typed: a prompt may hold commas, quotes and brackets, which Hydra would parse."""
USER_ERROR_STATUS = 2
INTERRUPTED_STATUS = 130

OmegaConf.register_new_resolver("vocab_size_of", vocab_size_of, replace=True)
for _name, _job in JOBS.items():
    ConfigStore.instance().store(name=f"{_name}_schema", node=_job)


def compose_config(name: str, overrides: Iterable[str] = ()) -> Any:
    """The validated job of ``python NAME.py OVERRIDES``.

    Raises:
        UserError: an unknown key or group, a value of the wrong type, values that do not fit each other.
    """
    try:
        with hydra.initialize_config_dir(str(CONFIG_DIR), version_base="1.3", job_name=name):
            return _to_job(hydra.compose(name, [literal_text(override) for override in overrides]))
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_explain(error, name)) from error


def run_job(name: str, task: Callable[[Any], Any]) -> NoReturn:
    """Run an entry point under Hydra (overrides, ``--multirun``, ``--cfg job``, ``--help``) and exit."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors reach us, not Hydra's own printer
    sys.argv[1:] = [literal_text(argument) for argument in sys.argv[1:]]
    # what is said before there is a run folder is kept for its log.txt
    handlers = [_ConsoleHandler(), MemoryHandler(capacity=10_000, flushLevel=logging.CRITICAL)]
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=handlers)

    if is_launched():
        if {"-m", "--multirun"} & set(sys.argv):
            _print_error(
                "-m under torchrun: expected one job; a sweep starts the processes of each job itself: type python "
                f"{name}.py -m runtime.num_processes={os.environ['WORLD_SIZE']} and your other arguments"
            )
            sys.exit(USER_ERROR_STATUS)
        if os.environ["RANK"] != "0":
            logging.getLogger().setLevel(logging.ERROR)

    statuses: list[int] = []

    def task_of_job(values: DictConfig) -> Any:
        # caught here, so that the other jobs of a sweep still run and Hydra adds no lines of its own
        try:
            job = _to_job(values)
            if isinstance(job, TrainJob):
                job.logger.group = job.logger.group or sweep_group()
                if job.runtime.num_processes > 1 and not is_launched():
                    launch(job.runtime.num_processes, arguments_of_job(job))
                    return None
            return task(job)
        except UserError as error:
            _print_error(one_line(error))
            statuses.append(USER_ERROR_STATUS)
        except RankFailedError as error:
            _print_error(str(error))
            statuses.append(error.status)
        except StoppedError as error:
            _print_error(str(error))
            statuses.append(128 + error.signal)
        except OSError as error:
            if error.filename is None:  # not about a file: a defect of ours, which needs its traceback
                raise
            _print_error(f"{error.filename}: {error.strerror}")
            statuses.append(USER_ERROR_STATUS)

    try:
        hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name=name)(task_of_job)()
    except (HydraException, OmegaConfBaseException) as error:
        _print_error(_explain(error, name))
        statuses.append(USER_ERROR_STATUS)
    except KeyboardInterrupt:
        _print_error("interrupted")
        sys.exit(INTERRUPTED_STATUS)
    sys.exit(statuses[0] if statuses else 0)


def literal_text(override: str) -> str:
    """Quote the value of a free-text key, so that Hydra and OmegaConf give it back unchanged; leave others alone."""
    key, equals, text = override.partition("=")
    if not equals or key not in FREE_TEXT:
        return override
    # a backslash keeps OmegaConf from replacing ${...}; those before it are doubled, as it would take them for its own
    uninterpolated = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
    return f"{key}={QuotedString(text=uninterpolated, quote=Quote.single).with_quotes()}"


def given_run_dir(job: TrainJob) -> Path | None:
    """The run folder that the user names, or in a sweep the job's place in it; None: ``new_run_dir`` makes one up.

    Raises:
        UserError: a sweep whose jobs would share one folder.
    """
    sweep_dir = running_sweep()
    if sweep_dir is None:
        return Path(job.run_dir) if job.run_dir else None
    if job.run_dir:
        raise UserError(
            f"run_dir={job.run_dir}: the jobs of a sweep would share it; type hydra.sweep.dir={job.run_dir}"
        )
    return sweep_dir / HydraConfig.get().sweep.subdir


def running_sweep() -> Path | None:
    """The folder of the sweep that this job is part of."""
    sweeping = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
    return Path(HydraConfig.get().sweep.dir) if sweeping else None


def sweep_group() -> str | None:
    """The name that the runs of this sweep share: day and time."""
    sweep_dir = running_sweep()
    return "-".join(sweep_dir.parts[-2:]) if sweep_dir else None


def arguments_of_job(job: TrainJob) -> list[str]:
    """The command line on which another process composes this job, alone or in a sweep."""
    arguments = list(HydraConfig.get().overrides.task)
    if running_sweep():
        arguments += [f"run_dir={given_run_dir(job)}", f"logger.group={job.logger.group}"]
    return arguments


def new_run_dir() -> Path:
    """A path for a new run, runs/<day>/<time>-<id>; not created yet."""
    return RUNS / time.strftime("%Y-%m-%d") / f"{time.strftime('%H%M%S')}-{secrets.token_hex(3)}"


def open_run_dir(run_dir: Path, job: TrainJob) -> None:
    """Create the run folder: the configuration, what it ran on, and from here on the log.

    Raises:
        UserError: another process is at work in it.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    folder = os.open(run_dir, os.O_RDONLY)  # never closed: the lock is to go when the process does
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(f"run_dir={run_dir}: another process is training there: wait for it, or name another") from None
    OmegaConf.save(OmegaConf.create(to_dict(job)), run_dir / "config.yaml")
    (run_dir / "environment.json").write_text(json.dumps(environment(), indent=2) + "\n")
    root = logging.getLogger()
    for handler in [h for h in root.handlers if isinstance(h, logging.FileHandler)]:
        root.removeHandler(handler)
        handler.close()
    file_handler = logging.FileHandler(run_dir / "log.txt")
    file_handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for early in [h for h in root.handlers if isinstance(h, MemoryHandler)]:
        early.setTarget(file_handler)
        early.flush()
        root.removeHandler(early)
    root.addHandler(file_handler)


def environment() -> dict[str, Any]:
    """What a rerun needs to know: command, commit, versions, machine."""
    names = [re.split(r"[^\w-]", requirement)[0] for requirement in importlib.metadata.requires("gpt2lab") or []]
    installed = {
        d.metadata["Name"].lower(): d.version for d in importlib.metadata.distributions() if d.metadata["Name"]
    }
    return {
        "command": sys.argv,
        "git_commit": _git("rev-parse", "HEAD"),
        "git_changed_files": _git("status", "--porcelain"),
        "python": platform.python_version(),
        "packages": {name: installed[name] for name in ["gpt2lab", *names] if name in installed},
        "platform": platform.platform(),
        "cpu_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


class _ConsoleHandler(logging.Handler):
    """Prints above the progress bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "warning: " if record.levelno == logging.WARNING else ""
        tqdm.write(prefix + self.format(record))


def _to_job(values: DictConfig) -> Any:
    """Build, and so check, the dataclasses; a key added with ``+`` that they do not have is a ``UserError``."""
    job_class: Any = OmegaConf.get_type(values)
    plain: Any = OmegaConf.to_container(values, resolve=True, throw_on_missing=True)
    return from_dict(job_class, plain)


def _explain(error: BaseException, name: str) -> str:
    """One line for an error of Hydra's or OmegaConf's: the value, what was expected, what to type."""
    chain = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    text = " ".join(one_line(link) for link in chain)

    if found := re.search(r"UserError raised while resolving interpolation: (.+?) full_key: ", text):
        return found[1]
    inner = re.search(r"Key '([^']+)' not in '(\w+)'", text)
    overridden = re.search(r"Could not override '([^']+)'", text)
    if inner and overridden and overridden[1].rpartition(".")[2] != inner[1]:
        # a key within the value that was typed, as in [{temprature: 1}]
        hint = did_you_mean(inner[1], typing.get_type_hints(getattr(config, inner[2])))
        return f"{overridden[1]}: unknown key {inner[1]} in it{hint}"
    if found := re.search(r"Could not override '([^']+)'", text):
        key, known = found[1], [*known_keys(JOBS[name]), *config_groups()]
        # model.positions is written with a slash when a variant is chosen, so "positions" alone may mean the group
        by_last_part = [k for k in known if re.split(r"[./]", k)[-1] == key.rsplit(".", 1)[-1]]
        hint = f"; did you mean {' or '.join(by_last_part)}?" if by_last_part else did_you_mean(key, known)
        return f"{key}: unknown key{hint}"
    if found := re.search(r"Could not find '([^']+)' Available options in '([^']+)': (.*?) Config search path", text):
        return f"{found[1].removeprefix(found[2] + '/')}: no such {found[2]}; expected {', '.join(found[3].split())}"
    if found := re.search(r"Error merging override (\S+?)=(\S*) Invalid type assigned", text):
        key, value = found.groups()
        if (group := key.replace(".", "/")) in config_groups():
            return f"{key}={value}: {key} is a group; choose a variant with a slash: {group}={value}"
        return f"{key}={value}: {key} holds several settings; expected one of them, {key}.NAME={value}"
    if found := re.search(r"Error merging override (.+?) (Value .+?|Invalid value .+?|field .+?)\.? full_key", text):
        return f"{found[1]}: {found[2]}"
    return text


def known_keys(job: Any, prefix: str = "") -> list[str]:
    """Every dotted key of a job's dataclass and of those nested in it."""
    keys = []
    for key, kind in typing.get_type_hints(job).items():
        keys.append(prefix + key)
        if dataclasses.is_dataclass(kind):
            keys += known_keys(kind, f"{prefix}{key}.")
    return keys


def config_groups() -> list[str]:
    """The folders under configs/, as they are typed: ``model``, ``model/positions``, ..."""
    return sorted(str(path.relative_to(CONFIG_DIR)) for path in CONFIG_DIR.rglob("*") if path.is_dir())


def _git(*arguments: str) -> str | None:
    try:
        result = subprocess.run(
            ["git", "-C", CONFIG_DIR.parent, *arguments], capture_output=True, text=True, check=False
        )
    except OSError:  # there is no git
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def _print_error(message: str) -> None:
    rank = os.environ.get("RANK", "0")
    print(f"error: {message}" if rank == "0" else f"error in process {rank}: {message}", file=sys.stderr)
