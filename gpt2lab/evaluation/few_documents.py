"""The warning of a part of an evaluation whose intervals rest on few documents."""

import logging

from gpt2lab.statistics.intervals import FEW_DOCUMENTS

log = logging.getLogger(__name__)


def warn_of_few_documents(documents: int, part: str) -> None:
    """Warn where intervals over ``documents`` documents are too narrow; a single document has none."""
    if 1 < documents < FEW_DOCUMENTS:
        log.warning(
            "%s: intervals over %d documents are too narrow; expected %d or more (docs/statistics.md)",
            part, documents, FEW_DOCUMENTS,
        )  # fmt: skip
