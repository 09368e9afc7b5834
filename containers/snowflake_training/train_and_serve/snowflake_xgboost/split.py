"""Which host a row belongs to, and whether it is held out: two halves of one hash. Why, see `source.py`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .identifiers import quoted
from .table import Table

BITS = 31


@dataclass(frozen=True)
class Split:
    """Which rows are held out: a fraction of all, chosen by a hash of these columns and the seed."""

    columns: tuple[str, ...]
    seed: int
    fraction: float

    @classmethod
    def of(cls, table: Table, seed: int, fraction: float) -> Split:
        return cls(tuple(sorted((*table.kinds, table.target))), seed, fraction)

    @property
    def hash(self) -> str:
        """SQL: 63 bits that belong to a row, as a whole number that is never negative."""
        row = f"HASH({', '.join(map(quoted, self.columns))}, {self.seed})"
        # Hashed again: a hash of several values may be their hashes XORed, and then the rows that two
        # seeds hold out are not independent of each other.
        return f"BITAND(HASH({row}), {2**63 - 1})"

    def host(self, hosts: int) -> str:
        """SQL: the rank of the host that a row belongs to."""
        return f"MOD(BITAND({self.hash}, {2**BITS - 1}), {hosts})"

    @property
    def held_out_sql(self) -> str:
        return f"BITSHIFTRIGHT({self.hash}, {63 - BITS}) < {self._bound}"

    def held_out(self, hashes: np.ndarray) -> np.ndarray:
        """The same for hashes that were pulled: int64 [rows] → bool [rows]."""
        return (hashes >> (63 - BITS)) < self._bound

    @property
    def _bound(self) -> int:
        return round(self.fraction * 2**BITS)
