"""The README.md of an exported model, which the Hugging Face Hub shows: where it comes from and what it scores.

It is made of the run's own files. No path of this machine is in it. What gpt2lab cannot know, the license, is left to
the user.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gpt2lab.checkpoint import read_manifest
from gpt2lab.evaluation.record import read_evaluations
from gpt2lab.runs.layout import EVALUATION
from gpt2lab.runs.records import read_summary
from gpt2lab.weights import StoredModel
from gpt2lab.weights.hub import is_hub_name

FRONT_MATTER = """\
---
license: unknown
library_name: {library}
pipeline_tag: text-generation
---
"""
MASKED = """\
It was trained with `data.document_masking=true`: no token attended to another document. Give it one document at a time,
beginning with end-of-text; in a window that holds several documents it was never trained, and its scores there are no
measure of it.
"""
RECIPE = (
    ("optimizer", "optimizer.name"),
    ("weight decay", "optimizer.weight_decay"),
    ("schedule", "schedule.name"),
    ("tokens in a batch", "training.batch_tokens"),
    ("gradient clipping", "training.grad_clip"),
    ("dropout", "model.dropout"),
    ("seed", "seed"),
)
"""rows of the table and the settings they show"""
VALIDATION = ("val_loss", "val_perplexity", "val_bits_per_byte", "val_tokens")
SCORES = ("token_perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte")
"""metrics of a perplexity in ``eval.json``"""

PROTOCOL = ("protocol", "stride", "precision")
"""what tells evaluations of one text apart"""


def model_card(source: StoredModel, name: str, parameters: int, library: str) -> str:
    """The text of the file.

    Args:
        source: the model that is exported.
        name: of the exported folder.
        parameters: number of the model's parameters.
        library: that opens it, as the Hub calls it.
    """
    config = source.config
    shorter = f", trained on sequences of {source.context:,}" if source.context != config.block_size else ""
    shape = (
        f"{parameters:,} parameters: {config.n_layer} blocks, {config.n_head} heads, width {config.n_embd}, context "
        f"{config.block_size:,} tokens{shorter}, positions {config.positions.name}, norm {config.norm.name}, MLP "
        f"{config.mlp.name}."
    )
    parts = [FRONT_MATTER.format(library=library), f"# {name}\n", f"A language model written by gpt2lab. {shape}\n"]
    parts += [MASKED] if source.document_masking else []
    parts += _of_run(source) if source.trained_on else ["Its weights were not trained by gpt2lab.\n"]
    license_text = (
        "Not stated. The license of the training text may bind; replace `unknown` in the first lines of this file."
    )
    return "\n".join([*parts, "## License\n", f"{license_text}\n"])


def _of_run(source: StoredModel) -> list[str]:
    """Data, recipe and evaluation of a run of gpt2lab."""
    assert source.trained_on is not None
    settings = read_manifest(source.folder)["config"]
    summary = read_summary(source.results)
    step, batch_tokens = int(source.origin["step"]), settings["training"]["batch_tokens"]
    data = [
        ("corpus", source.trained_on.data.name),
        ("tokenizer", settings["tokenizer"]["name"]),
        ("SHA-256 of the prepared data", source.trained_on.fingerprint),
        ("tokens trained on", f"{step * batch_tokens:,}"),
    ]
    rate = [("peak learning rate", _short(summary["learning_rate"]))] if "learning_rate" in summary else []
    started = [("initial weights", _without_path(settings["init_from"]))] if settings.get("init_from") else []
    recipe = [*started, ("steps", f"{step:,}"), *rate, *((label, _value(settings, key)) for label, key in RECIPE)]
    of_last_step = summary.get("steps") == step  # the summary is of the last step, which may not be this checkpoint's
    scores = [(key, _short(summary[key])) for key in VALIDATION if of_last_step and summary.get(key) is not None]
    return [
        "## Data\n", _table(data), "## Recipe\n", _table(recipe),
        "## Evaluation\n", _table([*scores, *_evaluations(source)]) or "Not evaluated.\n",
    ]  # fmt: skip


def _evaluations(source: StoredModel) -> list[tuple[str, str]]:
    """What ``eval.json`` has of this checkpoint: perplexities by text and protocol, and accuracies of tasks.

    Where labels are equal, of two files of one name for instance, the id of the evaluation follows.
    """
    rows: list[tuple[str, str, str]] = []
    for entry in read_evaluations(source.results / EVALUATION):
        if entry.get("step") != source.origin["step"]:
            continue
        protocol = entry.get("protocol", {})
        made_by = [f"{key} {protocol[key]}" for key in PROTOCOL if key in protocol]
        label = ", ".join([_text(entry), *made_by])
        scores = {f"{key} of {label}": entry[key] for key in SCORES if isinstance(entry.get(key), float)}
        if entry["part"] == "tasks":
            tasks = {name: task for name, task in entry.items() if isinstance(task, dict) and "acc" in task}
            scores |= {", ".join([f"acc of {name}", *_questions(t), *made_by]): t["acc"] for name, t in tasks.items()}
        rows += [(label, _short(value), entry["id"]) for label, value in scores.items()]
    times = Counter(label for label, *_ in rows)
    return [(label if times[label] == 1 else f"{label}, {identity}", value) for label, value, identity in rows]


def _text(entry: dict[str, Any]) -> str:
    """The text that was scored, without a path of this machine."""
    settings = entry["job"]["eval"]
    if settings["text_file"]:
        return Path(settings["text_file"]).name
    file = settings["corpus"]["file"]
    return f"{settings['corpus']['name']} ({Path(file).name})" if file else settings["corpus"]["name"]


def _questions(task: dict[str, Any]) -> list[str]:
    """How many questions a task's scores are of, and if they were the user's own; of lm_eval's tasks only the limit."""
    if "questions" not in task:
        return [f"limit {task['limit']}"] if task.get("limit") else []
    own = " of a local file" if isinstance(task["source"], str) else ""
    return [f"questions: {task['questions']:,}{own}"]


def _without_path(where: str) -> str:
    """A model by its name on the Hub, or by the last part of its path on this machine."""
    return where if is_hub_name(where) else Path(where).name


def _value(settings: dict[str, Any], key: str) -> str:
    """The setting under a dotted key."""
    node: Any = settings
    for part in key.split("."):
        node = node.get(part, {})
    return "automatic" if node is None else str(node)


def _short(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:.5g}"


def _table(rows: Iterable[tuple[str, str]]) -> str:
    """A table of Markdown; empty if there are no rows."""
    lines = [f"| {label} | {value} |" for label, value in rows]
    return "\n".join(["| | |", "|---|---|", *lines, ""]) if lines else ""
