"""Failure reasons: one sentence each, without credentials."""

from __future__ import annotations

import re


class FatalError(Exception):
    """The job or the endpoint cannot continue. The message is the failure reason that SageMaker shows."""


class Stopped(BaseException):
    """SIGTERM was received. A `BaseException`, so that `except Exception` does not catch it."""


_PEM = re.compile(r"-----BEGIN [A-Z ]+-----.*?(-----END [A-Z ]+-----|$)", re.DOTALL)
_secrets: set[str] = set()


def keep_secret(*values: str | None) -> None:
    """Register secrets that `scrub` and `redact` replace by `***`."""
    _secrets.update(value for value in values if value)


def scrub(text: object) -> str:
    """Return `text` on one line, with registered secrets and PEM keys replaced by `***`."""
    return " ".join(redact(str(text)).split())


def redact(words: str) -> str:
    """Return `words` with registered secrets and PEM keys replaced by `***`."""
    # A PEM key spans several lines, so the text is not processed line by line.
    for secret in sorted(_secrets, key=len, reverse=True):
        words = words.replace(secret, "***")
    return _PEM.sub("***", words)
