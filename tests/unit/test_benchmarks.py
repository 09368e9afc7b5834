"""Shared functions of the benchmarks."""

from __future__ import annotations

import pytest

from benchmarks import __main__ as every
from tooling.table import print_table


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


def test_architecture_selects_all_its_benchmarks(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(every, "NAMES", ["a.one", "a.two", "ab.one"])
    assert every.chosen(["a", "a.two"]) == ["a.one", "a.two"]
    assert every.chosen(["ab.one"]) == ["ab.one"]
    assert every.chosen([]) == ["a.one", "a.two", "ab.one"]


def test_unknown_benchmark_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(every, "NAMES", ["a.one"])
    with pytest.raises(ValueError, match=r"the benchmark b does not exist, must be one of a\.one"):
        every.chosen(["b"])
