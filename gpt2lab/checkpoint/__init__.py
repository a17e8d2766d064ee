"""Checkpoints: the states of named parts in a folder that is either complete and verified, or ignored.

    parts -> step_00000100.tmp/ (one file per part, then checkpoint.json with hashes) -> rename -> step_00000100/

- ``manager.py``: when a checkpoint is written, which ones stay.
- ``parts.py``: the state of a part as a file.
- ``manifest.py``: ``checkpoint.json``, and the check of a folder against it.
- ``folders.py``: names, links, and the newest complete checkpoint of a run.
- ``newest.py``: the run, and the checkpoint of a run, that is meant where none is named.
"""

from gpt2lab.checkpoint.folders import (
    follow_link,
    list_checkpoints,
    newest_complete,
    relink_copies,
    restore_replaced,
)
from gpt2lab.checkpoint.manager import BackgroundCheckpoints, CheckpointManager, UnwrittenCheckpoints
from gpt2lab.checkpoint.manifest import MANIFEST, IncompleteCheckpointError, read_manifest, verify_checkpoint
from gpt2lab.checkpoint.newest import (
    has_checkpoint,
    last_checkpoint,
    newest_run,
    newest_started_run,
    runs_with_checkpoint,
)

__all__ = [
    "MANIFEST",
    "BackgroundCheckpoints",
    "CheckpointManager",
    "IncompleteCheckpointError",
    "UnwrittenCheckpoints",
    "follow_link",
    "has_checkpoint",
    "last_checkpoint",
    "list_checkpoints",
    "newest_complete",
    "newest_run",
    "newest_started_run",
    "read_manifest",
    "relink_copies",
    "restore_replaced",
    "runs_with_checkpoint",
    "verify_checkpoint",
]
