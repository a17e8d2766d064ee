"""The short way for notebooks: a model, its text, and how well it predicts a text."""

from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral
from pathlib import Path

from gpt2lab.config import RuntimeConfig, SamplingConfig, UserError, check, check_kind
from gpt2lab.evaluation.corpora.formats import Corpus, Document
from gpt2lab.evaluation.perplexity.evaluate import score_plan, summarize_scores
from gpt2lab.evaluation.perplexity.protocols import Stream
from gpt2lab.evaluation.scoring import Perplexity
from gpt2lab.evaluation.text_model import TextModel, in_scoring_precision, open_text_model
from gpt2lab.generation import generate_stream
from gpt2lab.generation.text import Continuation
from gpt2lab.runtime import explaining_out_of_memory, open_runtime, smaller_batch
from gpt2lab.tokenizers import Tokenizer, read_tokenizer
from gpt2lab.tokenizers import load_tokenizer as load_built_in
from gpt2lab.tokenizers.registry import BUILT_IN
from gpt2lab.weights import find_stored_model

__all__ = ["generate", "load_model", "load_tokenizer", "perplexity"]


def load_model(where: str | Path | None = None, *, device: str = "auto", precision: str = "auto") -> TextModel:
    """Return a model in evaluation mode, with its tokenizer: ``.model`` is the GPT, ``.tokenizer`` its tokenizer.

    Args:
        where: a run, a checkpoint, a Hugging Face directory, or a name on the Hub (gpt2, ORG/NAME); None: the newest
            run below runs/.
        device: auto | cpu | cuda | mps
        precision: auto | fp32 | bf16 | fp16; auto: bf16 where the device multiplies it, and for ``perplexity`` what
            eval.py takes, which is fp32 on a CPU and for pretrained models

    Raises:
        UserError: there is no such model, or gpt2lab does not have its architecture or tokenizer.
    """
    runtime = open_runtime(RuntimeConfig(device=device, precision=precision))
    loaded = open_text_model(None if where is None else str(where), runtime)
    return replace(loaded, auto_precision=precision == "auto")


def load_tokenizer(where: str | Path) -> Tokenizer:
    """Return a tokenizer.

    Args:
        where: gpt2, bytes, a tokenizer.json, or what ``load_model`` takes.

    Raises:
        UserError: there is none.
    """
    if str(where) in BUILT_IN:
        return load_built_in(str(where))
    if Path(where).suffix == ".json":
        return read_tokenizer(str(where))
    return find_stored_model(str(where), "where").tokenizer()


def generate(
    model: TextModel,
    prompt: str,
    *,
    max_new_tokens: int = 128,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    stop: str | Sequence[str] | None = None,
    seed: int = 0,
) -> str:
    """Return a continuation of ``prompt``, without the prompt.

    Args:
        model: from ``load_model``.
        prompt: text to continue; empty: a new document.
        max_new_tokens: tokens at most; end-of-text ends the text earlier.
        temperature: divides the logits; 0: the most likely token.
        top_k: draw from the k most likely tokens; None: from all.
        top_p: draw from the smallest set of tokens whose probabilities reach p; None: from all.
        stop: the text ends before this string, or the first of these strings; None: at no string.
        seed: the same seed draws the same text.

    Raises:
        UserError: an option is out of range.
    """
    sampling = SamplingConfig(
        temperature=temperature, top_k=top_k, top_p=top_p, max_new_tokens=max_new_tokens, seed=seed
    )
    check_kind(model, TextModel, "model", "load_model(...)")
    check(isinstance(prompt, str), "prompt", prompt, "one text; call it once for each of several")
    stops = [stop] if isinstance(stop, str) or not isinstance(stop, Sequence | None) else list(stop or ())
    check(all(isinstance(one, str) and one for one in stops), "stop", stops, "strings that are not empty")
    tokenizer = model.tokenizer
    prompts = [tokenizer.encode_prompt(prompt)]
    drawn = generate_stream(model.model, prompts, sampling, eot_id=tokenizer.eot_id, runtime=model.runtime)
    return Continuation((token for _, token in drawn), tokenizer, max_new_tokens, stops).finish().text


def perplexity(model: TextModel, text: str, *, stride: int | None = None, batch_size: int = 8) -> Perplexity:
    """Return how well a model predicts a text: ``token_perplexity``, ``word_perplexity``, ``bits_per_byte``, ``nll``.

    The text is one document that begins after the model's own token for that; each of its tokens is scored once, with
    at least ``context - stride`` tokens before it (protocol ``stream`` of the evaluation).

    Args:
        model: from ``load_model``.
        text: any length.
        stride: tokens by which the window moves; None: the model's context.
        batch_size: windows that are scored together.

    Raises:
        UserError: the text is empty or not Unicode, the stride does not fit the context, ``batch_size`` is below 1, or
            the memory is not enough.
    """
    check_kind(model, TextModel, "model", "load_model(...)")
    context = model.source.context
    check(isinstance(text, str) and text != "", "text", repr(text), "a text to score")
    fits = stride is None or (_is_count(stride) and stride <= context)
    check(fits, "stride", stride, f"1 to {context} tokens, the model's context, or None")
    check(_is_count(batch_size), "batch_size", batch_size, "a whole number of at least 1")
    try:
        document = Document.of(text)
    except UnicodeEncodeError as error:
        raise UserError(
            f"text={text[error.start]!r} at character {error.start}: half of a surrogate pair has no UTF-8 form; "
            "expected whole characters; try text.encode('utf-8', 'replace').decode()"
        ) from None
    corpus, model = Corpus([document], "", {}), in_scoring_precision(model)
    plan = Stream().plan(corpus, model.tokenizer, context, stride, str)
    with explaining_out_of_memory(f"scoring {batch_size} windows at once", smaller_batch("batch_size", batch_size)):
        result, _ = summarize_scores(score_plan(model.model, plan, model.runtime, batch_size))
    return result


def _is_count(value: object) -> bool:
    """Whether it is a whole number of at least 1."""
    return isinstance(value, Integral) and int(value) >= 1
