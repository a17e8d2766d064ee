"""Zero-shot tasks: questions whose answers are judged by how likely the model finds them.

    rows -> requests -> likelihoods -> scores of each question

Texts, prompts and metrics are those of lm-evaluation-harness where it has the task, so that its published values can
be compared with. A new task is a class here and an entry of ``TASKS``.
"""

import re
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

import numpy as np

from gpt2lab.config import UserError
from gpt2lab.evaluation.corpora.detokenize import detokenize_cbt
from gpt2lab.evaluation.corpora.reading import Example, HubDatasetRef, fetch_rows, fetch_subsets
from gpt2lab.evaluation.tasks.blimp import PARADIGMS
from gpt2lab.evaluation.tasks.likelihoods import Likelihood, Request

Scores = dict[str, float]


class Task(ABC):
    """Questions of one kind."""

    hub: ClassVar[HubDatasetRef]
    fields: ClassVar[dict[str, type]]
    """of a row, that the task reads, and what each holds"""

    def fetch(self, instead: str, limit: int | None) -> dict[str, list[Example]]:
        """The rows of each part on the Hub, by its name; ``instead`` and ``limit`` as in ``fetch_rows``."""
        return {self.hub.name: fetch_rows(self.hub, tuple(self.fields), instead, limit)}

    def files(self, folder: Path, name: str) -> list[Path]:
        """Those in ``folder`` with the questions of the task, which is called ``name``; none: the Hub has them."""
        file = folder / f"{name}.jsonl"
        return [file] if file.is_file() else []

    def files_in_words(self, name: str) -> str:
        """Where ``files`` looks, for messages."""
        return f"FOLDER/{name}.jsonl"

    @abstractmethod
    def requests(self, row: Example) -> list[Request]:
        """The texts to score for one question; a ``UserError`` for a row that is not a question."""

    @abstractmethod
    def scores(self, row: Example, likelihoods: list[Likelihood]) -> Scores:
        """What the question adds to each metric: accuracies as 0 or 1, the others in nats."""


class Lambada(Task):
    """The last word of a passage (Paperno et al. 2016): all its tokens must be the greedy ones.

    ``acc_last_token`` asks for the last token alone, which the GPT-2 paper counted. ``log_likelihood`` is of the word.
    """

    fields: ClassVar = {"text": str}

    def requests(self, row: Example) -> list[Request]:
        """See ``Task.requests``."""
        context, space, word = row["text"].rpartition(" ")
        if not space:
            raise UserError(f"a passage of one word, {word!r:.40}: expected a text and its last word")
        return [Request(context, space + word)]

    def scores(self, row: Example, likelihoods: list[Likelihood]) -> Scores:
        """See ``Task.scores``."""
        (word,) = likelihoods
        return {
            "acc": float(word.is_greedy),
            "acc_last_token": float(word.greedy[-1]),
            "log_likelihood": word.log_likelihood,
        }


class LambadaOpenAI(Lambada):
    """The passages as OpenAI reformatted them."""

    hub: ClassVar = HubDatasetRef("EleutherAI/lambada_openai", "default", None, "test")


class LambadaStandard(Lambada):
    """The passages as they were published: lower case, spaces before punctuation."""

    hub: ClassVar = HubDatasetRef("cimec/lambada", None, None, "test")


class HellaSwag(Task):
    """Which of four endings continues a text (Zellers et al. 2019): the likeliest, in total (``acc``), by character
    (``acc_norm``), by token (``acc_token``)."""

    hub: ClassVar = HubDatasetRef("Rowan/hellaswag", None, None, "validation")
    fields: ClassVar = {"activity_label": str, "ctx_a": str, "ctx_b": str, "endings": list, "label": object}

    def requests(self, row: Example) -> list[Request]:
        """See ``Task.requests``."""
        _choice(row["label"], row["endings"])
        query = self._clean(f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}")
        return [Request(query, " " + self._clean(ending)) for ending in row["endings"]]

    def scores(self, row: Example, likelihoods: list[Likelihood]) -> Scores:
        """See ``Task.scores``."""
        totals = np.array([ending.log_likelihood for ending in likelihoods])
        lengths = {
            "acc": np.ones(len(totals)),
            "acc_norm": np.array([len(self._clean(ending)) for ending in row["endings"]]),
            "acc_token": np.array([ending.tokens for ending in likelihoods]),
        }
        gold = _choice(row["label"], row["endings"])
        return {name: float(np.argmax(totals / length) == gold) for name, length in lengths.items()}

    @staticmethod
    def _clean(text: str) -> str:
        """Brackets are left over from WikiHow, from which a part of the set is."""
        text = text.strip().replace(" [title]", ". ")
        return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


