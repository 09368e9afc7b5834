"""Reading of a Snowflake table by all hosts. Each row is assigned to exactly one host.

Snowflake hashes each row's columns to 63 bits. The lower 31 bits determine the host that reads the row
(`bits mod hosts`), the upper 31 whether it is held out for validation (`bits < fraction`). These halves of
the hash are independent. Therefore

- the hosts' parts are disjoint and complete for any number of hosts;
- the held-out rows do not depend on the number of hosts, stay held out as the table grows, and copies of a
  row are never on both sides of the split;
- missing values need no special case, because HASH is never NULL. The sign bit is masked out, because ABS is
  not defined for the least 64-bit integer.

The alternative is one query whose result batches are distributed to the hosts. It has disadvantages:
Snowflake splits a result by size, so a table of some megabytes is one batch and one host gets all of it;
batches have presigned URLs that the hosts would have to exchange; and the hash is still needed for the
validation split. The advantage is that one query reads one snapshot. With Snowflake's time travel, the
queries of all hosts also read one snapshot: the table AT the time when the first host read its metadata. A
table without history is read in its current state, with a warning.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from snowflake.connector import SnowflakeConnection
from snowflake.connector.errors import Error

from toolkit.failure import FatalError, scrub

from . import identifiers
from .identifiers import quoted
from .split import Split
from .table import Table, qualified

KINDS = {0: "number", 1: "number", 2: "text", 13: "boolean"}
"""Kind of a feature, by Snowflake's type codes of FIXED, REAL, TEXT and BOOLEAN. Other types are not used."""

TYPES = {3: "DATE", 4: "TIMESTAMP", 5: "VARIANT", 6: "TIMESTAMP_LTZ", 7: "TIMESTAMP_TZ"}
TYPES |= {8: "TIMESTAMP_NTZ", 9: "OBJECT", 10: "ARRAY", 11: "BINARY", 12: "TIME"}

NOT_THERE = 2003
"""Snowflake's error number for an object that does not exist, or to which the user's role has no access."""


@dataclass(frozen=True)
class Batch:
    """Rows as stored in the table.

    `hashes`: int64 [n]. `target`: float64 [n], missing values NaN. `columns`: Arrow columns, `double` for
    numbers and booleans (0 and 1), `string` for text, missing values null.
    """

    hashes: np.ndarray
    target: np.ndarray
    columns: pa.Table


def survey(connection: SnowflakeConnection, table: str, target: str) -> Table:
    """Return a table's columns and counts. Raises `FatalError` if the table cannot be used for training."""
    place = qualified(table)
    with connection.cursor() as cursor:
        try:
            described = cursor.describe(f"SELECT * FROM {place}")
        except Error as error:
            if error.errno == NOT_THERE:
                raise FatalError(f"table {table} does not exist, or the user may not read it") from None
            raise FatalError(f"table {table} cannot be read: {scrub(error.msg)}") from None
    types = {column.name: column.type_code for column in described}
    column = identifiers.find(target, list(types))
    if column is None:
        raise FatalError(f"table {table} has no column {target}: it has {_listed(types)}")
    if KINDS.get(types[column]) != "number":
        what = KINDS.get(types[column], TYPES.get(types[column], "another type"))
        raise FatalError(f"target {column} of table {table} must be a number, got {what}")
    kinds = {name: KINDS[code] for name, code in types.items() if code in KINDS and name != column}
    left_out = {name: TYPES.get(code, "another type") for name, code in types.items() if code not in KINDS}
    if not kinds:
        raise FatalError(
            f"table {table} must have a usable feature besides target {column}, got columns {_listed(types)}"
        )

    seen = Table(table, column, kinds, {}, left_out, 0, 0, math.nan, _now(connection))
    least = f"MIN({_value(column, 'number')})"  # ignores NaN, which Snowflake sorts last
    counts = ", ".join([least, *(f"COUNT({quoted(name)})" for name in (column, *kinds))])
    try:
        numbers = _one(connection, f"SELECT COUNT(*), {counts} FROM {seen.sql}")
    except Error:  # the table has no history: it is a view, shared, transient, or was just created
        seen = Table(table, column, kinds, {}, left_out, 0, 0, math.nan, None)
        numbers = ask(connection, table, f"SELECT COUNT(*), {counts} FROM {seen.sql}")[0]
    rows, labelled, *filled = (int(number) for number in (numbers[0], *numbers[2:]))
    if rows == 0:
        raise FatalError(f"table {table} is empty")
    if labelled == 0:
        raise FatalError(f"target {column} of table {table} is blank in all {rows} rows")
    filled_of = dict(zip(kinds, filled, strict=True))
    return Table(table, column, kinds, filled_of, left_out, rows, labelled, float(numbers[1]), seen.at)


