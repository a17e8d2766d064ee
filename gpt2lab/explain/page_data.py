"""An ``Explanation`` as the JSON that the page's script reads.

Legend: L = n_layer, T = tokens, C = n_embd, H = heads, K = key-value heads, D = head_dim, V = vocab_size.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpt2lab.explain.explanation import Explanation, NextToken
from gpt2lab.explain.packing import pack_floats, pack_rows
from gpt2lab.explain.token_text import label, token_texts
from gpt2lab.model.positions import Rope

VECTOR_BITS = 7_200_000
"""space for all queries, keys and values: with GPT-2 small and 32 tokens the page stays below 2 MB"""
SCORE_BITS = 16
STRIP_BITS = 8
EMBEDDING_CHANNELS, NORM_CHANNELS = 48, 24
"""first channels of a vector that are drawn"""
NAMED_LOGITS = 256
"""most likely tokens that are stored by name; the others are stored in groups of nearly equal logits"""
TAIL_GROUPS = 256
CANDIDATES = 5
"""tokens whose contributions are shown"""
PAIRS = 6
"""pairs of channels whose rotation is drawn"""


def page_data(explanation: Explanation) -> dict[str, Any]:
    """All numbers of the page."""
    trace, config = explanation.trace, explanation.model.config
    return {
        "tokens": token_texts(explanation.tokenizer, trace.ids_T.tolist()),
        "layers": config.n_layer,
        "heads": config.n_head,
        "kvHeads": config.kv_heads,
        "headDim": config.head_dim,
        "vocabulary": config.vocab_size,
        "positions": _positions(explanation),
        "embedding": {
            "token": _strip(trace.token_TC, EMBEDDING_CHANNELS),
            "position": _strip(trace.position_TC, EMBEDDING_CHANNELS),
            "sum": _strip(trace.embedding_TC, EMBEDDING_CHANNELS),
        },
        "attention": _attention(explanation),
        "norms": _norms(explanation),
        "units": [
            [
                [[unit.index, _short(unit.value), _labels(explanation, unit.promoted)] for unit in units]
                for units in tokens
            ]
            for tokens in explanation.units
        ],
        "stream": _stream(explanation),
        "lens": _lens(explanation),
        "contributions": _contributions(explanation),
        "steps": [_step(explanation, step) for step in explanation.steps],
        "decoding": {
            "temperature": explanation.decoding.temperature,
            "topK": explanation.decoding.top_k,
            "topP": explanation.decoding.top_p,
        },
    }


def _short(value: float) -> float:
    """Four significant digits."""
    return float(f"{value:.4g}")


def _labels(explanation: Explanation, ids: Any) -> list[str]:
    return [label(explanation.tokenizer.decode_bytes([token])) for token in ids]


def _strip(x_TC: Tensor, channels: int) -> dict[str, Any]:
    return pack_rows(x_TC[:, :channels].double().numpy(), STRIP_BITS)


def _positions(explanation: Explanation) -> dict[str, Any]:
    """What the position scheme does, read off the scheme itself; only of Rope's own tables is known what they hold."""
    scheme, T = explanation.model.positions, len(explanation.trace.ids_T)
    pos_BT = torch.arange(T)[None]
    angles: list[list[float]] = []
    pairs: list[int] = []
    if type(scheme).tables is Rope.tables:
        cos_TR, sin_TR = (table[0, 0] for table in scheme.tables(pos_BT))
        pairs = torch.linspace(0, cos_TR.shape[1] - 1, min(PAIRS, cos_TR.shape[1])).long().tolist()
        angles = [[_short(a) for a in torch.atan2(sin_TR[:, r], cos_TR[:, r]).tolist()] for r in pairs]
    bias_BHTT = scheme.bias(pos_BT, pos_BT)
    return {
        "added": bool(explanation.trace.position_TC.any()),
        "angles": angles,
        "pairs": [r + 1 for r in pairs],
        "bias": [] if bias_BHTT is None else [[_short(b) for b in row] for row in bias_BHTT[0, :, -1].tolist()],
    }


