"""How a model uses its context: loss by position, perplexity by length of context, and by where a window stands.

    validation text -> one stream -> blocks of targets, spread over it -> the same targets with ever more before them
                                                                     -> the same inputs at other positions
                                -> long windows, scored whole        -> loss by position

Documents stand in a row with end-of-text between them, as in training, so a long context reaches into earlier ones;
the results say for which share of the targets it does not.

Blocks of one document are not independent, so intervals are over documents. Ratios to the reference are several
comparisons, so their intervals hold together (Bonferroni).

Legend: W = windows, L = inputs of a window, S = scored targets of a window, B = windows of a batch, D = documents.
"""

import logging
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpt2lab.config import ContextConfig, UserError
from gpt2lab.evaluation.corpora.tokenized import TokenizedCorpus
from gpt2lab.evaluation.few_documents import warn_of_few_documents
from gpt2lab.evaluation.results import PartResult, TableRow
from gpt2lab.evaluation.scoring import bounded_exp, describe_precision, score_tokens
from gpt2lab.evaluation.text_model import TextModel
from gpt2lab.evaluation.windows import Window
from gpt2lab.statistics.intervals import Interval, describe_document_interval, ratio_jackknife_interval

log = logging.getLogger(__name__)

BINS_OF_DOUBLING = 2
"""positions are put together to so many bins from any number of tokens to twice as many"""


class BlockScores(NamedTuple):
    """Nats of the scored targets of some windows, [W, S], and the document that each target is of."""

    nll_WS: NDArray[np.float32]
    document_WS: NDArray[np.int64]

    def interval(self, values_WS: NDArray[np.floating], confidence: float = 0.95) -> Interval | None:
        """Of the mean of values of these targets, over documents; None where all are of one document."""
        _, number_N = np.unique(self.document_WS, return_inverse=True)
        sums_D = np.bincount(number_N.ravel(), values_WS.ravel()).astype(np.float64)
        return ratio_jackknife_interval(sums_D, np.bincount(number_N.ravel()), confidence)


@dataclass(frozen=True)
class BlockMetrics:
    """Perplexity of the blocks, and how it compares with the reference's on the same targets."""

    loss: float
    token_perplexity: float
    interval: Interval | None
    ratio: float
    """of the perplexity to the reference's"""
    ratio_interval: Interval | None


@dataclass(frozen=True)
class ContextLengthMetrics(BlockMetrics):
    """The same for one length of context."""

    share_within_document: float
    """of the windows that reach into no earlier document"""


@dataclass(frozen=True)
class PositionBin:
    """The loss at positions ``first`` to ``last``."""

    first: int
    last: int
    loss: float
    interval: Interval | None


@dataclass(frozen=True)
class ContextMetrics:
    """The metrics of the part ``context``."""

    trained_context: int
    reference_context: int
    positions: str
    """name of the variant"""
    ends_at: int | None
    """number of positions that the model has; None: no limit"""
    by_context: dict[int, ContextLengthMetrics]
    by_position: list[PositionBin]
    by_offset: dict[int, BlockMetrics]

    def to_dict(self) -> dict[str, Any]:
        """Return the metrics by the names of ``eval.json``, where numbers that are keys are texts."""
        values = asdict(self)
        for name in ("by_context", "by_offset"):
            values[name] = {str(length): metrics for length, metrics in values[name].items()}
        return values


