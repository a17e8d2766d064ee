"""The run directory: names of its files, readers and writers, lock, provenance. Imports neither torch nor Hydra."""

from gpt2lab.runs.directory import (
    check_can_start_again,
    check_not_foreign,
    check_unused,
    lock_directory,
    log_into,
    new_run_dir,
    open_run_dir,
)
from gpt2lab.runs.own_code import warn_of_other_code
from gpt2lab.runs.provenance import Hardware, environment, git
from gpt2lab.runs.records import (
    COMPLETED,
    SCHEMA_VERSION,
    RunRecord,
    append_lines,
    newest_config,
    read_lines,
    read_run,
    rewind_lines,
    write_json,
)

__all__ = [
    "COMPLETED",
    "SCHEMA_VERSION",
    "Hardware",
    "RunRecord",
    "append_lines",
    "check_can_start_again",
    "check_not_foreign",
    "check_unused",
    "environment",
    "git",
    "lock_directory",
    "log_into",
    "new_run_dir",
    "newest_config",
    "open_run_dir",
    "read_lines",
    "read_run",
    "rewind_lines",
    "warn_of_other_code",
    "write_json",
]
