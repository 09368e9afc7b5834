"""What is known of a table before its rows are pulled. Needs no Snowflake, so that serving starts faster."""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.failure import Failure

from . import identifiers
from .identifiers import quoted


def qualified(table: str) -> str:
    """`db.schema.Table` as SQL, each part quoted; unquoted parts are upper case, as in Snowflake.

    Raises `Failure` for anything that is not one to three identifiers.
    """
    try:
        return ".".join(map(quoted, identifiers.table(table)))
    except ValueError:
        raise Failure(f"table {table!r} is not TABLE, SCHEMA.TABLE or DATABASE.SCHEMA.TABLE") from None


@dataclass(frozen=True)
class Table:
    """What the first host saw in the table before anyone pulled from it.

    `kinds`: number, text or boolean by column that may be a feature (the target is not among them).
    `filled`: values that are not NULL by such column. `rows`, `labelled`: all rows, and those with
    a target. `least`: the least target, NaN where none is a number. `at`: the moment read by all
    hosts, or None for a table without history.
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
