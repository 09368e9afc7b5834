"""What went wrong, in one sentence that a person can act on and that holds no credential."""

from __future__ import annotations

import re
import traceback


class Failure(Exception):
    """A problem that the person who started the job can act on. Its text is the job's failure reason."""


class Stopped(BaseException):
    """SIGTERM came. Not an `Exception`, so that nothing on the way up takes it for a failure."""


_PEM = re.compile(r"-----BEGIN [A-Z ]+-----.*?(-----END [A-Z ]+-----|$)", re.DOTALL)
_secrets: set[str] = set()


def keep_secret(*values: str | None) -> None:
    """From now on `scrub` blots these values out."""
    _secrets.update(value for value in values if value)


def scrub(text: object) -> str:
    """`text` on one line, without the credentials, whatever a library put into its error."""
    return " ".join(_without_secrets(str(text)).split())


def trace() -> str:
    """The exception that is being handled, as Python tells it, without the credentials."""
    return _without_secrets(traceback.format_exc())


def _without_secrets(words: str) -> str:
    # A key goes over many lines, so this must see all of a text at once.
    for secret in sorted(_secrets, key=len, reverse=True):
        words = words.replace(secret, "***")
    return _PEM.sub("***", words)
