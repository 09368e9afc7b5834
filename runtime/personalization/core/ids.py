"""Random ids that sort by creation time."""

from __future__ import annotations

import re
import secrets

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base32, without letters that look alike."""
LENGTH = 26
_TIME_CHARACTERS = 10
_PATTERN = re.compile(f"[{ALPHABET}]{{{LENGTH}}}")


def new(now: float) -> str:
    """Return an id of 26 characters: 10 for `now` in milliseconds, 16 for 80 random bits."""
    return _encode(int(now * 1000), _TIME_CHARACTERS) + _encode(
        secrets.randbits(80), LENGTH - _TIME_CHARACTERS
    )


def valid(text: str) -> bool:
    return _PATTERN.fullmatch(text) is not None


def _encode(number: int, length: int) -> str:
    characters = []
    for _ in range(length):
        number, digit = divmod(number, len(ALPHABET))
        characters.append(ALPHABET[digit])
    return "".join(reversed(characters))
