"""The numbers of an adapter: none may make a picture black.

Weights are added in half precision on a GPU. A number that is not finite, or a product that half precision
cannot hold, would turn every picture of that model black without an error.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from .archive import WEIGHTS, Adapter
from .settings import RequestError

LARGEST = 10_000.0
"""Of a number in the file, and of what an adapter may add to a weight. Half precision ends at 65,504; the
weights of a network, and what adapters add, are below 10."""

_BITS = {"F32": ("<u4", 0x7FFF_FFFF), "F16": ("<u2", 0x7FFF), "BF16": ("<u2", 0x7FFF)}
"""Each type as whole numbers without the sign: as such they are in the order of magnitude, with infinity
behind every finite number, and what is no number behind that. Far faster than comparing half floats."""


def check(adapter: Adapter) -> None:
    """Raises `RequestError` (400) naming the first weight that cannot be used."""
    largest = _largest(adapter.file)
    for key, value in largest.items():
        if not value <= LARGEST:  # neither is a number that is none
            raise RequestError(
                400, f"{WEIGHTS}: {key[:120]} holds {value:g}; a weight must be within {LARGEST:g}"
            )
    for target, low in adapter.weights.items():
        # No sum of `rank` products is larger.
        most = abs(low.scale) * low.rank * largest[low.a] * largest[low.b]
        if not most <= LARGEST:
            raise RequestError(
                400, f"{WEIGHTS}: {target[:120]} may change by {most:g}; a change must be within {LARGEST:g}"
            )


def _largest(path: Path) -> dict[str, float]:
    """The largest magnitude in each tensor of a file whose header was checked."""
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
