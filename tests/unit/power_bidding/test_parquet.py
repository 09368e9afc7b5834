"""Parquet files of the runtime's own writer, read back by pyarrow."""

import io
import math

import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from power_feeds import parquet


def read(body: bytes) -> pyarrow.Table:
    return pyarrow.parquet.read_table(io.BytesIO(body))


def test_every_kind_of_column_is_read_back():
    columns = {
        "location": ["HB_NORTH", "", "Zürich"],
        "segment": [0, -1, 2**31 - 1],
        "made": parquet.Int64([2**40, -(2**40), 0]),
        "price": [31.2, -150.0, math.inf],
    }
    table = read(parquet.write(columns))
    assert table.to_pydict() == columns
    assert [str(field.type) for field in table.schema] == ["string", "int32", "int64", "double"]
    assert not any(field.nullable for field in table.schema)


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.text(), st.integers(-(2**31), 2**31 - 1), st.floats(allow_nan=False)), max_size=300)
)
def test_any_rows_are_read_back_and_bytes_repeat(rows):
    columns = {name: [row[at] for row in rows] for at, name in enumerate(("text", "number", "value"))}
    body = parquet.write(columns)
    assert body == parquet.write(columns)
    assert read(body).to_pydict() == columns


def test_more_columns_than_a_short_list_holds_are_read_back():
    columns = {f"column_{number}": [float(number)] for number in range(40)}
    assert read(parquet.write(columns)).to_pydict() == columns


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({}, "one length"),
        ({"a": [1], "b": [1, 2]}, "one length"),
        ({"a": [1, None]}, "column a must hold"),
        ({"a": [2**31]}, "column a: a number is out of range"),
    ],
)
def test_columns_that_parquet_cannot_hold_are_refused(columns, text):
    with pytest.raises(ValueError, match=text):
        parquet.write(columns)
