"""A corpus as token ids: the corpus of an evaluation -> the ids of each document."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpt2lab.config import EvalConfig
from gpt2lab.evaluation.corpora.chunks import TokenBuffer, encode_chunks
from gpt2lab.evaluation.corpora.formats import Document, chosen_corpus, open_corpus
from gpt2lab.evaluation.text_model import TextModel
from gpt2lab.tokenizers import Tokenizer


class TokenizedCorpus(NamedTuple):
    """Documents that the model was not trained on, or that the user names."""

    documents: Sequence[NDArray[np.integer]]
    """token ids of each, without end-of-text"""
    description: dict[str, Any]
    """what it is, for ``eval.json``"""

    def stream(self, tokenizer: Tokenizer) -> NDArray[np.int64]:
        """All documents in a row, end-of-text before each, as training reads them; int64 [n]."""
        parts = [part for document in self.documents for part in ([tokenizer.eot_id], document)]
        return np.concatenate(parts).astype(np.int64)

    def document_numbers(self) -> NDArray[np.int64]:
        """The document that each token of ``stream`` is of, an end-of-text being of the one that follows; int64 [n]."""
        return np.repeat(np.arange(len(self.documents)), [1 + len(document) for document in self.documents])


def tokenized_corpus(loaded: TextModel, config: EvalConfig) -> TokenizedCorpus:
    """The documents of ``eval.corpus`` or ``eval.text_file``, by the model's tokenizer.

    Raises:
        UserError: the corpus cannot be read or fetched.
    """
    chosen = chosen_corpus(config)
    corpus = open_corpus(chosen, loaded)
    documents = [
        _encoded(document, loaded.tokenizer) if document.tokens is None else document.tokens
        for document in corpus.documents
    ]
    return TokenizedCorpus(documents, {**corpus.description, "corpus": chosen.name})


def _encoded(document: Document, tokenizer: Tokenizer) -> NDArray[np.integer]:
    tokens = TokenBuffer(tokenizer.vocab_size, len(document.content))
    for ids_n in encode_chunks(document.content, tokenizer):
        tokens.append(ids_n)
    return tokens.tokens_n
