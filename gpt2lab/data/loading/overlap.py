"""Validation documents of one dataset of a mixture that are training documents of another.

Datasets of the same ``data.val_fraction`` put a document that both hold into the same split. Those of another one, or
of a source that divides its text itself, may not: wikitext2 and wikitext103, say, which may hold the same articles.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gpt2lab.config.data import MixtureConfig
from gpt2lab.data.loading.stream import TokenStream
from gpt2lab.data.manifest import Manifest, load_manifest

MOST_DOCUMENTS = 500_000
"""Training documents that are compared, at most: so many take some seconds"""


def validation_in_training(data: MixtureConfig, root: Path, tokenizer: str) -> Iterator[str]:
    """One line for each dataset of a mixture whose validation documents another one trains on.

    Args:
        data: the mixture.
        root: of its datasets.
        tokenizer: name of their tokenizer.
    """
    folders = {name: root / name / tokenizer for name in data.mixture}
    manifests = {name: load_manifest(folder) for name, folder in folders.items()}
    small = [name for name, manifest in manifests.items() if manifest.splits["train"].documents <= MOST_DOCUMENTS]
    for validated, manifest in manifests.items():
        others = [trained for trained in small if divided_by(manifests[trained]) != divided_by(manifest)]
        val = set(documents(TokenStream(folders[validated], manifest, "val"))) if others else set()
        for trained in others:
            both = val.intersection(documents(TokenStream(folders[trained], manifests[trained], "train")))
            if both:
                yield (
                    f"data.mixture: {len(both):,} of the {len(val):,} validation documents of {validated} are training "
                    f"documents of {trained}, which lowers the validation loss; expected none; prepare both with the "
                    "same data.val_fraction"
                )


def divided_by(manifest: Manifest) -> tuple[str, float | None]:
    """What decides on the split of a document."""
    return manifest.split_rule, manifest.val_fraction


def documents(stream: TokenStream) -> Iterator[bytes]:
    """The tokens of each document as bytes, without end-of-text."""
    starts_D = stream.starts()
    ends_D = np.append(starts_D[1:], len(stream))
    for start, end in zip(starts_D.tolist(), ends_D.tolist(), strict=True):
        yield stream.read(start + 1, end).tobytes()
