"""A writer of small Parquet files. Lambda's Python has no pyarrow, and no maintained pure-Python writer
exists.

Format: https://github.com/apache/parquet-format (format version 1; Thrift's compact protocol). One row
group, one plain and uncompressed data page for each column, required fields only. Equal columns give equal
bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

MAGIC = b"PAR1"
CREATED_BY = "groundplan power_feeds"
_INT32, _INT64, _DOUBLE, _BYTE_ARRAY = 1, 2, 5, 6
_UTF8, _REQUIRED, _PLAIN, _RLE, _UNCOMPRESSED, _DATA_PAGE = 0, 0, 0, 3, 0, 0
# Types of Thrift's compact protocol
_I32, _I64, _BINARY, _LIST, _STRUCT = 5, 6, 8, 9, 12


class Int64(list[int]):
    """A column of 64-bit integers; plain lists of integers are 32-bit."""


def write(columns: Mapping[str, Sequence[str] | Sequence[int] | Sequence[float]]) -> bytes:
    """Return a Parquet file of `columns`: texts (UTF8), whole numbers (INT32; INT64 for an `Int64`) or floats
    (DOUBLE).

    An empty column is written as texts. Raises `ValueError` for columns of different lengths, of mixed types
    or with missing values: a missing number must be NaN.
    """
    lengths = {len(values) for values in columns.values()}
    if len(lengths) != 1:
        raise ValueError(f"columns must be of one length, got {sorted(lengths) or 'none'}")
    rows = lengths.pop()
    body, chunks, schema = bytearray(MAGIC), [], [_root(len(columns))]
    for name, values in columns.items():
        kind, encoded = _encoded(name, values)
        page = _page_header(rows, len(encoded)) + encoded
        chunks.append(_chunk(name, kind, rows, len(body), len(page)))
        schema.append(_element(name, kind))
        body += page
    total = len(body) - len(MAGIC)
    group = _Struct().list(1, _STRUCT, chunks).i64(2, total).i64(3, rows).done()
    footer = (
        _Struct()
        .i32(1, 1)
        .list(2, _STRUCT, schema)
        .i64(3, rows)
        .list(4, _STRUCT, [group])
        .text(6, CREATED_BY)
        .done()
    )
    return bytes(body + footer + struct.pack("<I", len(footer)) + MAGIC)


def _encoded(name: str, values: Sequence[str] | Sequence[int] | Sequence[float]) -> tuple[int, bytes]:
    kinds = {type(value) for value in values}
    if kinds <= {str}:
        texts = [str(value).encode() for value in values]
        return _BYTE_ARRAY, b"".join(struct.pack("<I", len(text)) + text for text in texts)
    if kinds == {int}:
        letter, kind = ("q", _INT64) if isinstance(values, Int64) else ("i", _INT32)
        try:
            return kind, struct.pack(f"<{len(values)}{letter}", *values)
        except struct.error as error:
            raise ValueError(f"column {name}: a number is out of range: {error}") from error
    if kinds <= {int, float}:
        return _DOUBLE, struct.pack(f"<{len(values)}d", *values)
    shown = ", ".join(sorted(kind.__name__ for kind in kinds))
    raise ValueError(f"column {name} must hold texts, whole numbers or floats, got {shown}")


def _root(columns: int) -> bytes:
    return _Struct().text(4, "schema").i32(5, columns).done()


def _element(name: str, kind: int) -> bytes:
    fields = _Struct().i32(1, kind).i32(3, _REQUIRED).text(4, name)
    return (fields.i32(6, _UTF8) if kind == _BYTE_ARRAY else fields).done()


def _page_header(rows: int, size: int) -> bytes:
    data = _Struct().i32(1, rows).i32(2, _PLAIN).i32(3, _RLE).i32(4, _RLE).done()
    return _Struct().i32(1, _DATA_PAGE).i32(2, size).i32(3, size).struct(5, data).done()


def _chunk(name: str, kind: int, rows: int, offset: int, size: int) -> bytes:
    meta = (
        _Struct()
        .i32(1, kind)
        .list(2, _I32, [_zigzag(_PLAIN)])
        .list(3, _BINARY, [_binary(name)])
        .i32(4, _UNCOMPRESSED)
        .i64(5, rows)
        .i64(6, size)
        .i64(7, size)
        .i64(9, offset)
        .done()
    )
    return _Struct().i64(2, offset).struct(3, meta).done()


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def _zigzag(value: int) -> bytes:
    return _varint(value << 1)  # nothing in the metadata is negative


def _binary(text: str) -> bytes:
    encoded = text.encode()
    return _varint(len(encoded)) + encoded


class _Struct:
    """A Thrift struct in the compact protocol. Fields must be added in ascending order."""

    def __init__(self) -> None:
        self.out, self.last = bytearray(), 0

    def _field(self, number: int, kind: int, encoded: bytes) -> _Struct:
        # the difference between two field numbers is always below 16 here
        self.out.append((number - self.last) << 4 | kind)
        self.out += encoded
        self.last = number
        return self

    def i32(self, number: int, value: int) -> _Struct:
        return self._field(number, _I32, _zigzag(value))

    def i64(self, number: int, value: int) -> _Struct:
        return self._field(number, _I64, _zigzag(value))

    def text(self, number: int, value: str) -> _Struct:
        return self._field(number, _BINARY, _binary(value))

    def struct(self, number: int, encoded: bytes) -> _Struct:
        return self._field(number, _STRUCT, encoded)

    def list(self, number: int, kind: int, items: Sequence[bytes]) -> _Struct:
        size = (
            bytes([len(items) << 4 | kind]) if len(items) < 15 else bytes([0xF0 | kind]) + _varint(len(items))
        )
        return self._field(number, _LIST, size + b"".join(items))

    def done(self) -> bytes:
        return bytes(self.out) + b"\0"
