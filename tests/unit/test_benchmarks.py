"""What the benchmarks share."""

from __future__ import annotations

import pytest

from benchmarks.table import print_table


def test_print_table_aligns_columns_under_their_heads(capsys: pytest.CaptureFixture[str]):
    print_table([("ours", 1, "a"), ("sample", 1000, "bc")], ["way", "rows", "file"], left=(0, 2))
    assert capsys.readouterr().out.splitlines() == [
        "  way     rows  file",
        "  ours       1  a",
        "  sample  1000  bc",
    ]


def test_print_table_prints_nothing_without_rows(capsys: pytest.CaptureFixture[str]):
    print_table([])
    assert capsys.readouterr().out == ""