def evaluate_context(loaded: TextModel, config: ContextConfig, corpus: TokenizedCorpus) -> PartResult:
    """Loss by position, perplexity by context, and perplexity at shifted positions; errors as in ``check_context``."""
    trained, limit = loaded.source.context, loaded.model.positions.max_length
    positions = loaded.model.config.positions.name
    check_context(loaded, config, corpus)
    asked, contexts = _contexts(loaded, config)
    longest = max(contexts)
    if longest < asked[-1]:
        reason = f"model.positions={positions} ends at {limit}" if longest == limit else "eval.context.max_tokens"
        log.info("contexts above %d tokens are left out: %s", longest, reason)

    if asked[0] < config.block_tokens:
        log.info("contexts below eval.context.block_tokens=%d tokens are left out", config.block_tokens)

    tokens_n = corpus.stream(loaded.tokenizer)
    ends_W = _block_ends(len(tokens_n), longest, config)
    document_n = corpus.document_numbers()
    blocks_WS = _targets(document_n, ends_W, config.block_tokens)
    documents = len(np.unique(blocks_WS))
    warn_of_few_documents(documents, "context")

    def score_blocks(length: int, offset: int = 0) -> BlockScores:
        nll_WS = _nll(loaded, config, tokens_n, ends_W, length, config.block_tokens, offset=offset)
        return BlockScores(nll_WS, blocks_WS)

    by_context = {length: score_blocks(length) for length in contexts}
    reference = min(trained, longest)
    width = max(config.block_tokens, reference // 2)
    asked_offsets = sorted({round(offset * trained) for offset in config.offsets} | {0})
    offsets = [offset for offset in asked_offsets if limit is None or offset + width <= limit]
    if offsets != asked_offsets:
        reason = f"model.positions={positions} ends at {limit}"
        log.info("windows of %d tokens that begin above position %d are left out: %s", width, offsets[-1], reason)
    by_offset = {offset: score_blocks(width, offset) for offset in offsets}
    n_windows = min(config.position_windows, (len(tokens_n) - 1) // longest)
    window_ends_W = np.linspace(longest + 1, len(tokens_n), n_windows).astype(np.int64)
    by_position = BlockScores(
        _nll(loaded, config, tokens_n, window_ends_W, longest, longest, offset=0),
        _targets(document_n, window_ends_W, longest),
    )

    metrics = ContextMetrics(
        trained_context=trained,
        reference_context=reference,
        positions=positions,
        ends_at=limit,
        by_context={
            length: ContextLengthMetrics(
                **vars(_summary(scores, by_context[reference], _joint_confidence(by_context))),
                share_within_document=_share_within_document(tokens_n, ends_W, length, loaded.tokenizer.eot_id),
            )
            for length, scores in by_context.items()
        },
        by_position=[_bin(by_position, first, last) for first, last in _bins(longest, trained)],
        by_offset={
            offset: _summary(scores, by_offset[0], _joint_confidence(by_offset)) for offset, scores in by_offset.items()
        },
    )
    protocol = {
        **corpus.description,
        "tokenizer": loaded.tokenizer.name,
        "scored_tokens": len(ends_W) * config.block_tokens,
        "blocks": len(ends_W),
        "block_tokens": config.block_tokens,
        "shifted_window": width,
        "position_windows": n_windows,
        "left_out": [length for length in asked if length not in contexts],
        "left_out_offsets": [offset for offset in asked_offsets if offset not in offsets],
        "documents": documents,
        "interval": describe_document_interval(documents),
        "ratio_interval": f"of paired documents; those of {len(by_context) - 1} contexts hold together (Bonferroni), "
        f"and those of {len(by_offset) - 1} offsets",
        "precision": describe_precision(loaded.runtime),
    }
    title = f"Use of context: trained on {trained} tokens, positions {positions}"
    return PartResult(title, metrics, _rows(metrics), protocol)


def _contexts(loaded: TextModel, config: ContextConfig) -> tuple[list[int], list[int]]:
    """Lengths that are asked for, and those of them that the model and the settings allow."""
    trained, limit = loaded.source.context, loaded.model.positions.max_length
    asked = sorted({max(1, round(length * trained)) for length in config.lengths} | {trained})
    return asked, [
        length for length in asked if config.block_tokens <= length <= min(config.max_tokens, limit or length)
    ]


def check_context(loaded: TextModel, config: ContextConfig, corpus: TokenizedCorpus) -> None:
    """Check the settings against model and text.

    Raises:
        UserError: the text is shorter than the longest context, or a context than the stretch that is scored, or its
            contexts would hold several documents, which a model trained with ``data.document_masking`` never read.
    """
    if loaded.source.document_masking and len(corpus.documents) > 1:
        raise UserError(
            f"eval.parts=[context]: {loaded.source.describe()} was trained with data.document_masking=true, and long "
            f"contexts would reach into others of the {len(corpus.documents)} documents; expected a text of one "
            "document; name one, eval.text_file=FILE, or leave context out of eval.parts"
        )
    _, contexts = _contexts(loaded, config)
    n_tokens = len(corpus.document_numbers())
    if min(loaded.source.context, max(contexts, default=0)) not in contexts:
        raise UserError(
            f"eval.context.block_tokens={config.block_tokens}: expected no more tokens than the trained context has; "
            f"lower it, or raise eval.context.max_tokens={config.max_tokens}"
        )
    if n_tokens <= contexts[-1]:
        raise UserError(
            f"the validation text has {n_tokens} tokens, the longest context needs {contexts[-1] + 1}: name a longer "
            f"text, eval.text_file=FILE, or type eval.context.max_tokens={max(n_tokens - 1, 1)}"
        )


def _block_ends(n_tokens: int, longest: int, config: ContextConfig) -> NDArray[np.int64]:
    """One past the last target of each block, [W]: as many as fit without a token being scored twice."""
    n_blocks = min(config.num_blocks, (n_tokens - longest - 1) // config.block_tokens + 1)
    return np.linspace(longest + 1, n_tokens, n_blocks).astype(np.int64)


def _nll(
    loaded: TextModel,
    config: ContextConfig,
    tokens_n: NDArray[np.int64],
    ends_W: NDArray[np.int64],
    length: int,
    scored: int,
    *,
    offset: int,
) -> NDArray[np.float32]:
    """Nats of the last ``scored`` targets of windows of ``length`` inputs that begin at position ``offset``, [W, S]."""
    windows = [Window(int(end) - 1 - length, int(end), int(end) - scored) for end in ends_W]
    rows = max(1, config.batch_size * loaded.source.context // length)  # fewer windows per batch where they are longer
    nll_n = score_tokens(
        loaded.model, tokens_n, windows, loaded.runtime, rows, first_position=offset, world=loaded.world
    )
    return np.stack([nll_n[window.first_scored : window.end] for window in windows])


def _targets(document_n: NDArray[np.int64], ends_W: NDArray[np.int64], scored: int) -> NDArray[np.int64]:
    """The document of each of the last ``scored`` targets of windows that end there, [W, S]."""
    return document_n[ends_W[:, None] + np.arange(-scored, 0)]


def _summary(scores: BlockScores, reference: BlockScores, confidence: float) -> BlockMetrics:
    difference_WS = scores.nll_WS.astype(np.float64) - reference.nll_WS
    loss = float(scores.nll_WS.mean(dtype=np.float64))
    return BlockMetrics(
        loss=loss,
        token_perplexity=bounded_exp(loss),
        interval=_exp(scores.interval(scores.nll_WS)),
        ratio=bounded_exp(float(difference_WS.mean())),
        ratio_interval=_exp(scores.interval(difference_WS, confidence)),
    )


def _joint_confidence(scores: dict[int, BlockScores]) -> float:
    """Of the interval of each ratio to the reference, so that all of them hold together with 95 % (Bonferroni)."""
    return 1 - 0.05 / max(1, len(scores) - 1)


def _exp(bounds: Interval | None) -> Interval | None:
    return None if bounds is None else (bounded_exp(bounds[0]), bounded_exp(bounds[1]))


def _bins(longest: int, trained: int) -> list[tuple[int, int]]:
    """First and last position of each bin; none holds positions within the trained context and beyond it."""
    doublings = np.arange(0, np.log2(longest) + 1, 1 / BINS_OF_DOUBLING)
    edges = sorted({0, *np.rint(2**doublings).astype(int).tolist(), trained, longest})
    return [(first, end - 1) for first, end in pairwise(edges) if end <= longest]


def _bin(scores: BlockScores, first: int, last: int) -> PositionBin:
    part = BlockScores(scores.nll_WS[:, first : last + 1], scores.document_WS[:, first : last + 1])
    loss = float(part.nll_WS.mean(dtype=np.float64))
    return PositionBin(first, last, loss, part.interval(part.nll_WS))


def _share_within_document(tokens_n: NDArray[np.int64], ends_W: NDArray[np.int64], length: int, eot_id: int) -> float:
    """Share of the windows whose inputs have no end-of-text after the first, so that they are of one document."""
    return float(np.mean([not np.any(tokens_n[end - length : end - 1] == eot_id) for end in ends_W]))


def _rows(metrics: ContextMetrics) -> list[TableRow]:
    rows = [
        TableRow(f"token perplexity, {length} tokens of context", scores.token_perplexity, scores.interval)
        for length, scores in metrics.by_context.items()
    ]
    rows += [
        TableRow(f"  relative to {metrics.reference_context} tokens: {length}", scores.ratio, scores.ratio_interval)
        for length, scores in metrics.by_context.items()
        if length != metrics.reference_context
    ]
    rows += [
        TableRow(f"relative perplexity of windows that begin at position {offset}", scores.ratio, scores.ratio_interval)
        for offset, scores in metrics.by_offset.items()
        if offset != 0
    ]
    return rows
