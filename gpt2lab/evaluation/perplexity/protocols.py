"""The ways in which perplexities are taken in the literature, by name.

    corpus -> text, as the protocol wants it -> tokens -> windows; and the words and bytes that the sum is divided by

A new protocol is a class here, an entry of ``PROTOCOLS`` and one of ``PROTOCOL_NAMES``.

Legend: n = tokens of the plan, D = documents.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gpt2lab.config import UserError, choose
from gpt2lab.evaluation.corpora.chunks import TokenBuffer, encode_chunks
from gpt2lab.evaluation.corpora.formats import Corpus
from gpt2lab.evaluation.scoring import check_stride
from gpt2lab.evaluation.windows import Window, Windows, page_windows, scored_tokens, sliding_windows
from gpt2lab.tokenizers import Tokenizer
from gpt2lab.weights import StoredModel

Ids = NDArray[np.int64]

LINE_ENDS = "white space and line ends"
WHITE_SPACE = "white space"
LM_EVAL_WORDS = r"re.split(\s+)"


@dataclass(frozen=True)
class ScoringPlan:
    """What goes through the model, which tokens are scored, and the units by document."""

    tokens_n: NDArray[np.integer]
    windows: Windows
    starts_D: Ids
    """first token of each document"""
    bytes_D: Ids
    """UTF-8 bytes that the scored tokens stand for"""
    words_D: Ids | None
    """None: the protocol has no word perplexity"""
    protocol: dict[str, Any]
    """how it was made, for ``eval.json``"""

    def reads_across_documents(self) -> bool:
        """Whether some window has inputs of two documents."""
        begin_W, end_W, _ = self.windows.window_W3.T
        first_W, last_W = (np.searchsorted(self.starts_D, inputs_W, side="right") for inputs_W in (begin_W, end_W - 2))
        return bool(np.any(first_W != last_W))


class ScoringProtocol(ABC):
    """A protocol: how a corpus becomes tokens, windows and units."""

    @abstractmethod
    def plan(
        self, corpus: Corpus, tokenizer: Tokenizer, context: int, stride: int | None, detokenize: Callable[[str], str]
    ) -> ScoringPlan:
        """Lay out a corpus for the model.

        Args:
            corpus: documents.
            tokenizer: the model's.
            context: longest window, in tokens.
            stride: as the user gave it; None: the protocol's own.
            detokenize: undoes the corpus's tokenization, for the protocols that do so.

        Raises:
            UserError: a stride that the protocol cannot have.
        """


class Stream(ScoringProtocol):
    """All documents in order, an end-of-text before each, which are scored like other tokens but for the first.

    This is what gpt2lab's models are trained on, and the protocol of the validation loss, with every token scored.
    ``StreamWithinDocuments`` is that of models whose training had ``data.document_masking``.
    """

    attention: ClassVar[dict[str, str]] = {}
    """what the record says of it, where it is not the usual one"""

    def plan(
        self, corpus: Corpus, tokenizer: Tokenizer, context: int, stride: int | None, detokenize: Callable[[str], str]
    ) -> ScoringPlan:
        """See ``ScoringProtocol.plan``; the text is taken as it is. Stride: the context, unless it is given."""
        stride = context if stride is None else stride
        check_stride(stride, context)
        tokens = TokenBuffer(tokenizer.vocab_size)
        starts, n_bytes = [], []
        lengths_V = tokenizer.token_lengths()
        for document in corpus.documents:
            starts.append(len(tokens))
            tokens.append(np.array([tokenizer.bos_id]))
            if document.tokens is None:
                n_bytes.append(len(document.content))
                for ids_n in encode_chunks(document.content, tokenizer):
                    tokens.append(ids_n)
            else:
                n_bytes.append(int(lengths_V[document.tokens].sum()))
                tokens.append(document.tokens)
        return ScoringPlan(
            tokens.tokens_n,
            Windows(self.windows(starts, len(tokens), context, stride)),
            np.array(starts),
            np.array(n_bytes),
            words_by_document(corpus),
            {
                "stride": stride,
                "prefix": "end-of-text",
                "detokenizer": "none",
                "words_by": WHITE_SPACE,
                **self.attention,
            },
        )

    def windows(self, starts: list[int], n_tokens: int, context: int, stride: int) -> Iterator[Window]:
        """Windows of a stream of ``n_tokens`` whose documents begin at ``starts``."""
        return sliding_windows(n_tokens, context, stride)


class StreamWithinDocuments(Stream):
    """``Stream`` for a model trained with ``data.document_masking``: each token is predicted from its own document.

    The same tokens are scored, so that the two compare. As in training, the end-of-text that ends a document is
    predicted from that document.
    """

    attention: ClassVar = {"attention": "within documents"}

    def windows(self, starts: list[int], n_tokens: int, context: int, stride: int) -> Iterator[Window]:
        """See ``Stream.windows``."""
        ends = [*(start + 1 for start in starts[1:]), n_tokens]
        for start, end in zip(starts, ends, strict=True):
            yield from (window.shifted(start) for window in sliding_windows(end - start, context, stride))


class HuggingFace(ScoringProtocol):
    """The page "Perplexity of fixed-length models" of transformers' documentation: rows joined by blank lines.

    Nothing stands before the text but what transformers' tokenizer puts there (Llama's <s>), so its first token is not
    scored; with a stride as long as the context neither is the first token of each window. The page weights each
    window's mean by one token less than it scores, here it is the plain mean over scored tokens: the same at a stride
    as long as the context, within 0.01 at half of it.
    """

    def plan(
        self, corpus: Corpus, tokenizer: Tokenizer, context: int, stride: int | None, detokenize: Callable[[str], str]
    ) -> ScoringPlan:
        """See ``ScoringProtocol.plan``; the text is taken as it is. Stride: half the context, as in the page's code.

        Raises:
            UserError: also for a text or a context of one token, which is not scored.
        """
        stride = max(1, context // 2) if stride is None else stride
        check_stride(stride, context)
        rows = ["\n\n".join(document.rows) for document in corpus.documents]
        prefix = [tokenizer.bos_id] if tokenizer.adds_bos else []
        ids_n, lengths_n = tokenizer.encode_with_lengths("\n\n".join(rows))
        tokens_n = np.concatenate([np.array(prefix, np.int64), ids_n])
        lengths_n = np.concatenate([np.zeros(len(prefix), np.int64), lengths_n])
        starts_D = _document_starts(lengths_n, rows, "\n\n")
        windows = Windows(page_windows(len(tokens_n), context, stride))
        if not windows:
            raise UserError(
                f"eval.protocol=huggingface: the first token of a window is not scored; the text has {len(tokens_n)}, "
                f"the context {context}; expected two or more; try eval.protocol=stream"
            )
        scored_bytes_n = np.append(0, np.cumsum(lengths_n * scored_tokens(len(tokens_n), windows)))
        return ScoringPlan(
            tokens_n,
            windows,
            starts_D,
            np.diff(scored_bytes_n[starts_D], append=scored_bytes_n[-1]),
            None,  # tokens are left out, so the sum is not over whole words
            {
                "stride": stride,
                "prefix": "begin token" if prefix else "none",
                "join": "blank line",
                "detokenizer": "none",
            },
        )


class LMEval(ScoringProtocol):
    """``loglikelihood_rolling`` of lm-evaluation-harness: each document by itself, from an end-of-text on.

    Windows are disjoint; each but the first has one token of context, the last reaches back to be full. The text is
    detokenized; its words and bytes are counted before.
    """

    def plan(
        self, corpus: Corpus, tokenizer: Tokenizer, context: int, stride: int | None, detokenize: Callable[[str], str]
    ) -> ScoringPlan:
        """See ``ScoringProtocol.plan``; there is no stride."""
        if stride not in (None, context):
            raise UserError(f"eval.stride={stride}: protocol lm_eval has windows of its own; leave eval.stride out")
        ids = [
            [tokenizer.bos_id, *tokenizer.encode_with_bos(detokenize(document.text))] for document in corpus.documents
        ]
        starts = np.cumsum([0, *map(len, ids)])
        windows = Windows(
            window.shifted(int(start))
            for start, document in zip(starts, ids, strict=False)
            for window in sliding_windows(len(document), context, context)
        )
        return ScoringPlan(
            np.concatenate(ids).astype(np.int64),
            windows,
            starts[:-1],
            np.array([len(document.content) for document in corpus.documents]),
            np.array([1 + sum(1 for _ in re.finditer(r"\s+", document.text)) for document in corpus.documents]),
            {
                "prefix": "end-of-text",
                "windows": "get_rolling_token_windows, context_len 1",
                "words_by": LM_EVAL_WORDS,
            },
        )


class GPT2Paper(ScoringProtocol):
    """Radford et al. 2019, section 3.1, as far as it is known: detokenized text, likelihood per word of the original.

    The whole corpus is one text after an end-of-text. exp(nll / words), where words are what white space divides before
    detokenizing, and each line end is one more, as in the papers that GPT-2 is compared with: Penn Treebank's test
    split has 82,430 words with its 3,761 line ends and 78,669 without. ``GPT2PaperWithoutLineEnds`` leaves them out.
    OpenAI published neither its detokenizers nor the stride; 32 is what Radford named later.
    """

    stride = 32
    words_by = LINE_ENDS

    def plan(
        self, corpus: Corpus, tokenizer: Tokenizer, context: int, stride: int | None, detokenize: Callable[[str], str]
    ) -> ScoringPlan:
        """See ``ScoringProtocol.plan``. Stride: 32, unless it is given."""
        stride = min(self.stride, context) if stride is None else stride
        check_stride(stride, context)
        texts = [detokenize(document.text) for document in corpus.documents]
        ids_n, lengths_n = tokenizer.encode_with_lengths(corpus.separator.join(texts))
        tokens_n = np.array([tokenizer.bos_id, *ids_n], dtype=np.int64)
        separator = len(corpus.separator.encode("utf-8"))
        bytes_D = np.array([len(document.content) + separator for document in corpus.documents])
        bytes_D[-1] -= separator
        return ScoringPlan(
            tokens_n,
            Windows(sliding_windows(len(tokens_n), context, stride)),
            _document_starts(np.append(0, lengths_n), texts, corpus.separator),
            bytes_D,
            words_by_document(corpus) + (line_ends_by_document(corpus) if self.words_by == LINE_ENDS else 0),
            {"stride": stride, "prefix": "end-of-text", "words_by": self.words_by},
        )


class GPT2PaperWithoutLineEnds(GPT2Paper):
    """``GPT2Paper``, but line ends are no words: for texts whose lines were wrapped, and for comparison."""

    words_by = WHITE_SPACE


PROTOCOLS: dict[str, type[ScoringProtocol]] = {
    "stream": Stream,
    "huggingface": HuggingFace,
    "lm_eval": LMEval,
    "gpt2_paper": GPT2Paper,
    "gpt2_paper_without_line_ends": GPT2PaperWithoutLineEnds,
}
WITHIN_DOCUMENTS: dict[str, type[ScoringProtocol]] = {"stream": StreamWithinDocuments}
"""in place of those of the same name, for models trained with ``data.document_masking``"""


def choose_protocol(name: str, source: StoredModel) -> ScoringProtocol:
    """The protocol ``eval.protocol=name`` for a model; an unknown name is a ``UserError``."""
    return choose(PROTOCOLS | (WITHIN_DOCUMENTS if source.document_masking else {}), name, "eval.protocol")()


def words_by_document(corpus: Corpus) -> Ids:
    """Number of words separated by white space, by document."""
    return np.array([document.count_words() for document in corpus.documents])


def line_ends_by_document(corpus: Corpus) -> Ids:
    """Lines by document; blank ones count, and so does a last one that is not ended."""
    return np.array([document.count_line_ends() for document in corpus.documents])


def _document_starts(lengths_n: Ids, texts: list[str], separator: str) -> Ids:
    """The first token of each document of the joined texts; a token is of the document in which it begins."""
    starts_D = np.cumsum([0, *(len((text + separator).encode("utf-8")) for text in texts[:-1])])
    first_D = np.searchsorted(np.cumsum(lengths_n) - lengths_n, starts_D)
    first_D[0] = 0
    return first_D
