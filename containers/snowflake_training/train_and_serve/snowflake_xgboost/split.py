"""Assignment of rows to hosts and to the holdout by two halves of a hash. `source.py` gives the reasons."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .identifiers import quoted
from .table import Table

BITS = 31


@dataclass(frozen=True)
class Split:
    """The held-out rows: a fraction of all rows, chosen by a hash of `columns` and `seed`."""

    columns: tuple[str, ...]
    seed: int
    fraction: float

    @classmethod
    def of(cls, table: Table, seed: int, fraction: float) -> Split:
        return cls(tuple(sorted((*table.kinds, table.target))), seed, fraction)

    @property
    def hash(self) -> str:
        """SQL expression of a row's hash: 63 bits, as an integer of at least 0."""
        row = f"HASH({', '.join(map(quoted, self.columns))}, {self.seed})"
        # Hashed twice: a hash of several values may be the XOR of their hashes, and then the holdouts of two
        # seeds would not be independent.
        return f"BITAND(HASH({row}), {2**63 - 1})"

    def host(self, hosts: int) -> str:
        """Return the SQL expression of the rank of the host that reads a row."""
        return f"MOD(BITAND({self.hash}, {2**BITS - 1}), {hosts})"

    @property
    def held_out_sql(self) -> str:
        return f"BITSHIFTRIGHT({self.hash}, {63 - BITS}) < {self._bound}"

    def held_out(self, hashes: np.ndarray) -> np.ndarray:
        """Return whether rows are held out, bool [rows], from their hashes, int64 [rows]."""
        return (hashes >> (63 - BITS)) < self._bound

    @property
    def _bound(self) -> int:
        return round(self.fraction * 2**BITS)
