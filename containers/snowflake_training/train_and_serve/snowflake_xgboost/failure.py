"""Readable failure reasons from XGBoost's errors."""

from __future__ import annotations

import re

from toolkit.failure import scrub

_STAMP = re.compile(r"^\[\d\d:\d\d:\d\d\] \S+:\d+: ")
"""Time and source line of an error in XGBoost. They differ between hosts and do not help a user."""


def reason_of(error: BaseException) -> str:
    """Return a library's exception as one sentence, the same on every host, without a C++ stack trace."""
    words = _STAMP.sub("", str(error)).partition("Stack trace:")[0]
    return f"{type(error).__name__}: {scrub(words)}"
