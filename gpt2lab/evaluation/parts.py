"""The parts of an evaluation, by the names of ``eval.parts``. A new part is a function and an entry here."""

from collections.abc import Callable
from typing import Any

from gpt2lab.config import EvalConfig, choose, to_dict
from gpt2lab.evaluation.context.evaluate import evaluate_context
from gpt2lab.evaluation.corpora.tokenized import tokenized_corpus
from gpt2lab.evaluation.perplexity.evaluate import evaluate_perplexity
from gpt2lab.evaluation.results import PartResult
from gpt2lab.evaluation.sample_quality import evaluate_sample_quality
from gpt2lab.evaluation.tasks.evaluate import evaluate_tasks
from gpt2lab.evaluation.text_model import TextModel
from gpt2lab.runtime import explaining_out_of_memory, smaller_batch


def _sample_quality(loaded: TextModel, config: EvalConfig) -> PartResult:
    return evaluate_sample_quality(loaded, config.sample_quality, tokenized_corpus(loaded, config))


def _context(loaded: TextModel, config: EvalConfig) -> PartResult:
    return evaluate_context(loaded, config.context, tokenized_corpus(loaded, config))


PARTS: dict[str, Callable[[TextModel, EvalConfig], PartResult]] = {
    "perplexity": evaluate_perplexity,
    "tasks": evaluate_tasks,
    "sample_quality": _sample_quality,
    "context": _context,
}


def evaluate_parts(loaded: TextModel, config: EvalConfig) -> dict[str, PartResult]:
    """Each part of ``config.parts``, in order; all names are checked before the first one runs."""
    parts = {name: choose(PARTS, name, "eval.parts") for name in config.parts}
    results: dict[str, PartResult] = {}
    for name, evaluate in parts.items():
        key, size = _batch_size_of(name, config)
        with explaining_out_of_memory(f"eval.parts={name} with {key}={size}", smaller_batch(key, size)):
            results[name] = evaluate(loaded, config)
    return results


def _batch_size_of(part: str, config: EvalConfig) -> tuple[str, int]:
    """The key that sets how much of a part's work is done at once, and its value."""
    if part == "perplexity":
        return "eval.batch_size", config.batch_size
    return f"eval.{part}.batch_size", getattr(config, part).batch_size


def part_settings(part: str, config: EvalConfig) -> dict[str, Any]:
    """The settings that a part reads."""
    settings = to_dict(config)
    text = {key: settings[key] for key in ("text_file", "corpus")}
    if part == "perplexity":
        return {**text, "protocol": config.protocol, "stride": config.stride}
    own: dict[str, Any] = settings[part]
    return own if part == "tasks" else {**text, **own}
