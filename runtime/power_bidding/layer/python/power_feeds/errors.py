"""Errors of a feed. The state machine's `Catch` refers to their class names."""

from __future__ import annotations


class FeedDownError(Exception):
    """The source does not answer: connection, 5xx, throttling, after the client's own retries."""


class FeedRefusedError(Exception):
    """The source refuses the credentials (401, 403)."""


class FeedMalformedError(Exception):
    """The answer cannot be read, or a quality check refuses it. The text names the check."""
