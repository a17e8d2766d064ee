"""Checkpoints: the states of named parts in a folder that is either complete and verified, or ignored.

    parts -> step_00000100.tmp/ (one file per part, then checkpoint.json with hashes) -> rename -> step_00000100/

- ``manager.py``: when a checkpoint is written, which ones stay.
- ``parts.py``: the state of a part as a file.
- ``manifest.py``: ``checkpoint.json``, and the check of a folder against it.
- ``folders.py``: names, links, and the newest complete checkpoint of a run.
"""

from gpt2lab.checkpoint.folders import list_checkpoints, newest_complete, restore_replaced
from gpt2lab.checkpoint.manager import BackgroundCheckpoints, CheckpointManager, UnwrittenCheckpoints
from gpt2lab.checkpoint.manifest import MANIFEST, IncompleteCheckpointError, read_manifest, verify_checkpoint

__all__ = [
    "MANIFEST",
    "BackgroundCheckpoints",
    "CheckpointManager",
    "IncompleteCheckpointError",
    "UnwrittenCheckpoints",
    "list_checkpoints",
    "newest_complete",
    "read_manifest",
    "restore_replaced",
    "verify_checkpoint",
]
