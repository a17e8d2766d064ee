"""Zero-shot tasks and the perplexity of further texts while the model trains (``training.eval_tasks``, ``eval_texts``).

The numbers are those of ``eval.py`` on the same weights. Dropout is off and nothing is drawn at random, so training
takes the same steps with and without these evaluations.
"""

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path

from gpt2lab.config import EvalConfig, TasksConfig, TrainingConfig, TrainJob, UserError
from gpt2lab.evaluation.corpora.detokenize import DETOKENIZERS
from gpt2lab.evaluation.corpora.formats import chosen_corpus, open_corpus
from gpt2lab.evaluation.perplexity.evaluate import score_plan, summarize_scores
from gpt2lab.evaluation.perplexity.protocols import ScoringPlan, choose_protocol
from gpt2lab.evaluation.tasks.evaluate import Question, read_tasks, score_tasks
from gpt2lab.evaluation.tasks.likelihoods import encode_request
from gpt2lab.evaluation.text_model import TextModel
from gpt2lab.model import GPT
from gpt2lab.runtime import Runtime, explaining_out_of_memory
from gpt2lab.tokenizers import Tokenizer
from gpt2lab.weights import StoredModel
from gpt2lab.weights.checkpoint_format import CheckpointFormat

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TaskEvaluator:
    """Scores the model in training on tasks and texts."""

    loaded: TextModel
    tasks: TasksConfig
    questions: dict[str, list[Question]] = field(default_factory=dict)
    """of each task"""
    texts: dict[str, ScoringPlan] = field(default_factory=dict)
    """by the name that their metrics get"""
    batch_size: int = 8
    every: int = 1
    """validations from one time to the next"""

    @property
    def is_off(self) -> bool:
        """Whether there is nothing to score."""
        return not self.texts and not self.questions

    def __call__(self, model: GPT) -> dict[str, float]:
        """Scores of a model as ``metrics.jsonl`` has them: ``tasks/NAME/METRIC``, ``val/TEXT/loss``, ...; shown too.

        Raises:
            UserError: a score is NaN or infinite, or the memory is not enough.
        """
        advice = "type training.eval_tasks=[] training.eval_texts=[], and score them with eval.py"
        with explaining_out_of_memory("training.eval_tasks and training.eval_texts", advice):
            metrics = self._score(replace(self.loaded, model=model))
        shown = (f"{name} {value:.4f}" for name, value in metrics.items() if not name.endswith("/perplexity"))
        log.info("             %s", "  ".join(shown))
        return metrics

    def _score(self, loaded: TextModel) -> dict[str, float]:
        metrics: dict[str, float] = {}
        for name, plan in self.texts.items():
            score, _ = summarize_scores(score_plan(loaded.model, plan, loaded.runtime, self.batch_size))
            metrics[f"val/{name}/loss"] = score.loss
            metrics[f"val/{name}/perplexity"] = score.token_perplexity
            metrics[f"val/{name}/bits_per_byte"] = score.bits_per_byte
        for task in score_tasks(loaded, self.questions, self.tasks).values():
            metrics |= {f"tasks/{row.label.replace(' ', '/')}": row.value for row in task.rows}
        return metrics


def make_task_evaluator(
    job: TrainJob, model: GPT, tokenizer: Tokenizer, run_dir: Path, runtime: Runtime
) -> TaskEvaluator:
    """Read the texts and the questions, so that a missing one is an error before the first step.

    Raises:
        UserError: a text or questions cannot be read or fetched, or are malformed.
    """
    settings = job.training
    source = StoredModel(
        origin={"checkpoint": str(run_dir)},
        folder=run_dir,
        config=job.model,
        format=CheckpointFormat(),
        files=[],
        tokenizer_config=job.tokenizer,
        vocab_size=job.model.vocab_size,
        context=job.sequence_length,
        results=run_dir,
        document_masking=job.data.document_masking,
    )
    loaded = TextModel(model, tokenizer, source, runtime)
    tasks = TasksConfig(settings.eval_tasks, folder=settings.eval_tasks_folder, limit=settings.eval_tasks_limit)
    questions = read_tasks(tasks, "training.eval_tasks_folder")
    for name, of_task in questions.items():
        _check_lengths(name, of_task, loaded)
    texts = {name: _plan(path, loaded) for name, path in text_names(settings).items()}
    return TaskEvaluator(loaded, tasks, questions, texts, every=settings.eval_tasks_every)


def _check_lengths(name: str, questions: list[Question], loaded: TextModel) -> None:
    """Raise ``UserError`` for answers that do not fit the model's context."""
    context = loaded.source.context
    for number, question in enumerate(questions, 1):
        for request in question.requests:
            length = len(encode_request(request, loaded.tokenizer).continuation)
            if not 1 <= length <= context:
                raise UserError(
                    f"training.eval_tasks={name}: question {number} has an answer of {length} tokens; expected 1 to "
                    f"{context}, the model's context; leave {name} out"
                )


def text_names(settings: TrainingConfig) -> dict[str, str]:
    """The file of each further text by the name of its metrics, the file's own without its ending.

    Raises:
        UserError: two files have the same name, or one is no file.
    """
    names: dict[str, str] = {}
    for path in settings.eval_texts:
        if not Path(path).is_file():
            raise UserError(f"training.eval_texts={path}: no such file; expected files of text")
        name = Path(path).stem
        if name in names:
            raise UserError(
                f"training.eval_texts=[{names[name]},{path}]: both would be logged as val/{name}; expected files whose "
                "names differ; rename one"
            )
        names[name] = path
    return names


def _plan(path: str, loaded: TextModel) -> ScoringPlan:
    config = EvalConfig(text_file=path)
    corpus = open_corpus(chosen_corpus(config), loaded)
    protocol = choose_protocol("stream", loaded.source)
    return protocol.plan(corpus, loaded.tokenizer, loaded.source.context, None, DETOKENIZERS["none"])
