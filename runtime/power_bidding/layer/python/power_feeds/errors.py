"""Errors of a feed. The state machine's `Catch` refers to their class names."""

from __future__ import annotations


class FeedDownError(Exception):
    """The source does not answer after the client's retries: connection error, 5xx or throttling."""


class FeedRefusedError(Exception):
    """The source rejects the credentials (401, 403)."""


class FeedMalformedError(Exception):
    """The source's response cannot be read, or fails a quality check, which the message names."""
