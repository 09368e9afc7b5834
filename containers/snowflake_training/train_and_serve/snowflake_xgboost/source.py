"""A table in Snowflake, dealt out to the hosts: every row to one of them, none to two.

How. Snowflake hashes each row's columns to 63 bits. The lower 31 say which host pulls the row
(`bits mod hosts`), the upper 31 whether it is held out for validation (`bits < fraction`). Two
separate halves of one hash, so neither says anything about the other. It follows that

- the parts are disjoint and complete over any number of hosts: the remainders are;
- the held-out rows are the same whatever the number of hosts, stay held out as the table grows,
  and copies of one row never sit on both sides of the split;
- blanks are no special case (HASH is never NULL), nor is the sign: the bits are masked, not taken
  through ABS, which has no answer for the least 64-bit integer.

Why not one query whose result batches are dealt out by rank? Snowflake cuts a result by size, so a
table of some megabytes is one batch and one host gets all of it; batches come with pre-signed
addresses that would have to travel between hosts; and the split still needs the hash. What it does
better, one query being one snapshot, time travel gives as well: all hosts read the table AT the
moment the first one looked at it. A table that keeps no history is read as it stands, and said so.
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

from toolkit.failure import Failure, scrub

from . import identifiers
from .identifiers import quoted
from .split import Split
from .table import Table, qualified

KINDS = {0: "number", 1: "number", 2: "text", 13: "boolean"}
"""Snowflake's type codes (FIXED, REAL, TEXT, BOOLEAN) that a feature may have."""

TYPES = {3: "DATE", 4: "TIMESTAMP", 5: "VARIANT", 6: "TIMESTAMP_LTZ", 7: "TIMESTAMP_TZ"}
TYPES |= {8: "TIMESTAMP_NTZ", 9: "OBJECT", 10: "ARRAY", 11: "BINARY", 12: "TIME"}

NOT_THERE = 2003
"""Snowflake's error number for what does not exist or is not granted; it does not tell which."""


@dataclass(frozen=True)
class Batch:
    """Rows as they came: hashes int64 [n], target float64 [n] (blank: NaN), and their columns in
    Arrow, `double` for numbers and booleans (0 and 1), `string` for text; blanks are null."""

    hashes: np.ndarray
    target: np.ndarray
    columns: pa.Table


def survey(connection: SnowflakeConnection, table: str, target: str) -> Table:
    """Look at a table without pulling it. Raises `Failure` naming what is wrong with it."""
    place = qualified(table)
    with connection.cursor() as cursor:
        try:
            described = cursor.describe(f"SELECT * FROM {place}")
        except Error as error:
            if error.errno == NOT_THERE:
                raise Failure(f"table {table} does not exist, or the user may not read it") from None
            raise Failure(f"table {table} cannot be read: {scrub(error.msg)}") from None
    types = {column.name: column.type_code for column in described}
    column = identifiers.find(target, list(types))
    if column is None:
        raise Failure(f"table {table} has no column {target}: it has {_listed(types)}")
    if KINDS.get(types[column]) != "number":
        what = KINDS.get(types[column], TYPES.get(types[column], "of another type"))
        raise Failure(f"target {column} of table {table} is not a number: it is {what}")
    kinds = {name: KINDS[code] for name, code in types.items() if code in KINDS and name != column}
    left_out = {name: TYPES.get(code, "another type") for name, code in types.items() if code not in KINDS}
    if not kinds:
        raise Failure(f"table {table} has no usable feature beside target {column}: {_listed(types)}")

    seen = Table(table, column, kinds, {}, left_out, 0, 0, math.nan, _now(connection))
    least = f"MIN({_value(column, 'number')})"  # of NaN and numbers, Snowflake holds NaN for the greatest
    counts = ", ".join([least, *(f"COUNT({quoted(name)})" for name in (column, *kinds))])
    try:
        numbers = _one(connection, f"SELECT COUNT(*), {counts} FROM {seen.sql}")
    except Error:  # no history: a view, a shared or transient table, or one made this moment
        seen = Table(table, column, kinds, {}, left_out, 0, 0, math.nan, None)
        numbers = ask(connection, table, f"SELECT COUNT(*), {counts} FROM {seen.sql}")[0]
    rows, labelled, *filled = (int(number) for number in (numbers[0], *numbers[2:]))
    if rows == 0:
        raise Failure(f"table {table} is empty")
    if labelled == 0:
        raise Failure(f"target {column} of table {table} is blank in all {rows} rows")
    filled_of = dict(zip(kinds, filled, strict=True))
    return Table(table, column, kinds, filled_of, left_out, rows, labelled, float(numbers[1]), seen.at)


def distinct(connection: SnowflakeConnection, table: Table, column: str, most: int) -> list[str | None]:
    """The distinct values of a text column as they are stored; `most` + 1 of them where there are more."""
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
    """The rows of one host, batch by batch; never more than a few batches in memory.

    `columns`: the kind (number, text, boolean) of each column wanted. Over `host` = 0 … `hosts` - 1
    every row of the table comes exactly once.
    """
    yield from _stream(connection, table, columns, split, f"{split.host(hosts)} = {host}")


def pull_held_out(
    connection: SnowflakeConnection, table: Table, columns: dict[str, str], splits: list[Split]
) -> Iterator[Batch]:
    """The rows that every one of `splits` holds out."""
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
            raise Failure(f"table {table.name} cannot be read: {scrub(error.msg)}") from None


def ask(connection: SnowflakeConnection, table: str, query: str) -> list[Any]:
    """All rows of a small result."""
    try:
        with connection.cursor() as cursor:
            return list(cursor.execute(query) or [])
    except Error as error:
        raise Failure(f"table {table} cannot be read: {scrub(error.msg)}") from None


def _one(connection: SnowflakeConnection, query: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchone()


def _now(connection: SnowflakeConnection) -> str:
    """Snowflake's clock, not this host's."""
    return _one(connection, "SELECT CURRENT_TIMESTAMP()")[0].isoformat()


def _value(name: str, kind: str) -> str:
    """SQL: a column as a feature. What a text means is up to `Preparation.encode` alone."""
    if kind == "text":
        return quoted(name)
    if kind == "boolean":
        return f"CAST(CAST({quoted(name)} AS NUMBER) AS FLOAT)"
    return f"CAST({quoted(name)} AS FLOAT)"


def _listed(names: Any, most: int = 20) -> str:
    shown = sorted(names)
    return ", ".join(shown[:most]) + (f" and {len(shown) - most} more" if len(shown) > most else "")
