"""The parts of an evaluation, by the names of ``eval.parts``. A new part is a function and an entry here.

    model, settings -> text read, settings checked -> the part, ready to be computed -> its result

All parts are prepared before the first is computed, so that a mistake in the last one costs no work.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from gpt2lab.config import EvalConfig, choose, to_dict
from gpt2lab.evaluation.context.evaluate import check_context, evaluate_context
from gpt2lab.evaluation.corpora.formats import chosen_corpus
from gpt2lab.evaluation.corpora.tokenized import tokenized_corpus
from gpt2lab.evaluation.perplexity.evaluate import prepare_perplexity
from gpt2lab.evaluation.results import PartResult
from gpt2lab.evaluation.sample_quality import check_sample_quality, evaluate_sample_quality
from gpt2lab.evaluation.tasks.evaluate import evaluate_tasks
from gpt2lab.evaluation.text_model import TextModel
from gpt2lab.runtime import explaining_out_of_memory, smaller_batch

PreparedPart = Callable[[], PartResult]


def _tasks(loaded: TextModel, config: EvalConfig) -> PreparedPart:
    return partial(evaluate_tasks, loaded, config)


def _sample_quality(loaded: TextModel, config: EvalConfig) -> PreparedPart:
    corpus = tokenized_corpus(loaded, config)
    check_sample_quality(loaded, config.sample_quality, corpus)
    return partial(evaluate_sample_quality, loaded, config.sample_quality, corpus)


def _context(loaded: TextModel, config: EvalConfig) -> PreparedPart:
    corpus = tokenized_corpus(loaded, config)
    check_context(loaded, config.context, corpus)
    return partial(evaluate_context, loaded, config.context, corpus)


PARTS: dict[str, Callable[[TextModel, EvalConfig], PreparedPart]] = {
    "perplexity": prepare_perplexity,
    "tasks": _tasks,
    "sample_quality": _sample_quality,
    "context": _context,
}


def prepare_parts(loaded: TextModel, config: EvalConfig) -> dict[str, PreparedPart]:
    """Each part of ``config.parts``, in order, ready to be computed.

    Raises:
        UserError: an unknown part, a text that cannot be read or fetched, or settings that do not fit model and text.
    """
    parts = {name: choose(PARTS, name, "eval.parts") for name in config.parts}
    return {name: prepare(loaded, config) for name, prepare in parts.items()}


def explaining_memory_of(part: str, config: EvalConfig) -> AbstractContextManager[None]:
    """Within it, an out-of-memory error of the part becomes a ``UserError`` that names its batch size."""
    key, size = "eval.batch_size", config.batch_size
    if part != "perplexity":
        key, size = f"eval.{part}.batch_size", getattr(config, part).batch_size
    return explaining_out_of_memory(f"eval.parts={part} with {key}={size}", smaller_batch(key, size))


def part_settings(part: str, config: EvalConfig) -> dict[str, Any]:
    """The settings that a part reads; a text's file is left out, as its SHA-256 says more than where it is."""
    settings = to_dict(config)
    text = {"text_file": None, "corpus": {**to_dict(chosen_corpus(config)), "file": None}}
    if part == "perplexity":
        return {**text, "protocol": config.protocol, "stride": config.stride}
    own: dict[str, Any] = settings[part]
    return own if part == "tasks" else {**text, **own}