def distinct(connection: SnowflakeConnection, table: Table, column: str, most: int) -> list[str | None]:
    """Return the distinct stored values of a text column, at most `most` + 1."""
    query = f"SELECT DISTINCT {quoted(column)} FROM {table.sql} LIMIT {most + 1}"
    return [row[0] for row in ask(connection, table.name, query)]


def pull(
    connection: SnowflakeConnection,
    table: Table,
    columns: dict[str, str],
    split: Split,
    host: int = 0,
    hosts: int = 1,
) -> Iterator[Batch]:
    """Yield the rows of a host in batches, of which a few are in memory at a time. Raises `FatalError`.

    The calls with `host` = 0 … `hosts` - 1 together yield every row of the table exactly once.

    :param columns: the kind (number, text, boolean) of each column to read
    """
    yield from _stream(connection, table, columns, split, f"{split.host(hosts)} = {host}")


def pull_held_out(
    connection: SnowflakeConnection, table: Table, columns: dict[str, str], splits: list[Split]
) -> Iterator[Batch]:
    """Yield the rows that are held out by all of `splits`. Raises `FatalError`."""
    condition = " AND ".join(dict.fromkeys(split.held_out_sql for split in splits))
    yield from _stream(connection, table, columns, splits[0], condition)


def _stream(
    connection: SnowflakeConnection, table: Table, columns: dict[str, str], split: Split, condition: str
) -> Iterator[Batch]:
    wanted = [f'{split.hash} AS "H"', f'{_value(table.target, "number")} AS "Y"']
    wanted += [f'{_value(name, kind)} AS "F{i}"' for i, (name, kind) in enumerate(columns.items())]
    query = f"SELECT {', '.join(wanted)} FROM {table.sql} WHERE {condition}"
    types = [pa.string() if kind == "text" else pa.float64() for kind in columns.values()]
    with connection.cursor() as cursor:
        try:
            cursor.execute(query)
            for rows in cursor.fetch_arrow_batches():
                yield Batch(
                    rows.column(0).cast(pa.int64()).to_numpy(),
                    rows.column(1).cast(pa.float64()).to_numpy(),
                    pa.table(
                        [rows.column(i + 2).cast(kind) for i, kind in enumerate(types)], names=list(columns)
                    ),
                )
        except Error as error:
            raise FatalError(f"table {table.name} cannot be read: {scrub(error.msg)}") from None


def ask(connection: SnowflakeConnection, table: str, query: str) -> list[Any]:
    """Return all rows of a query with a small result. Raises `FatalError`."""
    try:
        with connection.cursor() as cursor:
            return list(cursor.execute(query) or [])
    except Error as error:
        raise FatalError(f"table {table} cannot be read: {scrub(error.msg)}") from None


def _one(connection: SnowflakeConnection, query: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchone()


def _now(connection: SnowflakeConnection) -> str:
    """Return Snowflake's current time."""
    return _one(connection, "SELECT CURRENT_TIMESTAMP()")[0].isoformat()


def _value(name: str, kind: str) -> str:
    """Return the SQL of a column's value. Text stays unchanged for `Preparation.encode`."""
    if kind == "text":
        return quoted(name)
    if kind == "boolean":
        return f"CAST(CAST({quoted(name)} AS NUMBER) AS FLOAT)"
    return f"CAST({quoted(name)} AS FLOAT)"


def _listed(names: Any, most: int = 20) -> str:
    shown = sorted(names)
    return ", ".join(shown[:most]) + (f" and {len(shown) - most} more" if len(shown) > most else "")
