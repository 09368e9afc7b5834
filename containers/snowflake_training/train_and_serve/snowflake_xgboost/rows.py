"""Conversion of a request's rows, CSV or JSON, to the columns for `Preparation.encode`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from .preparation import CellError, Preparation

CSV, JSON = "text/csv", "application/json"

NUMBERS = {int, float, type(None)}


class RequestError(Exception):
    """The request is invalid. The message has the row, the column and what is allowed."""


def features(body: bytes, kind: str, preparation: Preparation) -> Any:
    """Return the features in a body of content type `kind`, float32 [rows, n]. Raises `RequestError`."""
    columns = (_from_csv if kind == CSV else _from_json)(body, preparation)
    if not next(iter(columns.values())):
        raise RequestError("the body has no rows")
    arrays = {name: _array(name, preparation.kinds[name], values) for name, values in columns.items()}
    try:
        return preparation.encode(pa.table(arrays))
    except CellError as error:
        raise _refusal(error.column, error.row, columns[error.column][error.row], error.expected) from None


def _from_csv(body: bytes, preparation: Preparation) -> dict[str, Sequence[Any]]:
    """Return the cells by column. If the first line has column names, cells are in the order of these names,
    otherwise in the order of `preparation.kinds`."""
    try:
        lines = [line or [""] for line in csv.reader(io.StringIO(body.decode("utf-8-sig")), strict=True)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise RequestError(f"the body is not CSV in UTF-8: {error}") from None
    names = list(preparation.kinds)
    if lines and _is_heading(lines[0], preparation):
        names, lines = _heading(lines[0], preparation), lines[1:]
    for number, line in enumerate(lines, start=1):
        if len(line) != len(names):
            raise RequestError(_wrong_length(number, line, names))
    return _columns(names, lines, preparation)


def _from_json(body: bytes, preparation: Preparation) -> dict[str, Sequence[Any]]:
    """Return the values by column. Each row is a list in the order of `preparation.kinds`, or a JSON
    object by column name."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the body is not JSON: {error}") from None
    rows = found.get("instances") if isinstance(found, dict) else None
    if not isinstance(rows, list):
        raise RequestError('the body must be {"instances": [row, ...]}')
    names, lines = list(preparation.kinds), []
    orders: dict[tuple[str, ...], list[str]] = {}
    for number, row in enumerate(rows, start=1):
        if isinstance(row, list):
            if len(row) != len(names):
                raise RequestError(_wrong_length(number, row, names))
            lines.append(row)
        elif isinstance(row, dict):
            keys = tuple(row)
            if keys not in orders:
                meant = _heading(list(keys), preparation, f"row {number}")
                key_of = dict(zip(meant, keys, strict=True))
                orders[keys] = [key_of[name] for name in names]
            lines.append([row[key] for key in orders[keys]])
        else:
            raise RequestError(f"row {number} must be a list or an object")
    return _columns(names, lines, preparation)


def _columns(names: list[str], lines: list[Any], preparation: Preparation) -> dict[str, Sequence[Any]]:
    cells = zip(*lines, strict=True) if lines else ([] for _ in names)
    by_name = dict(zip(names, cells, strict=True))
    return {name: by_name[name] for name in preparation.kinds}


def _array(name: str, kind: str, values: Sequence[Any]) -> pa.Array:
    """Return an Arrow column: `double` if the kind is not text and all values are numbers, else `string`."""
    types = set(map(type, values))
    try:
        if kind == "text":
            if float in types:  # pandas writes a missing text as NaN
                values = [None if value != value else value for value in values]
            return pa.array(values, pa.string())
        if types <= NUMBERS:
            if int in types:
                values = [None if value is None else float(value) for value in values]
            return pa.array(values, pa.float64())
        return pa.array(values if types == {str} else list(map(_as_text, values)), pa.string())
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        for row, value in enumerate(values):
            if not _fits(kind, value):
                expected = {"text": "text", "boolean": "true or false"}.get(kind, "a number")
                raise _refusal(name, row, value, expected) from None
        raise


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, (bool, int, float)):
        return repr(value)
    raise TypeError


def _fits(kind: str, value: Any) -> bool:
    """Return whether a value is valid in a column of this kind."""
    try:
        if isinstance(value, str):
            value.encode()  # raises for a lone surrogate, which JSON can contain and UTF-8 cannot
        elif value is not None:
            float(value)
            return kind != "text" and isinstance(value, (bool, int, float))
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def _refusal(name: str, row: int, value: Any, expected: str) -> RequestError:
    shown = repr(value)
    return RequestError(f"row {row + 1}, column {name}: {shown[:100]} is not {expected}")


def _is_heading(line: list[str], preparation: Preparation) -> bool:
    """Return whether most cells of a line are names of columns."""
    known = {name.upper() for name in preparation.kinds}
    return sum(cell.strip().upper() in known for cell in line) * 2 > len(line)


def _heading(cells: list[str], preparation: Preparation, where: str = "the heading") -> list[str]:
    """Return the model's column names for a line of names. Columns that the model does not use are allowed.

    Raises `RequestError`.
    """
    known = {name.upper(): name for name in (*preparation.kinds, *preparation.left_out, preparation.target)}
    names = []
    for cell in cells:
        name = cell if cell in known.values() else known.get(cell.strip().upper())
        if name is None:
            raise RequestError(
                f"{where} names {cell!r}, which is not a column of the model: {list(preparation.kinds)}"
            )
        if name in names:
            raise RequestError(f"{where} names {name} twice")
        names.append(name)
    if missing := [name for name in preparation.kinds if name not in names]:
        raise RequestError(f"{where} lacks {', '.join(missing)}")
    return names


def _wrong_length(number: int, row: list[Any], names: list[str]) -> str:
    values = "1 value" if len(row) == 1 else f"{len(row)} values"
    return f"row {number} has {values} where {len(names)} are expected: {', '.join(names)}"
