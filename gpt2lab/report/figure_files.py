"""Figures as files, written at once or not at all."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt2lab.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save_figure(figure: "Figure", path: Path, **options: Any) -> Path:
    """Write a figure in the format of the file's name; return ``path``. ``options`` are those of ``savefig``."""
    image = io.BytesIO()
    figure.savefig(image, format=path.suffix[1:], **options)
    write_bytes(path, image.getvalue())
    return path
