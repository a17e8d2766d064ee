"""Sampling quality: held-out text -> prompts -> a sample for each, under each decoding setting -> figures.

Beside every setting stand the figures of what humans wrote after the same prompts. Sample and human text of a prompt
are both cut to the shorter of the two first, so that numbers and lengths of the texts are equal.
"""

import json
import logging
from typing import Any

from gpt2lab.config import DecodingConfig, SampleQualityConfig, SamplingConfig
from gpt2lab.evaluation.corpora.tokenized import HeldOut
from gpt2lab.evaluation.loaded_model import Subject
from gpt2lab.evaluation.results import Row, Section
from gpt2lab.evaluation.sample_quality.mauve import PAPER_TEXTS, mauve_figures, require_mauve
from gpt2lab.evaluation.sample_quality.metrics import BLEU_ORDER, Continuations, figures_of
from gpt2lab.evaluation.sample_quality.prompts import Prompts, choose_prompts
from gpt2lab.evaluation.sample_quality.scorer import Scorer, open_scorer
from gpt2lab.generation import generate
from gpt2lab.runtime import stream_seed
from gpt2lab.statistics.resampling import draw_weights

log = logging.getLogger(__name__)

TABLE = ("perplexity", "rep_4", "distinct_2", f"self_bleu_{BLEU_ORDER}", "zipf", "longest_loop", "share_ended")
IN_ROWS = ("perplexity", f"self_bleu_{BLEU_ORDER}")


def sampling_section(subject: Subject, config: SampleQualityConfig, held_out: HeldOut) -> Section:
    """Figures of samples, and of human text, for each of ``config.decoding``.

    Raises:
        UserError: too little held-out text, a scorer with another tokenizer or too short a context, no mauve-text.
    """
    if config.mauve_seeds:
        require_mauve()
        if config.num_prompts < PAPER_TEXTS:
            log.warning(
                "MAUVE of %d texts a side says little, and can be high for very unlike ones: the paper has %d",
                config.num_prompts, PAPER_TEXTS,
            )  # fmt: skip
    scorer = open_scorer(config.scorer, subject, config.batch_size)
    scorer.require_room(config.prompt_tokens + config.new_tokens)
    prompts = choose_prompts(held_out.documents, config)
    human = _scored(scorer, prompts, prompts.human, config)
    weights_RS = draw_weights(len(prompts.human), config.resamples, stream_seed("bootstrap", config.seed))

    texts = _as_lines("human", subject, prompts, human)
    settings: dict[str, Any] = {}
    for decoding in config.decoding:
        log.info("sampling with %s", decoding.label)
        samples = generate(
            subject.model, prompts.prompts, _sampling(decoding, config),
            eot_id=subject.tokenizer.eot_id, runtime=subject.runtime,
        )  # fmt: skip
        drawn = _scored(scorer, prompts, samples, config)
        texts += _as_lines(decoding.label, subject, prompts, drawn)
        lengths = [min(len(ours), len(theirs)) for ours, theirs in zip(drawn.texts, human.texts, strict=True)]
        pair = {"samples": drawn.cut(lengths), "human_of_equal_lengths": human.cut(lengths)}
        settings[decoding.label] = {name: figures_of(side, weights_RS) for name, side in pair.items()}
        if config.mauve_seeds:
            states = {name: scorer.last_states(prompts.prompts, side.texts) for name, side in pair.items()}
            settings[decoding.label]["mauve"] = mauve_figures(
                states["human_of_equal_lengths"], states["samples"], config.mauve_seeds
            )
    figures = {
        "settings": settings,
        "human": figures_of(human, weights_RS),
        "protocol": _protocol(config, scorer, subject, held_out),
    }
    table = as_markdown(figures)
    log.info("\n%s", table)
    return Section(figures, _rows(figures), {"eval_samples.jsonl": texts, "sampling.md": table})


def as_markdown(figures: dict[str, Any]) -> str:
    """The main figures, a line a setting; in brackets those of human text cut to the same lengths."""
    has_mauve = any("mauve" in pair for pair in figures["settings"].values())
    columns = (*TABLE, "mauve") if has_mauve else TABLE
    lines = [["decoding (human)", *columns], ["---", *("--:" for _ in columns)]]
    for label, pair in figures["settings"].items():
        ours, theirs = pair["samples"], pair["human_of_equal_lengths"]
        cells = [f"{_number(ours[name])} ({_number(theirs[name])})" for name in TABLE]
        lines.append([label, *cells, *([_number(pair["mauve"]["mauve"])] if has_mauve else [])])
    lines.append(["human", *(_number(figures["human"][name]) for name in TABLE), *([""] if has_mauve else [])])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    cells_of = (" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    return "".join(f"| {cells} |\n" for cells in cells_of)


def _sampling(decoding: DecodingConfig, config: SampleQualityConfig) -> SamplingConfig:
    return SamplingConfig(
        temperature=decoding.temperature, top_k=decoding.top_k, top_p=decoding.top_p,
        max_new_tokens=config.new_tokens, batch_size=config.batch_size, seed=config.seed,
    )  # fmt: skip


def _scored(scorer: Scorer, prompts: Prompts, texts: list[list[int]], config: SampleQualityConfig) -> Continuations:
    nll = scorer.token_nll(prompts.prompts, texts)
    return Continuations(texts, nll, [len(text) < config.new_tokens for text in texts])


def _as_lines(setting: str, subject: Subject, prompts: Prompts, these: Continuations) -> str:
    """One JSON object a text."""
    decode = subject.tokenizer.decode
    lines = [
        {
            "setting": setting,
            "prompt_number": number,
            "prompt": decode(prompts.prompts[number]),
            "text": decode(text),
            "tokens": len(text),
            "ended": ended,
            "nll": float(nll.sum(dtype=float)),
        }
        for number, (text, nll, ended) in enumerate(zip(these.texts, these.nll, these.ended, strict=True))
    ]
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def _protocol(config: SampleQualityConfig, scorer: Scorer, subject: Subject, held_out: HeldOut) -> dict[str, Any]:
    return {
        **held_out.description,
        "tokenizer": subject.tokenizer.name,
        "prompts": config.num_prompts,
        "prompt_tokens": config.prompt_tokens,
        "new_tokens": config.new_tokens,
        "seed": config.seed,
        "scorer": scorer.name,
        "lengths": "sample and human text of a prompt are both cut to the shorter of the two",
        "interval": f"95 %: bootstrap over prompts, {config.resamples} draws; "
        "distinct_n, self_bleu and zipf: jackknife over prompts",
        "mauve": f"mauve-text on the scorer's hidden states; the paper has {PAPER_TEXTS} texts"
        if config.mauve_seeds
        else "not asked for: eval.quality.mauve_seeds=5",
        "precision": subject.runtime.precision,
    }


def _rows(figures: dict[str, Any]) -> list[Row]:
    named = {label: pair["samples"] for label, pair in figures["settings"].items()} | {"human": figures["human"]}
    return [
        Row(f"{label}: {name}", these[name], these["intervals"][name])
        for label, these in named.items()
        for name in IN_ROWS
        if these[name] is not None
    ]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.3f}"
