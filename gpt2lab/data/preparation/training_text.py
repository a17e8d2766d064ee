"""The training documents of a source as text, for a tokenizer that is trained on them before they are tokenized.

Validation documents take no part, so that bits per byte on them stay a fair measure. The documents come in the order of
the source, whatever the backend, so that the same text gives the same tokenizer.
"""

import hashlib
from collections.abc import Iterator

from gpt2lab.data.preparation.tokenization import DIGEST_BYTES, is_validation
from gpt2lab.data.sources import Problem, Source
from gpt2lab.data.sources.base import stop_or_skip


def training_documents(source: Source) -> Iterator[str]:
    """The documents that preparing puts into the training split, in order; copies once if they are to be left out."""
    seen: set[bytes] = set()
    for chunk in source.chunks():
        if chunk.split == "val":
            continue
        for document in source.read(chunk):
            if isinstance(document, Problem):
                stop_or_skip(document, source)
            elif document:
                digest = hashlib.sha256(document.encode("utf-8")).digest()
                if source.val_fraction is not None and is_validation(digest, source.val_fraction):
                    continue
                if source.deduplicate:
                    if digest[:DIGEST_BYTES] in seen:
                        continue
                    seen.add(digest[:DIGEST_BYTES])
                yield document
