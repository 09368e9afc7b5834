"""Names in Snowflake: the settings and the container accept and refuse the same names."""

from __future__ import annotations

from pathlib import Path

import pytest

from settings import SettingsError, load, snowflake_training
from snowflake_xgboost import identifiers
from snowflake_xgboost.settings import Settings
from toolkit.failure import FatalError

ROOT = Path(__file__).resolve().parents[3]

LONG = "A" * 255
QUOTES = '"' + '""' * 255 + '"'
NAMES = {
    "SALE_PRICE": "SALE_PRICE",
    "sale_price": "SALE_PRICE",
    "_x$1": "_X$1",
    '"Sale Price"': "Sale Price",
    '"sale_price"': "sale_price",
    '"a ""b"" c"': 'a "b" c',
    '""""': '"',
    '"3rd"': "3rd",
    '"Größe, m²"': "Größe, m²",
    '"a.b"': "a.b",
    '" "': " ",
    LONG: LONG,
    f'"{LONG}"': LONG,
    QUOTES: '"' * 255,
}
NO_NAMES = [
    "Sale Price",
    "3rd",
    "$x",
    "größe",
    "a-b",
    '"open',
    'open"',
    '""',
    '"a"b"',
    '"a\x00b"',
    "a;b",
    "A" * 256,
    '"' + "A" * 256 + '"',
]
TABLES = ["T", "s.T", "db.s.T", '"a.b"."c d".e', ".".join([QUOTES] * 3), *NAMES]
NO_TABLES = ["", ".", "a.", ".a", "a..b", "a.b.c.d", "a .b", "a. b", 'a."', *NO_NAMES]
PAIRS = ["A,B", "a , b", '"A, x","B"', ""]
NO_PAIRS = ["A", "A,", ",B", "A,B,C", "A B", '"A,B"']


def trainable(name: str, text: str) -> bool:
    """Return whether the container accepts this hyperparameter."""
    try:
        Settings.read({"secret": "s", "table": "T", "target": "Y", name: text})
    except FatalError:
        return False
    return True


def deployable(name: str, text: str) -> bool:
    path = f"hyperparameters.{name}" if name == "coordinates" else name
    try:
        load({f"snowflake_training.{path}": text})
    except SettingsError:
        return False
    return True


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("target", list(NAMES), [*NO_NAMES, ""]),
        ("table", TABLES, NO_TABLES),
        ("coordinates", PAIRS, NO_PAIRS),
    ],
)
def test_settings_and_container_accept_the_same_names(name: str, right: list[str], wrong: list[str]):
    for text in right:
        assert (deployable(name, text), trainable(name, text)) == (True, True), text
    for text in wrong:
        assert (deployable(name, text), trainable(name, text)) == (False, False), text


def test_settings_and_container_describe_names_alike():
    assert snowflake_training.NAME == identifiers.NAME


def test_unquoted_identifier_is_converted_to_upper_case():
    assert {text: identifiers.identifier(text) for text in NAMES} == NAMES
    assert identifiers.table('db."My Schema".t') == ("DB", "My Schema", "T")


def test_same_column_twice_is_no_pair_of_coordinates():
    assert not trainable("coordinates", 'a,"A"')
    assert trainable("coordinates", 'a,"a"')


def test_unquoted_name_finds_a_column_that_differs_in_case():
    assert identifiers.find("price", ["price", "PRICE"]) == "PRICE"
    assert identifiers.find("price", ["Price", "ROOMS"]) == "Price"
    assert identifiers.find("price", ["Price", "pricE"]) is None
    assert identifiers.find('"price"', ["Price"]) is None
