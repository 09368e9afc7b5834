"""Ids that sort by the time they were made, and tell nothing else."""

from __future__ import annotations

import re
import secrets

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base32: no letter is mistaken for another."""
LENGTH = 26
_TIME_CHARACTERS = 10
_PATTERN = re.compile(f"[{ALPHABET}]{{{LENGTH}}}")


def new(now: float) -> str:
    """26 characters: `now` in milliseconds (10), then 80 random bits (16)."""
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
