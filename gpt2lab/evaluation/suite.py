"""The parts of an evaluation, by the names of ``eval.parts``. A new one is a function, and an entry here."""

from collections.abc import Callable

from gpt2lab.config import EvalConfig, choose
from gpt2lab.evaluation.corpus_scores import score_corpus
from gpt2lab.evaluation.section import Section
from gpt2lab.evaluation.subject import Subject
from gpt2lab.evaluation.task_scores import score_tasks

EVALUATIONS: dict[str, Callable[[Subject, EvalConfig], Section]] = {
    "perplexity": score_corpus,
    "tasks": score_tasks,
}


def run_parts(subject: Subject, config: EvalConfig) -> dict[str, Section]:
    """Each part of ``config.parts``, in order; all names are checked before the first one runs."""
    parts = {name: choose(EVALUATIONS, name, "eval.parts") for name in config.parts}
    return {name: evaluate(subject, config) for name, evaluate in parts.items()}
