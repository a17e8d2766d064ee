"""A byte-level BPE of one's own: trained on a corpus by the library ``tokenizers``, the same on every run.

    documents -> GPT-2's splitting into words -> the most frequent neighbours merged, again and again -> tokenizer.json

Ids are numbered as GPT-2's: 256 bytes, then the merges in order, then end-of-text.
"""

import json
from collections.abc import Iterable, Iterator

import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from gpt2lab.config import UserError
from gpt2lab.config.tokenizer import TOKENIZER_JSON
from gpt2lab.tokenizers.base import END_OF_TEXT
from gpt2lab.tokenizers.byte_level import ByteLevelVocabulary, byte_characters, tokenizer_config_json
from gpt2lab.tokenizers.hugging_face import TOKENIZER_CONFIG, HuggingFaceTokenizer

MIN_FREQUENCY = 2
"""A pair that occurs once is not merged."""

TRAINING_BYTES = 1_000_000_000
"""Text to train on at most, from the beginning of the training split: more changes few merges."""


def bpe_name(vocab_size: int) -> str:
    """Return the name of a trained BPE, under which its prepared datasets lie."""
    return f"bpe_{vocab_size}"


def train_bpe(documents: Iterable[str], vocab_size: int) -> HuggingFaceTokenizer:
    """Train a byte-level BPE of ``vocab_size`` ids, end-of-text included.

    The result depends on the documents alone, in any order and with any number of threads.

    Raises:
        UserError: the documents have too few different pairs for so many ids.
    """
    library = tokenizers.Tokenizer(models.BPE())
    splitting = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    library.pre_tokenizer = splitting  # type: ignore[assignment]  # the library's stubs lack the base class
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1,
        min_frequency=MIN_FREQUENCY,
        show_progress=False,
        initial_alphabet=list(byte_characters().values()),
    )
    library.train_from_iterator(_first_bytes(documents), trainer)
    ids = dict(sorted(library.get_vocab().items(), key=lambda item: item[1]))
    if len(ids) < vocab_size - 1:
        raise UserError(
            f"tokenizer.vocab_size={vocab_size}: the training split has pairs for {len(ids) + 1} ids only: type "
            f"tokenizer.vocab_size={len(ids) + 1} or fewer, or take more text"
        )
    alphabet = {character: number for number, character in enumerate(byte_characters().values())}
    assert ids.items() >= alphabet.items(), "the library numbers the bytes in another order than GPT-2"
    files = {
        TOKENIZER_JSON: ByteLevelVocabulary(
            ids | {END_OF_TEXT: vocab_size - 1}, _merges(library), splits_words=True
        ).tokenizer_json(),
        TOKENIZER_CONFIG: tokenizer_config_json("PreTrainedTokenizerFast"),
    }
    return HuggingFaceTokenizer(files, bpe_name(vocab_size))


def _merges(library: tokenizers.Tokenizer) -> list[str]:
    """The merges as strings, which every version of the library reads."""
    return [" ".join(pair) for pair in json.loads(library.to_str())["model"]["merges"]]


def _first_bytes(documents: Iterable[str]) -> Iterator[str]:
    """Documents from the first on, until there are ``TRAINING_BYTES``."""
    remaining = TRAINING_BYTES
    for document in documents:
        if remaining <= 0:
            return
        remaining -= len(document.encode("utf-8"))
        yield document
