"""Metadata of a table. Does not import Snowflake's connector, so that serving starts faster."""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.failure import FatalError

from . import identifiers
from .identifiers import quoted


def qualified(table: str) -> str:
    """Return a table's name in SQL, with quoted parts. Unquoted parts become upper case, as in Snowflake.

    Raises `FatalError` unless the name is one to three identifiers.
    """
    try:
        return ".".join(map(quoted, identifiers.table(table)))
    except ValueError:
        raise FatalError(
            f"table must be TABLE, SCHEMA.TABLE or DATABASE.SCHEMA.TABLE, got {table!r}"
        ) from None


@dataclass(frozen=True)
class Table:
    """Metadata of a table, read by the first host before any host reads rows.

    `kinds`: number, text or boolean for each possible feature, without the target. `filled`: number of values
    that are not NULL, for each of these columns. `rows`, `labelled`: number of all rows, and of rows with a
    target. `least`: the least target, NaN if no target is a number. `at`: the time at which all hosts read
    the table, None for a table without history.
    """

    name: str
    target: str
    kinds: dict[str, str]
    filled: dict[str, int]
    left_out: dict[str, str]
    rows: int
    labelled: int
    least: float
    at: str | None

    @property
    def sql(self) -> str:
        moment = f" AT(TIMESTAMP => '{self.at}'::TIMESTAMP_TZ)" if self.at else ""
        return qualified(self.name) + moment
