"""Arrays as text in the page: whole numbers of a few bits, a scale per row, base64; assets/data.js reads them."""

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray


def pack_floats(x: NDArray[np.floating]) -> str:
    """Float32, little-endian."""
    return base64.b64encode(np.ascontiguousarray(x, dtype="<f4").tobytes()).decode("ascii")


def pack_rows(x: NDArray[np.floating], bits: int) -> dict[str, Any]:
    """An array whose last dimension is a row; each row is divided by its largest magnitude and rounded.

    A number is off by at most its row's largest magnitude / (2^bits - 2).
    """
    largest = np.abs(x).max(axis=-1, keepdims=True)
    scale = np.where(largest > 0, largest, 1.0)
    steps = 2 ** (bits - 1) - 1
    whole = np.rint(x / scale * steps).astype(np.int64) + steps
    return {
        "shape": list(x.shape),
        "bits": bits,
        "scale": pack_floats(scale),
        "data": base64.b64encode(_pack_bits(whole.ravel(), bits)).decode("ascii"),
    }


def _pack_bits(values: NDArray[np.int64], bits: int) -> bytes:
    """Whole numbers below 2^bits, one after another, the highest bit first."""
    shifts = np.arange(bits - 1, -1, -1)
    return np.packbits(((values[:, None] >> shifts) & 1).astype(np.uint8).ravel()).tobytes()
