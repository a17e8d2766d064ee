"""What a model makes of its context: loss by position, perplexity by length of context, and by where a window stands.

    held-out text -> one stream -> blocks of targets, spread over it -> the same targets with more and more before them
                                                                     -> the same inputs at other positions
                                -> long windows, scored whole        -> loss by position

Documents stand in a row with end-of-text between them, as in training, so a long context reaches into earlier ones;
the figures say for which share of the targets it does not.

Legend: W = windows, L = inputs of a window, S = scored targets of a window, B = windows of a batch.
"""

import logging
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gpt2lab.config import ContextConfig, UserError
from gpt2lab.evaluation.corpora.tokenized import HeldOut
from gpt2lab.evaluation.loaded_model import Subject
from gpt2lab.evaluation.results import Row, Section
from gpt2lab.evaluation.scoring import bounded_exp
from gpt2lab.model import evaluation_mode
from gpt2lab.model.layout import contiguous
from gpt2lab.statistics.intervals import mean_interval

log = logging.getLogger(__name__)

BINS_OF_DOUBLING = 2
"""positions are put together to so many bins from any number of tokens to twice as many"""


def context_section(subject: Subject, config: ContextConfig, held_out: HeldOut) -> Section:
    """Loss by position, perplexity by context, and perplexity at shifted positions.

    Raises:
        UserError: the text is shorter than the longest context, or a context than the stretch that is scored.
    """
    trained, limit = subject.source.context, subject.model.positions.max_length
    positions = subject.model.config.positions.name
    asked = sorted({max(1, round(length * trained)) for length in config.lengths} | {trained})
    contexts = [length for length in asked if length <= min(config.max_tokens, limit or length)]
    longest = max(contexts, default=0)
    tokens_n = held_out.stream(subject.tokenizer)
    _check_room(config, contexts, len(tokens_n))
    if longest < asked[-1]:
        reason = f"model.positions={positions} ends at {limit}" if longest == limit else "eval.context.max_tokens"
        log.info("contexts above %d tokens are left out: %s", longest, reason)

    ends_W = _block_ends(len(tokens_n), longest, config)
    by_context = {
        length: _nll(subject, config, tokens_n, ends_W, length, config.block_tokens, offset=0) for length in contexts
    }
    reference = min(trained, longest)
    width = max(config.block_tokens, reference // 2)
    offsets = sorted({round(offset * trained) for offset in config.offsets} | {0})
    by_offset = {
        offset: _nll(subject, config, tokens_n, ends_W, width, config.block_tokens, offset=offset)
        for offset in offsets
        if limit is None or offset + width <= limit
    }
    n_windows = min(config.position_windows, (len(tokens_n) - 1) // longest)
    window_ends_W = np.linspace(longest + 1, len(tokens_n), n_windows).astype(np.int64)
    by_position_WL = _nll(subject, config, tokens_n, window_ends_W, longest, longest, offset=0)

    figures: dict[str, Any] = {
        "trained_context": trained,
        "reference_context": reference,
        "positions": positions,
        "ends_at": limit,
        "by_context": {
            str(length): {
                **_summary(nll_WS, by_context[reference]),
                "share_within_document": _share_within_document(tokens_n, ends_W, length, subject.tokenizer.eot_id),
            }
            for length, nll_WS in by_context.items()
        },
        "by_position": [_bin(by_position_WL, first, last) for first, last in _bins(longest, trained)],
        "by_offset": {str(offset): _summary(nll_WS, by_offset[0]) for offset, nll_WS in by_offset.items()},
        "protocol": {
            **held_out.description,
            "tokenizer": subject.tokenizer.name,
            "scored_tokens": len(ends_W) * config.block_tokens,
            "blocks": len(ends_W),
            "block_tokens": config.block_tokens,
            "shifted_window": width,
            "position_windows": n_windows,
            "left_out": [length for length in asked if length not in contexts],
            "interval": "95 %, mean of blocks (windows for by_position), normal; ratios are of paired blocks",
            "precision": subject.runtime.precision,
        },
    }
    return Section(figures, _rows(figures))


def _check_room(config: ContextConfig, contexts: list[int], n_tokens: int) -> None:
    if not contexts or contexts[0] < config.block_tokens:
        shortest = contexts[0] if contexts else 0
        raise UserError(
            f"eval.context.block_tokens={config.block_tokens}: the shortest context has {shortest} tokens; lower "
            f"eval.context.block_tokens, or raise eval.context.max_tokens={config.max_tokens} or eval.context.lengths"
        )
    if n_tokens <= contexts[-1]:
        raise UserError(
            f"the held-out text has {n_tokens} tokens, the longest context needs {contexts[-1] + 1}: name a longer "
            f"text, eval.text_file=FILE, or type eval.context.max_tokens={max(n_tokens - 1, 1)}"
        )


def _block_ends(n_tokens: int, longest: int, config: ContextConfig) -> NDArray[np.int64]:
    """One past the last target of each block, [W]: as many as fit without a token being scored twice."""
    n_blocks = min(config.num_blocks, (n_tokens - longest - 1) // config.block_tokens + 1)
    return np.linspace(longest + 1, n_tokens, n_blocks).astype(np.int64)


@torch.inference_mode()
def _nll(
    subject: Subject,
    config: ContextConfig,
    tokens_n: NDArray[np.int64],
    ends_W: NDArray[np.int64],
    length: int,
    scored: int,
    *,
    offset: int,
) -> NDArray[np.float32]:
    """Nats of the last ``scored`` targets of windows of ``length`` inputs whose first stands at ``offset``, [W, S]."""
    model, device = subject.model, subject.runtime.device
    layout = contiguous(offset, length, device)
    rows = max(1, config.batch_size * subject.source.context // length)  # longer windows, fewer of them
    parts = []
    with evaluation_mode(model), subject.runtime.autocast():
        for first in range(0, len(ends_W), rows):
            windows = [tokens_n[end - 1 - length : end] for end in ends_W[first : first + rows]]
            tokens_BL = torch.from_numpy(np.stack(windows)).to(device)
            hidden_BSC = model.hidden(tokens_BL[:, :-1], layout=layout)[:, -scored:]
            targets_BS = tokens_BL[:, -scored:]
            parts.append(model.nll(hidden_BSC, targets_BS).cpu().numpy())
    return np.concatenate(parts)


def _summary(nll_WS: NDArray[np.float32], reference_WS: NDArray[np.float32]) -> dict[str, Any]:
    """Perplexity of the blocks, and how it compares with the reference's on the same targets."""
    loss_W, reference_W = (nll.mean(axis=1, dtype=np.float64) for nll in (nll_WS, reference_WS))
    return {
        "loss": float(loss_W.mean()),
        "token_perplexity": bounded_exp(float(loss_W.mean())),
        "interval": _exp_interval(loss_W),
        "ratio": bounded_exp(float((loss_W - reference_W).mean())),
        "ratio_interval": _exp_interval(loss_W - reference_W),
    }


def _exp_interval(loss_W: NDArray[np.float64]) -> tuple[float, float] | None:
    bounds = mean_interval(loss_W)
    return None if bounds is None else (bounded_exp(bounds[0]), bounded_exp(bounds[1]))


def _bins(longest: int, trained: int) -> list[tuple[int, int]]:
    """First and last position of each bin; none holds positions within the trained context and beyond it."""
    doublings = np.arange(0, np.log2(longest) + 1, 1 / BINS_OF_DOUBLING)
    edges = sorted({0, *np.rint(2**doublings).astype(int).tolist(), trained, longest})
    return [(first, end - 1) for first, end in pairwise(edges) if end <= longest]


def _bin(nll_WL: NDArray[np.float32], first: int, last: int) -> dict[str, Any]:
    loss_W = nll_WL[:, first : last + 1].mean(axis=1, dtype=np.float64)
    return {"first": first, "last": last, "loss": float(loss_W.mean()), "interval": mean_interval(loss_W)}


def _share_within_document(tokens_n: NDArray[np.int64], ends_W: NDArray[np.int64], length: int, eot_id: int) -> float:
    """Share of the windows whose inputs have no end-of-text after the first, so that they are of one document."""
    return float(np.mean([not np.any(tokens_n[end - length : end - 1] == eot_id) for end in ends_W]))


def _rows(figures: dict[str, Any]) -> list[Row]:
    by_context, by_offset = figures["by_context"].items(), figures["by_offset"].items()
    rows = [
        Row(f"context {length}: token_perplexity", s["token_perplexity"], s["interval"]) for length, s in by_context
    ]
    rows += [
        Row(f"context {length}: ratio to {figures['reference_context']}", s["ratio"], s["ratio_interval"])
        for length, s in by_context
        if int(length) != figures["reference_context"]
    ]
    rows += [
        Row(f"first position {offset}: ratio to position 0", s["ratio"], s["ratio_interval"])
        for offset, s in by_offset
        if offset != "0"
    ]
    return rows
