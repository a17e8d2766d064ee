"""The page's pictures as PNG, for papers: attention maps of every block, logit lens, residual norms."""

from pathlib import Path

from matplotlib.figure import Figure

from gpt2lab.explain.explanation import Explanation
from gpt2lab.explain.token_text import label, token_texts
from gpt2lab.files import save_figure

DPI = 200
LONGEST = 9
"""characters of a token in a cell of the logit lens"""


def write_explanation_plots(explanation: Explanation, page: Path) -> list[Path]:
    """Write ``NAME.attention_BLOCK.png`` for each block, ``NAME.logit_lens.png`` and ``NAME.residual_norms.png``."""
    trace = explanation.trace
    names = [_plain(text.label) for text in token_texts(explanation.tokenizer, trace.ids_T.tolist())]
    figures = {f"attention_{i + 1:02d}": _attention(explanation, i, names) for i in range(len(trace.blocks))}
    figures |= {"logit_lens": _lens(explanation, names), "residual_norms": _residual(explanation, names)}
    return [save_figure(figure, page.with_suffix(f".{name}.png"), dpi=DPI) for name, figure in figures.items()]


def _plain(text: str) -> str:
    """Text that matplotlib does not read as mathematics."""
    return text.replace("$", r"\$")


def _attention(explanation: Explanation, i: int, names: list[str]) -> Figure:
    weights_HTT = explanation.trace.blocks[i].weights_HTT
    columns = min(4, len(weights_HTT))
    rows = -(-len(weights_HTT) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.8 * rows), layout="constrained")
    for head, weights_TT in enumerate(weights_HTT):
        axes = figure.add_subplot(rows, columns, head + 1)
        axes.imshow(weights_TT.numpy(), cmap="Blues", vmin=0, vmax=1)
        axes.set_title(f"block {i + 1}, head {head + 1}", fontsize=9)
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=6)
        axes.set_yticks(range(len(names)), names, fontsize=6)
    return figure


def _lens(explanation: Explanation, names: list[str]) -> Figure:
    lens = explanation.lens
    L, T = lens.rank_LT.shape
    figure = Figure(figsize=(1.5 + 0.75 * T, max(3.0, 1.2 + 0.36 * L)), layout="constrained")
    axes = figure.add_subplot()
    probs_LT = lens.probs_LTN[..., 0]
    image = axes.imshow(probs_LT.numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto", origin="lower")
    for level in range(L):
        for t in range(T):
            text = _plain(label(explanation.tokenizer.decode_bytes([int(lens.ids_LTN[level, t, 0])])))
            color = "white" if probs_LT[level, t] > 0.6 else "black"
            axes.text(
                t,
                level,
                text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…",
                ha="center",
                va="center",
                fontsize=7,
                color=color,
            )
    axes.set_xticks(range(T), names, rotation=60, fontsize=8)
    axes.set_yticks(range(L), ["embedding", *(f"block {i}" for i in range(1, L))], fontsize=8)
    figure.colorbar(image, label="probability of the most likely token")
    return figure


def _residual(explanation: Explanation, names: list[str]) -> Figure:
    norms_LT = explanation.trace.residual_LTC.norm(dim=-1)
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(norms_LT.numpy(), linewidth=1.2)
    axes.set_xlabel("block (0: embedding)")
    axes.set_ylabel("length of the residual stream")
    axes.set_yscale("log")
    axes.grid(alpha=0.3)
    if len(names) <= 12:
        axes.legend([f"{t}: {name}" for t, name in enumerate(names)], fontsize=8)
    return figure
