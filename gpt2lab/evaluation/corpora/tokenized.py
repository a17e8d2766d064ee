"""Held-out text as token ids: the corpus of an evaluation -> the ids of each document."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpt2lab.config import EvalConfig
from gpt2lab.evaluation.corpora.formats import open_corpus
from gpt2lab.evaluation.loaded_model import Subject
from gpt2lab.evaluation.perplexity.evaluate import chosen_corpus
from gpt2lab.tokenizers import Tokenizer


class HeldOut(NamedTuple):
    """Documents that the model was not trained on, or that the user names."""

    documents: Sequence[NDArray[np.integer]]
    """token ids of each, without end-of-text"""
    description: dict[str, Any]
    """what it is, for ``eval.json``"""

    def stream(self, tokenizer: Tokenizer) -> NDArray[np.int64]:
        """All documents in a row, end-of-text before each, as training reads them; int64 [n]."""
        parts = [part for document in self.documents for part in ([tokenizer.eot_id], document)]
        return np.concatenate(parts).astype(np.int64)


def held_out_text(subject: Subject, config: EvalConfig) -> HeldOut:
    """The documents of ``eval.corpus`` or ``eval.text_file``, by the subject's tokenizer.

    Raises:
        UserError: the corpus cannot be had.
    """
    corpus = open_corpus(chosen_corpus(config), subject)
    documents = [
        subject.tokenizer.encode_array(document.text) if document.tokens is None else document.tokens
        for document in corpus.documents
    ]
    return HeldOut(documents, corpus.description)