def _attention(explanation: Explanation) -> dict[str, Any]:
    """Scores up to the diagonal, [L, H, T (T + 1) / 2]; queries, keys and values with as many bits as there is room."""
    blocks = explanation.trace.blocks
    T = len(explanation.trace.ids_T)
    rows, columns = np.tril_indices(T)
    scores = torch.stack([block.scores_HTT for block in blocks]).double().numpy()[:, :, rows, columns]
    vectors = {
        "q": torch.stack([block.q_HTD for block in blocks]),
        "k": torch.stack([block.k_KTD for block in blocks]),
        "v": torch.stack([block.v_KTD for block in blocks]),
    }
    bits = VECTOR_BITS // sum(x.numel() for x in vectors.values())
    bits = min(max(bits, 8), 16)
    return {"scores": pack_rows(scores, SCORE_BITS)} | {
        name: pack_rows(x.double().numpy(), bits) for name, x in vectors.items()
    }


def _norms(explanation: Explanation) -> dict[str, Any]:
    """Before and after each of a block's two norms, and the final one: [2 L + 1, 2, T, ...]."""
    trace = explanation.trace
    pairs = [
        pair
        for block in trace.blocks
        for pair in ((block.input_TC, block.norm_1_TC), (block.middle_TC, block.norm_2_TC))
    ] + [(trace.blocks[-1].output_TC, trace.final_TC)]
    both = torch.stack([torch.stack(pair) for pair in pairs]).double()
    statistics = torch.stack([both.mean(dim=-1), both.std(dim=-1, correction=0)], dim=-1)
    return {
        "strips": pack_rows(both[..., :NORM_CHANNELS].numpy(), STRIP_BITS),
        "statistics": pack_floats(statistics.numpy()),
    }


def _stream(explanation: Explanation) -> dict[str, Any]:
    """Lengths of the stream and of what is added to it, one list of T per block."""

    def lengths(x_TC: Tensor) -> list[float]:
        return [_short(value) for value in x_TC.norm(dim=-1).tolist()]

    blocks = explanation.trace.blocks
    return {
        "embedding": lengths(explanation.trace.embedding_TC),
        "attention": [lengths(block.attention_TC) for block in blocks],
        "middle": [lengths(block.middle_TC) for block in blocks],
        "mlp": [lengths(block.mlp_TC) for block in blocks],
        "output": [lengths(block.output_TC) for block in blocks],
    }


def _lens(explanation: Explanation) -> dict[str, Any]:
    lens = explanation.lens
    names = {token: label(explanation.tokenizer.decode_bytes([token])) for token in lens.ids_LTN.unique().tolist()}
    return {
        "names": names,
        "ids": lens.ids_LTN.tolist(),
        "probs": [[[_short(p) for p in row] for row in rows] for rows in lens.probs_LTN.tolist()],
        "ranks": lens.rank_LT.tolist(),
    }


def _contributions(explanation: Explanation) -> dict[str, Any]:
    split = explanation.contributions
    likely = explanation.steps[0].logits_V.topk(min(CANDIDATES, explanation.model.config.vocab_size)).indices.tolist()
    ids = [explanation.steps[0].token, *(token for token in likely if token != explanation.steps[0].token)]
    logits_V = explanation.trace.logits_TV[-1].double()
    return {
        "tokens": _labels(explanation, ids),
        "parts": [[str(part), part.kind, part.block, part.head] for part in split.parts],
        "values": [[_short(value) for value in split.centered_NV[:, token].tolist()] for token in ids],
        "sums": [round(float(split.logits_NV[:, token].sum()), 5) for token in ids],
        "logits": [round(float(logits_V[token]), 5) for token in ids],
        "means": round(float(logits_V.mean()), 5),
    }


def _step(explanation: Explanation, step: NextToken) -> dict[str, Any]:
    """Logits from the largest down; equal ones in the order of their ids, as ``keep_top_p`` takes them."""
    order = torch.sort(step.logits_V, descending=True, stable=True)
    ids, logits = order.indices.tolist(), order.values.double().numpy()
    named = min(NAMED_LOGITS, len(ids))
    groups: list[NDArray[np.float64]] = (
        np.array_split(logits[named:], min(TAIL_GROUPS, len(ids) - named)) if len(ids) > named else []
    )
    # the mean of exp is what a group adds to the softmax's sum; at other temperatures the difference is of second order
    means = [float(np.log(np.exp(group - group[0]).mean()) + group[0]) for group in groups]
    return {
        "labels": _labels(explanation, ids[:named]),
        "ids": ids[:named],
        "logits": pack_floats(np.array([*logits[:named], *means])),
        "tail": [len(group) for group in groups],
        "token": label(explanation.tokenizer.decode_bytes([step.token])),
        "tokenId": step.token,
        "rank": ids.index(step.token) + 1,
    }
