"""Sample quality: text -> prompts -> a sample for each, under each decoding setting -> metrics.

Beside every setting stand the metrics of what humans wrote after the same prompts. Sample and human text of a prompt
are both cut to the shorter of the two first, so that numbers and lengths of the texts are equal.

Several processes share the decoding, in groups of ``batch_size`` prompts, and the scoring; each computes the metrics.
"""

import json
import logging
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from gpt2lab.config import DecodingConfig, SampleQualityConfig, SamplingConfig
from gpt2lab.evaluation.corpora.tokenized import TokenizedCorpus
from gpt2lab.evaluation.few_documents import warn_of_few_documents
from gpt2lab.evaluation.results import PartResult, TableRow
from gpt2lab.evaluation.sample_quality.mauve import PAPER_TEXTS, Mauve, measure_mauve, require_mauve
from gpt2lab.evaluation.sample_quality.metrics import BLEU_ORDER, Continuations, TextMetrics, measure
from gpt2lab.evaluation.sample_quality.prompts import Prompts, choose_prompts
from gpt2lab.evaluation.sample_quality.scorer import Scorer, open_scorer
from gpt2lab.evaluation.scoring import describe_precision
from gpt2lab.evaluation.table import render_table
from gpt2lab.evaluation.text_model import TextModel
from gpt2lab.generation import generate_shared
from gpt2lab.statistics.intervals import describe_document_interval

log = logging.getLogger(__name__)

TABLE = ("perplexity", "rep_4", "distinct_2", f"self_bleu_{BLEU_ORDER}", "zipf", "longest_loop", "share_ended")
SHOWN_AS = {
    "perplexity": "perplexity",
    "rep_4": "seq-rep-4",
    "distinct_2": "distinct-2",
    f"self_bleu_{BLEU_ORDER}": f"self-BLEU-{BLEU_ORDER}",
    "zipf": "Zipf coeff.",
    "longest_loop": "longest loop",
    "share_ended": "ended early",
}
"""the literature's names"""
IN_ROWS = ("perplexity", f"self_bleu_{BLEU_ORDER}")


@dataclass(frozen=True)
class SettingMetrics:
    """The metrics of one decoding setting; both sides of a prompt have the same length."""

    samples: TextMetrics
    human_of_equal_lengths: TextMetrics
    mauve: Mauve | None

    def to_dict(self) -> dict[str, Any]:
        """Return the metrics by the names of ``eval.json``."""
        sides = {
            "samples": self.samples.to_dict(),
            "human_of_equal_lengths": self.human_of_equal_lengths.to_dict(),
        }
        return sides | {"mauve": asdict(self.mauve)} if self.mauve else sides


@dataclass(frozen=True)
class SampleQualityMetrics:
    """The metrics of the part ``sample_quality``."""

    settings: dict[str, SettingMetrics]
    """by the label of the decoding setting"""
    human: TextMetrics
    """of human texts in full length"""

    def to_dict(self) -> dict[str, Any]:
        """Return the metrics by the names of ``eval.json``."""
        settings = {label: setting.to_dict() for label, setting in self.settings.items()}
        return {"settings": settings, "human": self.human.to_dict()}


def check_sample_quality(loaded: TextModel, config: SampleQualityConfig, corpus: TokenizedCorpus) -> None:
    """Check the settings against model and text; a scorer of its own is opened and checked when it is needed.

    Raises:
        UserError: too little text, too short a context, no mauve-text.
    """
    if config.mauve_seeds:
        require_mauve()
    if config.scorer is None:
        own = open_scorer(None, loaded, config.batch_size)
        own.require_room(config.prompt_tokens + config.new_tokens)
    choose_prompts(corpus.documents, config)


def evaluate_sample_quality(loaded: TextModel, config: SampleQualityConfig, corpus: TokenizedCorpus) -> PartResult:
    """Metrics of samples, and of human text, for each of ``config.decoding``.

    Raises:
        UserError: too little text, a scorer with another tokenizer or too short a context, no mauve-text.
    """
    if config.mauve_seeds:
        require_mauve()
        if config.num_prompts < PAPER_TEXTS:
            log.warning(
                "MAUVE of %d texts a side says little, and can be high for very unlike ones: the paper has %d",
                config.num_prompts, PAPER_TEXTS,
            )  # fmt: skip
    scorer = open_scorer(config.scorer, loaded, config.batch_size)
    scorer.require_room(config.prompt_tokens + config.new_tokens)
    prompts = choose_prompts(corpus.documents, config)
    human = _scored(scorer, prompts, prompts.human, config)
    document_S = np.array(prompts.documents)
    warn_of_few_documents(len(set(prompts.documents)), "sample_quality")

    texts = _as_lines("human", loaded, prompts, human)
    settings: dict[str, SettingMetrics] = {}
    for decoding in config.decoding:
        log.info("sampling with %s", decoding.label)
        samples = generate_shared(
            loaded.model, prompts.prompts, _sampling(decoding, config), eot_id=loaded.tokenizer.eot_id,
            runtime=loaded.runtime, world=loaded.world, group_size=config.batch_size,
        )  # fmt: skip
        drawn = _scored(scorer, prompts, samples, config)
        texts += _as_lines(decoding.label, loaded, prompts, drawn)
        lengths = [min(len(ours), len(theirs)) for ours, theirs in zip(drawn.texts, human.texts, strict=True)]
        ours, theirs = drawn.cut(lengths), human.cut(lengths)
        settings[decoding.label] = SettingMetrics(
            measure(ours, document_S), measure(theirs, document_S), _mauve(scorer, prompts, ours, theirs, config)
        )
    metrics = SampleQualityMetrics(settings, measure(human, document_S))
    protocol = _protocol(config, scorer, loaded, corpus, len(set(prompts.documents)))
    title = f"Sample quality: {config.num_prompts} prompts, up to {config.new_tokens} tokens each"
    files = {"samples.jsonl": texts, "table.md": markdown_table(metrics)}
    return PartResult(title, metrics, _rows(metrics), protocol, files=files, table=_as_text(metrics))