class ChildrensBookTest(Task):
    """Which of ten words was taken out of a sentence, after twenty sentences (Hill et al. 2016).

    As in the GPT-2 paper, section 3.2: the likelihood of the word and of the rest of the sentence after it, on the
    validation set, the text detokenized. The paper's detokenizer is unpublished.
    """

    fields: ClassVar = {"sentences": list, "question": str, "answer": str, "options": list}
    blank: ClassVar = "XXXXX"

    def requests(self, row: Example) -> list[Request]:
        """See ``Task.requests``."""
        _choice(row["options"].index(row["answer"]) if row["answer"] in row["options"] else None, row["options"])
        if self.blank not in row["question"]:
            raise UserError(f"question {row['question']!r:.60}: expected {self.blank} in it")
        passage = " ".join([*row["sentences"], row["question"]])
        texts = [detokenize_cbt(passage.replace(self.blank, option)) for option in row["options"]]
        if len(set(texts)) == 1:
            raise UserError(f"options {row['options']!r:.60}: expected words that differ")
        # what goes before the word is the same for all of them, and so is what that adds to their likelihoods
        shared = next((i for i, letters in enumerate(zip(*texts, strict=False)) if len(set(letters)) > 1), None)
        before = texts[0][: min(map(len, texts)) if shared is None else shared].rpartition(" ")[0]
        return [Request(before, text[len(before) :]) for text in texts]

    def scores(self, row: Example, likelihoods: list[Likelihood]) -> Scores:
        """See ``Task.scores``."""
        likeliest = int(np.argmax([option.log_likelihood for option in likelihoods]))
        return {"acc": float(row["options"][likeliest] == row["answer"])}


class CommonNouns(ChildrensBookTest):
    """The word is a common noun."""

    hub: ClassVar = HubDatasetRef("cam-cst/cbt", "CN", None, "validation")


class NamedEntities(ChildrensBookTest):
    """The word is a name."""

    hub: ClassVar = HubDatasetRef("cam-cst/cbt", "NE", None, "validation")


class Blimp(Task):
    """Which of two sentences is grammatical (Warstadt et al. 2020): the likelier one; a tie counts as wrong.

    A space is put before each, as in lm-evaluation-harness, so that its first word has the ids of a word in a text.
    ``acc`` is over all pairs, ``acc PHENOMENON`` over those of one phenomenon. A limit is of each of the 67 parts.
    """

    hub: ClassVar = HubDatasetRef("nyu-mll/blimp", None, None, "train")
    fields: ClassVar = {"sentence_good": str, "sentence_bad": str, "linguistics_term": str}

    def fetch(self, instead: str, limit: int | None) -> dict[str, list[Example]]:
        """See ``Task.fetch``."""
        return fetch_subsets(self.hub, PARADIGMS, tuple(self.fields), instead, limit)

    def files(self, folder: Path, name: str) -> list[Path]:
        """The files of the folder ``name``, as in the ``data`` folder of BLiMP's repository."""
        return sorted((folder / name).glob("*.jsonl"))

    def files_in_words(self, name: str) -> str:
        """See ``Task.files_in_words``."""
        return f"FOLDER/{name}/PART.jsonl"

    def requests(self, row: Example) -> list[Request]:
        """See ``Task.requests``."""
        return [Request("", " " + row[sentence]) for sentence in ("sentence_good", "sentence_bad")]

    def scores(self, row: Example, likelihoods: list[Likelihood]) -> Scores:
        """See ``Task.scores``."""
        good, bad = likelihoods
        right = float(good.log_likelihood > bad.log_likelihood)
        return {"acc": right, f"acc {row['linguistics_term']}": right}


TASKS: dict[str, type[Task]] = {
    "lambada_openai": LambadaOpenAI,
    "lambada_standard": LambadaStandard,
    "hellaswag": HellaSwag,
    "cbt_cn": CommonNouns,
    "cbt_ne": NamedEntities,
    "blimp": Blimp,
}


def _choice(label: object, choices: list[str]) -> int:
    """The number of the right choice; a ``UserError`` if there is none."""
    try:
        number = int(str(label))
    except ValueError:
        number = -1
    if not 0 <= number < len(choices):
        raise UserError(f"answer {label!r}: expected one of the {len(choices)} choices")
    return number
