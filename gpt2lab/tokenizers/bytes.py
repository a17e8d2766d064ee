"""The UTF-8 bytes of a text as token ids."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from gpt2lab.tokenizers.base import END_OF_TEXT, Tokenizer


class BytesTokenizer(Tokenizer):
    """Ids 0..255 are the UTF-8 bytes, 256 is end-of-text."""

    name = "bytes"
    vocab_size = 257
    eot_id = 256
    fingerprint = hashlib.sha256(b"bytes: ids 0..255 are UTF-8 bytes, 256 is end-of-text").hexdigest()

    def encode(self, text: str) -> list[int]:
        """See ``Tokenizer.encode``."""
        # A terminal can hand over lone surrogates, which have no UTF-8; tiktoken replaces them in the same way.
        return list(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode("utf-8"))

    def encode_array(self, text: str) -> NDArray[np.unsignedinteger]:
        """See ``Tokenizer.encode_array``."""
        return np.frombuffer(text.encode("utf-8"), dtype=np.uint8)

    def id_bytes(self, token: int) -> bytes:
        """See ``Tokenizer.id_bytes``."""
        return END_OF_TEXT.encode() if token == self.eot_id else bytes([token])