def markdown_table(metrics: SampleQualityMetrics) -> str:
    """The main metrics as a Markdown table, a line per setting; in brackets those of human text of equal lengths."""
    lines = _lines(metrics)
    rows = [lines[0], ["---", *("--:" for _ in lines[0][1:])], *lines[1:]]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _as_text(metrics: SampleQualityMetrics) -> str:
    """For the terminal: a line per metric, without the human texts of equal lengths."""
    columns = [[cell.partition(" (")[0] for cell in line] for line in _lines(metrics)]
    return render_table([list(row) for row in zip(*columns, strict=True)])


def _lines(metrics: SampleQualityMetrics) -> list[list[str]]:
    has_mauve = any(setting.mauve for setting in metrics.settings.values())
    lines = [["metric", *(SHOWN_AS[name] for name in TABLE), *(["MAUVE"] if has_mauve else [])]]
    for label, setting in metrics.settings.items():
        ours, theirs = setting.samples.values, setting.human_of_equal_lengths.values
        cells = [f"{_number(ours[name])} ({_number(theirs[name])})" for name in TABLE]
        lines.append([_short(label), *cells, *([_number(setting.mauve.mauve)] if setting.mauve else [])])
    return [*lines, ["human", *(_number(metrics.human.values[name]) for name in TABLE), *([""] if has_mauve else [])]]


def _short(label: str) -> str:
    """``top_k=40 temperature=0.7`` as ``k=40 T=0.7``, so that the settings fit beside each other."""
    return label.replace("temperature=", "T=").replace("top_k=", "k=").replace("top_p=", "p=")


def _sampling(decoding: DecodingConfig, config: SampleQualityConfig) -> SamplingConfig:
    return SamplingConfig(
        temperature=decoding.temperature, top_k=decoding.top_k, top_p=decoding.top_p,
        max_new_tokens=config.new_tokens, batch_size=config.batch_size, seed=config.seed,
    )  # fmt: skip


def _scored(scorer: Scorer, prompts: Prompts, texts: list[list[int]], config: SampleQualityConfig) -> Continuations:
    nll = scorer.token_nll(prompts.prompts, texts)
    return Continuations(texts, nll, [len(text) < config.new_tokens for text in texts])


def _mauve(
    scorer: Scorer, prompts: Prompts, ours: Continuations, theirs: Continuations, config: SampleQualityConfig
) -> Mauve | None:
    if not config.mauve_seeds:
        return None
    human_SC, drawn_SC = (scorer.last_states(prompts.prompts, side.texts) for side in (theirs, ours))
    return measure_mauve(human_SC, drawn_SC, config.mauve_seeds)


def _as_lines(setting: str, loaded: TextModel, prompts: Prompts, continuations: Continuations) -> str:
    """One JSON object a text."""
    decode = loaded.tokenizer.decode
    lines = [
        {
            "setting": setting,
            "prompt_number": number,
            "document": prompts.documents[number],
            "prompt": decode(prompts.prompts[number]),
            "text": decode(text),
            "tokens": len(text),
            "ended": ended,
            "nll": float(nll.sum(dtype=float)),
        }
        for number, (text, nll, ended) in enumerate(
            zip(continuations.texts, continuations.nll, continuations.ended, strict=True)
        )
    ]
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def _protocol(
    config: SampleQualityConfig, scorer: Scorer, loaded: TextModel, corpus: TokenizedCorpus, documents: int
) -> dict[str, Any]:
    return {
        **corpus.description,
        "tokenizer": loaded.tokenizer.name,
        "prompts": config.num_prompts,
        "prompt_tokens": config.prompt_tokens,
        "new_tokens": config.new_tokens,
        "seed": config.seed,
        "scorer": scorer.name,
        "lengths": "sample and human text of a prompt are both cut to the shorter of the two",
        "interval": describe_document_interval(documents),
        "mauve": f"mauve-text on the scorer's hidden states; the paper has {PAPER_TEXTS} texts"
        if config.mauve_seeds
        else "not asked for: eval.sample_quality.mauve_seeds=5",
        "precision": describe_precision(loaded.runtime),
        **({} if config.scorer is None else {"scorer_precision": describe_precision(scorer.runtime)}),
    }


def _rows(metrics: SampleQualityMetrics) -> list[TableRow]:
    named = {label: setting.samples for label, setting in metrics.settings.items()} | {"human": metrics.human}
    return [
        TableRow(f"{label}: {name}", value, measured.intervals[name])
        for label, measured in named.items()
        for name in IN_ROWS
        if (value := measured.values[name]) is not None
    ]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.3f}" if abs(value) < 100 else f"{value:,.0f}"
