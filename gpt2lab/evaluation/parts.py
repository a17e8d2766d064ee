"""The parts of an evaluation, by the names of ``eval.parts``. A new one is a function, and an entry here."""

from collections.abc import Callable

from gpt2lab.config import EvalConfig, choose
from gpt2lab.evaluation.context.evaluate import context_section
from gpt2lab.evaluation.corpora.tokenized import held_out_text
from gpt2lab.evaluation.loaded_model import Subject
from gpt2lab.evaluation.perplexity.evaluate import score_corpus
from gpt2lab.evaluation.results import Section
from gpt2lab.evaluation.sample_quality import sampling_section
from gpt2lab.evaluation.tasks.evaluate import score_tasks


def score_samples(subject: Subject, config: EvalConfig) -> Section:
    """The part ``sampling``: see ``sampling_section``."""
    return sampling_section(subject, config.quality, held_out_text(subject, config))


def score_context(subject: Subject, config: EvalConfig) -> Section:
    """The part ``context``: see ``context_section``."""
    return context_section(subject, config.context, held_out_text(subject, config))


EVALUATIONS: dict[str, Callable[[Subject, EvalConfig], Section]] = {
    "perplexity": score_corpus,
    "tasks": score_tasks,
    "sampling": score_samples,
    "context": score_context,
}


def run_parts(subject: Subject, config: EvalConfig) -> dict[str, Section]:
    """Each part of ``config.parts``, in order; all names are checked before the first one runs."""
    parts = {name: choose(EVALUATIONS, name, "eval.parts") for name in config.parts}
    return {name: evaluate(subject, config) for name, evaluate in parts.items()}
