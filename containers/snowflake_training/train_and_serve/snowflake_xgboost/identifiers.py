"""Names in Snowflake's grammar: https://docs.snowflake.com/en/sql-reference/identifiers-syntax

The names in a deployment's settings are checked with the same regular expression before a job starts.
"""

from __future__ import annotations

import re

IDENTIFIER = r'(?:[A-Za-z_][A-Za-z0-9_$]{0,254}|"(?:[^"\x00]|""){1,255}")'
NAME = 'a NAME of up to 255 letters, digits, _ and $, or any "name in double quotes"'
"""Description of an identifier in errors."""

_TABLE = re.compile(rf"{IDENTIFIER}(?:\.{IDENTIFIER}){{0,2}}")
_PAIR = re.compile(rf"({IDENTIFIER}) *, *({IDENTIFIER})")
_IDENTIFIER = re.compile(IDENTIFIER)


def identifier(text: str) -> str:
    """Return the name that an identifier denotes: the text in quotes, or the unquoted text in upper case.

    Raises `ValueError`.
    """
    if not _IDENTIFIER.fullmatch(text):
        raise ValueError
    return text[1:-1].replace('""', '"') if text.startswith('"') else text.upper()


def table(text: str) -> tuple[str, ...]:
    """Return the one to three names of `TABLE`, `SCHEMA.TABLE` or `DATABASE.SCHEMA.TABLE`.

    Raises `ValueError`.
    """
    if not _TABLE.fullmatch(text):
        raise ValueError
    return tuple(map(identifier, _IDENTIFIER.findall(text)))


def pair(text: str) -> tuple[str, str]:
    """Return the two identifiers of `LATITUDE,LONGITUDE`. Raises `ValueError`."""
    found = _PAIR.fullmatch(text)
    if not found:
        raise ValueError
    return found[1], found[2]


def quoted(name: str) -> str:
    """Return any name as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def find(wanted: str, names: list[str]) -> str | None:
    """Return the name in `names` that the identifier `wanted` matches; None if it matches none.

    An unquoted identifier also matches a name that differs only in case, if there is exactly one such name.
    """
    name = identifier(wanted)
    if name in names or wanted.startswith('"'):
        return name if name in names else None
    same = [each for each in names if each.upper() == name]
    return same[0] if len(same) == 1 else None
