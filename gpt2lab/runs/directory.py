"""Creates a run directory, locks it for one process and opens its log."""

import logging
import secrets
import time
from collections.abc import Sequence
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any

import yaml

from gpt2lab.config import UserError
from gpt2lab.files import write_text
from gpt2lab.locks import try_lock
from gpt2lab.runs.layout import CONFIG, CONSOLE, ENVIRONMENT, LOG, METRICS, RECORDS, RUNS
from gpt2lab.runs.own_code import OWN_CODE, own_code
from gpt2lab.runs.provenance import Hardware, environment
from gpt2lab.runs.records import COMPLETED, START_STEP, STOPPED, free_name, read_summary, write_json
from gpt2lab.shell import shell_word

LOST_AND_FOUND = "lost+found"
"""a folder that a new disk has"""

_LOCKED: set[Path] = set()
"""directories that this process has locked"""


def new_run_dir() -> Path:
    """A path for a new run, runs/<day>/<time>-<id>; not made yet."""
    now = time.localtime()  # read once: at midnight two readings would be of two days
    return Path(RUNS) / time.strftime("%Y-%m-%d", now) / f"{time.strftime('%H%M%S', now)}-{secrets.token_hex(3)}"


def open_run_dir(
    run_dir: Path, config: dict[str, Any], command: Sequence[str] | None, hardware: Hardware, start_step: int = 0
) -> None:
    """Make the run directory and lock it; write the configuration and the environment; begin the log.

    A directory that is resumed keeps its first records: those of this start are numbered, ``config.2.yaml``.

    Args:
        run_dir: the directory, made if it is not there.
        config: the job, resolved; its model is built.
        command: program and arguments of this job; None: it was started from Python.
        hardware: what it runs on.
        start_step: optimizer steps that were taken before; 0: the training begins, anew where it had begun before.

    Raises:
        UserError: another process works in it, or a folder is in the place of a record.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    lock_directory(run_dir)
    for path in (run_dir / name for name in RECORDS):
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: is not a file; expected the record of a run; move it away")
    own = {START_STEP: start_step, OWN_CODE: own_code(config.get("model", {}))}
    write_json(free_name(run_dir / ENVIRONMENT), environment(command, hardware) | own)
    write_text(free_name(run_dir / CONFIG), yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    log_into(run_dir / LOG)


def check_unused(run_dir: Path) -> None:
    """Raise ``UserError`` if a run in ``run_dir`` would replace files of the user's or the record of another run."""
    check_not_foreign(run_dir)
    if (run_dir / METRICS).exists():
        raise _has_record(run_dir)


def check_can_start_again(run_dir: Path) -> None:
    """Raise ``UserError`` unless ``run_dir`` is new, or of a run that ended before its first checkpoint."""
    check_not_foreign(run_dir)
    if read_summary(run_dir).get("status") in (COMPLETED, STOPPED):  # both end with a checkpoint
        raise _has_record(run_dir)


def check_not_foreign(run_dir: Path) -> None:
    """Raise ``UserError`` if ``run_dir`` holds files, and is not a run directory."""
    names = sorted(path.name for path in run_dir.glob("*")) if run_dir.is_dir() else []
    foreign = [name for name in names if name not in (CONSOLE, LOST_AND_FOUND) and not name.startswith(".")]
    if foreign and ENVIRONMENT not in names:
        raise UserError(
            f"run_dir={run_dir}: holds {', '.join(foreign[:3])}, which no run has written; expected a new or empty "
            f"folder; try {shell_word(f'run_dir={run_dir}/run')}"
        )


def _has_record(run_dir: Path) -> UserError:
    return UserError(
        f"run_dir={run_dir}: holds the record of a run ({METRICS}), but no checkpoint to continue from; expected a new "
        f"folder; try {shell_word(f'run_dir={run_dir}_2')}"
    )


def lock_directory(folder: Path) -> None:
    """Take a directory for this process; the lock ends with the process.

    Raises:
        UserError: another process has it.
    """
    if folder.resolve() in _LOCKED:  # a notebook may resume its own run
        return
    if try_lock(folder) is None:  # the descriptor stays open until the process ends
        raise UserError(f"run_dir={folder}: another process is at work there; wait for it, or name another")
    _LOCKED.add(folder.resolve())


def log_into(path: Path) -> None:
    """Write log lines to ``path`` from here on, those that a ``MemoryHandler`` has kept so far included."""
    root = logging.getLogger()
    for handler in [h for h in root.handlers if isinstance(h, logging.FileHandler)]:
        root.removeHandler(handler)
        handler.close()
    file_handler = logging.FileHandler(path, encoding="utf-8")
    file_handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for early in [h for h in root.handlers if isinstance(h, MemoryHandler)]:
        early.setTarget(file_handler)
        early.flush()
        root.removeHandler(early)
    root.addHandler(file_handler)
