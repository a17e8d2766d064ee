"""Models out of files: ``open_checkpoint`` for gpt2lab's own runs."""

from gpt2lab.weights.native import OpenCheckpoint, find_checkpoint, load_weights, newest_run, open_checkpoint

__all__ = ["OpenCheckpoint", "find_checkpoint", "load_weights", "newest_run", "open_checkpoint"]
