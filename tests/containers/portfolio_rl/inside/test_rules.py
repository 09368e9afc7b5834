"""Rules as data. An error is one sentence that names the field and the allowed values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from portfolio_trader.rules import Cap, Rules, parse, read
from portfolio_trader.variants import VARIANTS
from toolkit.failure import FatalError

A = {"name": "A"}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ([], r"rules must be an object, got \[\]"),
        ({}, "rules.assets is missing"),
        ({"assets": A}, "assets must be a list, got "),
        ({"assets": []}, "assets must be a list of 1 to 100 assets, got 0"),
        (
            {"assets": [A], "cahs": 1},
            "rules.cahs is unknown, must be one of assets, constraints, cash, largest_order",
        ),
        ({"assets": [A], "cash": 0}, r"cash must be a number above 0 and up to 1e\+12, got 0"),
        ({"assets": [A], "cash": float("nan")}, "cash must be a number above 0 .* got nan"),
        ({"assets": [A], "cash": True}, "cash must be a number above 0 .* got True"),
        ({"assets": [A], "largest_order": 51}, "largest_order must be a whole number from 1 to 50, got 51"),
        ({"assets": [A, A]}, r"assets\[1\].name must differ from the other names, got 'A'"),
        ({"assets": [{"name": " "}]}, r"assets\[0\].name must be a non-empty string, got ' '"),
        ({"assets": [A | {"lot": 0}]}, r"assets\[0\].lot must be a whole number from 1 to 1000000, got 0"),
        ({"assets": [A | {"lot": 2.5}]}, r"assets\[0\].lot must be a whole number .* got 2.5"),
        ({"assets": [A | {"sell_fee": -1}]}, r"assets\[0\].sell_fee must be a number from 0 .* got -1"),
        ({"assets": [A | {"buy_rate": 0.6}]}, r"assets\[0\].buy_rate must be .* up to 0.5, got 0.6"),
        ({"assets": [A | {"fee": 1}]}, r"assets\[0\].fee is unknown, must be one of name, lot, "),
    ],
)
def test_wrong_asset_or_number_is_named(given: Any, sentence: str) -> None:
    with pytest.raises(FatalError, match=sentence):
        parse(given)


@pytest.mark.parametrize(
    ("constraint", "sentence"),
    [
        ("cap", r"constraints\[0\].kind must be one of cap, turnover, cash_floor, no_trade, got 'cap'"),
        ({"kind": "stop"}, r"constraints\[0\].kind must be one of .*, got 'stop'"),
        ({"kind": "cap", "share": 0.1}, r"constraints\[0\].assets is missing"),
        (
            {"kind": "cap", "share": 1.1, "assets": ["A"]},
            "share must be a number above 0 and up to 1, got 1.1",
        ),
        ({"kind": "cap", "share": 0, "assets": ["A"]}, "share must be a number above 0 and up to 1, got 0"),
        ({"kind": "cap", "share": 1, "assets": []}, "assets must name at least one of A"),
        ({"kind": "cap", "share": 1, "assets": ["B"]}, r"assets\[0\] must be one of A, got 'B'"),
        (
            {"kind": "cap", "share": 1, "assets": ["A"], "checked": "now"},
            "checked must be one of before, after, both, got 'now'",
        ),
        ({"kind": "turnover", "share": "all"}, "share must be a number above 0 and up to 100, got 'all'"),
        ({"kind": "cash_floor", "dollars": -1}, "dollars must be a number from 0 "),
        (
            {"kind": "no_trade", "assets": ["A"], "sides": ["hold"]},
            r"sides\[0\] must be one of buy, sell, got",
        ),
        ({"kind": "no_trade", "assets": ["A"], "until": 3}, r"constraints\[0\].until is unknown"),
    ],
)
def test_wrong_constraint_is_named(constraint: Any, sentence: str) -> None:
    with pytest.raises(FatalError, match=sentence):
        parse({"assets": [A], "constraints": [constraint]})


def test_rules_written_to_a_file_read_back_equal(rules: Rules, tmp_path: Path) -> None:
    path = tmp_path / "rules.json"
    path.write_text(json.dumps(rules.as_dict()))
    assert read(path) == rules


def test_file_that_is_no_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "rules.json").write_text("{")
    with pytest.raises(FatalError, match=r"rules\.json must be a JSON file with rules: "):
        read(tmp_path / "rules.json")


HUGE = "1" + "0" * 400


def with_constraint(text: str) -> str:
    return f'{{"assets": [{{"name": "A"}}], "constraints": [{text}]}}'


def with_name(text: str) -> str:
    return f'{{"assets": [{{"name": "{text}"}}]}}'


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (f'{{"assets": [{{"name": "A"}}], "cash": {HUGE}}}', r"^cash must be .*\.\.\. \(401 characters\)$"),
        (
            with_constraint(f'{{"kind": "turnover", "share": {HUGE}}}'),
            r"^constraints\[0\].share must be a number above 0 and up to 100, got 1",
        ),
        (with_constraint('{"kind": ["cap"]}'), r"constraints\[0\].kind must be one of .*, got \['cap'\]"),
        (with_constraint('{"kind": {}}'), r"constraints\[0\].kind must be one of .*, got \{\}"),
        (
            with_constraint('{"kind": "' + "x" * 10**6 + '"}'),
            r"constraints\[0\].kind must be one of .{1,250}$",
        ),
        (
            with_constraint('{"kind": "turnover", "share": 0.1, "share": 1}'),
            "the field 'share' occurs twice in an object",
        ),
        (
            with_constraint('{"kind": "turnover", "share": 0.1}], "constraints": ['),
            "the field 'constraints' occurs twice in an object",
        ),
        (
            with_constraint(", ".join(['{"kind": "turnover", "share": 1}'] * 1001)),
            "there must be at most 1000 constraints, got 1001",
        ),
        (
            with_constraint('{"kind": "no_trade", "assets": ["A", "A"]}'),
            r"constraints\[0\].assets\[1\] must differ from earlier entries, got 'A'",
        ),
        (with_name("A "), r"assets\[0\].name must have up to 100 printable characters .* got 'A '"),
        (with_name("\\ud800"), r"assets\[0\].name must have up to 100 printable characters"),
        (with_name("A" * 101), r"assets\[0\].name must have up to 100 printable characters"),
        (json.dumps({"assets": [{"name": str(each)} for each in range(101)]}), "1 to 100 assets, got 101"),
        ("[" * 100_000, r"rules.json must be a JSON file with rules: its values are nested too deeply"),
    ],
    ids=range(14),
)
def test_invalid_rules_file_is_refused_with_one_short_sentence(
    tmp_path: Path, text: str, sentence: str
) -> None:
    (tmp_path / "rules.json").write_text(text)
    with pytest.raises(FatalError, match=sentence) as caught:
        read(tmp_path / "rules.json")
    assert len(str(caught.value)) < 300


def test_constraints_of_the_sample_can_be_written_as_rules() -> None:
    strict = VARIANTS["strict"].rules
    assert parse(json.loads(json.dumps(strict.as_dict()))) == strict
    assert Cap(("3",), 1 / 3, "both") in strict.constraints
