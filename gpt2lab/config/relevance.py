"""Which settings decide the result of a run: a sweep keeps these as they are, and a report compares runs by them."""

IRRELEVANT = ("run_dir", "resume", "logger", "samples", "hydra", "sweep", "config", "from", "ignore_data_fingerprint")
"""keys and groups that say nothing of the model or its training"""
RECORD_KEYS = (
    "training.eval_every",
    "training.eval_tasks",
    "training.eval_texts",
    "training.log_every",
    "training.checkpoint_every",
    "training.keep_checkpoints",
)
"""beginnings of keys that decide what is measured and saved, and when"""
MACHINE_KEYS = (
    "data.root",
    "training.micro_batch_size",
    "runtime.profile",
    "runtime.background_checkpoints",
)
"""settings that suit a run to its machine; what they could change of the data is compared as a fact"""


def decides_result(key: str) -> bool:
    """Whether a setting decides more than where a run is and what is recorded of it."""
    return key.split(".")[0] not in IRRELEVANT and not key.startswith(RECORD_KEYS)


def decides_comparison(key: str) -> bool:
    """Whether runs that differ in a setting cannot be compared; those of two machines can."""
    return decides_result(key) and key not in MACHINE_KEYS
