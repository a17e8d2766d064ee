"""A byte-level BPE of one's own: trained on a corpus by the library ``tokenizers``, the same on every run.

    documents -> GPT-2's splitting into words -> the most frequent neighbors merged, again and again -> tokenizer.json

Ids are numbered as GPT-2's: 256 bytes, then the merges in order, then end-of-text.
"""

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping

import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from gpt2lab.config import UserError
from gpt2lab.config.tokenizer import SMALLEST_BPE, TOKENIZER_JSON
from gpt2lab.tokenizers.base import END_OF_TEXT
from gpt2lab.tokenizers.byte_level import ByteLevelVocabulary, byte_characters, tokenizer_config_json
from gpt2lab.tokenizers.hugging_face import TOKENIZER_CONFIG, HuggingFaceTokenizer

MIN_FREQUENCY = 2
"""A pair that occurs once is not merged."""

TRAINING_BYTES = 1_000_000_000
"""Text to train on at most, from the beginning of the training split: more changes few merges."""

WORD_CHARACTERS = 2**12
"""Longer words are cut for the training, which takes a time quadratic in the longest: DNA, or 10,000 hyphens"""

ONE_WORD = re.compile(r"[^\W\d_]+|\d+|(?:[^\w\s]|_)+|\s+")
"""Characters that GPT-2's pattern leaves in one word: letters, digits, other ones, or white space"""


class BPETokenizer(HuggingFaceTokenizer):
    """A trained byte-level BPE."""

    def __init__(self, files: Mapping[str, str], name: str | None = None, where: str = TOKENIZER_JSON) -> None:
        """See ``HuggingFaceTokenizer``; its name is bpe and its number of ids."""
        super().__init__(files, name, where)
        self.name = bpe_name(self.vocab_size)

    @property
    def overrides(self) -> tuple[str, ...]:
        """See ``Tokenizer.overrides``."""
        return bpe_overrides(self.vocab_size)


class UntrainedBPE:
    """A byte-level BPE that is yet to be trained on the training split of the dataset that it is to encode."""

    def __init__(self, vocab_size: int) -> None:
        """Args: vocab_size: ids, end-of-text included."""
        self.vocab_size = vocab_size
        self.name = bpe_name(vocab_size)
        self.overrides = bpe_overrides(vocab_size)

    def train(self, documents: Iterable[str]) -> BPETokenizer:
        """Return the tokenizer trained on the documents.

        The result depends on the documents alone, in any order and with any number of threads.

        Raises:
            UserError: the documents have too few different pairs for so many ids.
        """
        library = tokenizers.Tokenizer(models.BPE())
        library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocab_size - 1,
            min_frequency=MIN_FREQUENCY,
            show_progress=False,
            initial_alphabet=list(byte_characters().values()),
        )
        parts = itertools.chain.from_iterable(map(cut_long_words, _first_bytes(documents)))
        library.train_from_iterator(parts, trainer)
        ids = dict(sorted(library.get_vocab().items(), key=lambda item: item[1]))
        if len(ids) < self.vocab_size - 1:
            found = len(ids) + 1
            enough = (
                f"type tokenizer.vocab_size={found} or fewer" if found >= SMALLEST_BPE else "lower data.val_fraction"
            )
            raise UserError(
                f"tokenizer.vocab_size={self.vocab_size}: the training split has pairs for {found} ids only: {enough}, "
                "or take more text"
            )
        assert list(ids)[:256] == list(byte_characters().values()), "the library numbers bytes in another order"
        vocabulary = ByteLevelVocabulary(ids | {END_OF_TEXT: self.vocab_size - 1}, _merges(library), splits_words=True)
        files = {
            TOKENIZER_JSON: vocabulary.tokenizer_json(),
            TOKENIZER_CONFIG: tokenizer_config_json("PreTrainedTokenizerFast"),
        }
        return BPETokenizer(files)


def bpe_name(vocab_size: int) -> str:
    """Return the name of a trained BPE, which is also the folder of its prepared dataset."""
    return f"bpe_{vocab_size}"


def bpe_overrides(vocab_size: int) -> tuple[str, ...]:
    """Return what selects a trained BPE on the command line."""
    return ("tokenizer=bpe", f"tokenizer.vocab_size={vocab_size}")


def cut_long_words(document: str) -> list[str]:
    """Return a document in parts; each cut is within a word of more than ``WORD_CHARACTERS``.

    No part of a word is twice as long, since a cut is at each multiple of ``WORD_CHARACTERS`` that so many
    characters of the word precede. Only the pairs across a cut are lost.
    """
    ends = range(WORD_CHARACTERS, len(document), WORD_CHARACTERS)
    cuts = [end for end in ends if ONE_WORD.fullmatch(document, end - WORD_CHARACTERS, end + 1)]
    return [document[begin:end] for begin, end in itertools.pairwise([0, *cuts, len(document)])]


def _merges(library: tokenizers.Tokenizer) -> list[str]:
    """The merges as strings, which every version of the library reads."""
    return [" ".join(pair) for pair in json.loads(library.to_str())["model"]["merges"]]


def _first_bytes(documents: Iterable[str]) -> Iterator[str]:
    """Documents from the first on, until there are ``TRAINING_BYTES``."""
    remaining = TRAINING_BYTES
    for document in documents:
        yield document
        remaining -= len(document.encode("utf-8"))
        if remaining <= 0:
            return
