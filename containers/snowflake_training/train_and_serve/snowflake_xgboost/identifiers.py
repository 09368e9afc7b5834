"""Names in Snowflake's own grammar: https://docs.snowflake.com/en/sql-reference/identifiers-syntax

The deployment's settings check the same names before a job starts, by the same expression.
"""

from __future__ import annotations

import re

IDENTIFIER = r'(?:[A-Za-z_][A-Za-z0-9_$]{0,254}|"(?:[^"\x00]|""){1,255}")'
NAME = 'a NAME of up to 255 letters, digits, _ and $, or any "name in double quotes"'
"""What an identifier is, as errors put it."""

_TABLE = re.compile(rf"{IDENTIFIER}(?:\.{IDENTIFIER}){{0,2}}")
_PAIR = re.compile(rf"({IDENTIFIER}) *, *({IDENTIFIER})")
_IDENTIFIER = re.compile(IDENTIFIER)


def identifier(text: str) -> str:
    """The name meant by an identifier: the one between its quotes, or in upper case. Raises `ValueError`."""
    if not _IDENTIFIER.fullmatch(text):
        raise ValueError
    return text[1:-1].replace('""', '"') if text.startswith('"') else text.upper()


def table(text: str) -> tuple[str, ...]:
    """One to three names, of `TABLE`, `SCHEMA.TABLE` or `DATABASE.SCHEMA.TABLE`. Raises `ValueError`."""
    if not _TABLE.fullmatch(text):
        raise ValueError
    return tuple(map(identifier, _IDENTIFIER.findall(text)))


def pair(text: str) -> tuple[str, str]:
    """The two identifiers of `LATITUDE,LONGITUDE`. Raises `ValueError`."""
    found = _PAIR.fullmatch(text)
    if not found:
        raise ValueError
    return found[1], found[2]


def quoted(name: str) -> str:
    """A name as SQL, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def find(wanted: str, names: list[str]) -> str | None:
    """The one of `names` meant by an identifier. Where none is, unquoted also means the only one that differs
    from it in case alone."""
    name = identifier(wanted)
    if name in names or wanted.startswith('"'):
        return name if name in names else None
    same = [each for each in names if each.upper() == name]
    return same[0] if len(same) == 1 else None
