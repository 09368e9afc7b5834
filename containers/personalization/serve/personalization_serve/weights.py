"""Check of an adapter's numbers, so that no weight makes pictures black.

On a GPU, an adapter is added to the base in half precision. A number that is not finite, or a product that
overflows half precision, would make every picture of the model black without an error.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from .archive import WEIGHTS, Adapter
from .settings import RequestError

LARGEST = 10_000.0
"""Maximum magnitude of a number in the file, and of the change of a weight. The maximum of half precision is
65,504; weights of a network and their changes are usually below 10."""

_BITS = {"F32": ("<u4", 0x7FFF_FFFF), "F16": ("<u2", 0x7FFF), "BF16": ("<u2", 0x7FFF)}
"""For each type of tensor: the integer type of the same size, and a mask that removes the sign bit.

The masked integers sort by magnitude: finite numbers, infinity, NaN. Comparing them is much faster than
comparing half-precision numbers.
"""


def check(adapter: Adapter) -> None:
    """Raise `RequestError` (400) that names the first unusable weight."""
    largest = _largest(adapter.file)
    for key, value in largest.items():
        if not value <= LARGEST:  # true for NaN too
            raise RequestError(
                400, f"{WEIGHTS}: {key[:120]} must be from {-LARGEST:g} to {LARGEST:g}, got ±{value:g}"
            )
    for target, low in adapter.weights.items():
        # Upper bound of a sum of `rank` products.
        most = abs(low.scale) * low.rank * largest[low.a] * largest[low.b]
        if not most <= LARGEST:
            raise RequestError(
                400,
                f"{WEIGHTS}: the change of {target[:120]} must be at most {LARGEST:g}, got up to {most:g}",
            )


def _largest(path: Path) -> dict[str, float]:
    """Return the largest magnitude in each tensor. The file's header must have been checked."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    header.pop("__metadata__", None)
    data = np.memmap(path, np.uint8, "r", offset=8 + size)
    found = {}
    for key, about in header.items():
        begin, end = about["data_offsets"]
        kind, mask = _BITS[about["dtype"]]
        bits = int((data[begin:end].view(kind) & mask).max())
        found[key] = _value(about["dtype"], bits)
    return found


def _value(kind: str, bits: int) -> float:
    if kind == "F16":
        return float(np.uint16(bits).view(np.float16))
    return float(np.uint32(bits << 16 if kind == "BF16" else bits).view(np.float32))
