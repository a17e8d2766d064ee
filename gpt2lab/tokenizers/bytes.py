"""The UTF-8 bytes of a text as token ids."""

import hashlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from gpt2lab.tokenizers.base import END_OF_TEXT, Tokenizer, replace_surrogates
from gpt2lab.tokenizers.byte_level import ByteLevelVocabulary, byte_characters, tokenizer_config_json


class BytesTokenizer(Tokenizer):
    """Ids 0..255 are the UTF-8 bytes, 256 is end-of-text."""

    name = "bytes"
    vocab_size = 257
    eot_id = 256
    fingerprint = hashlib.sha256(b"bytes: ids 0..255 are UTF-8 bytes, 256 is end-of-text").hexdigest()

    def encode(self, text: str) -> list[int]:
        """See ``Tokenizer.encode``."""
        return list(replace_surrogates(text).encode("utf-8"))  # tiktoken replaces them in the same way

    def encode_array(self, text: str) -> NDArray[np.unsignedinteger]:
        """See ``Tokenizer.encode_array``."""
        return np.frombuffer(text.encode("utf-8"), dtype=np.uint8)

    def id_bytes(self, token: int) -> bytes:
        """See ``Tokenizer.id_bytes``."""
        return END_OF_TEXT.encode() if token == self.eot_id else bytes([token])

    def hugging_face_files(self) -> Mapping[str, str]:
        """See ``Tokenizer.hugging_face_files``: a byte-level BPE of 256 pieces without merges."""
        return {
            "tokenizer.json": bytes_vocabulary().tokenizer_json(),
            "tokenizer_config.json": tokenizer_config_json("PreTrainedTokenizerFast"),
        }


def bytes_vocabulary() -> ByteLevelVocabulary:
    """Return a piece for each byte, as vocabulary files have it."""
    ids = {character: byte for byte, character in byte_characters().items()}
    return ByteLevelVocabulary(ids | {END_OF_TEXT: BytesTokenizer.eot_id}, [], splits_words=False)
