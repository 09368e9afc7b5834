"""Format of times in rows and messages."""

from __future__ import annotations

from datetime import UTC, datetime


def iso(moment: float) -> str:
    """Format seconds since 1970 as ISO 8601 in UTC. The texts sort by time."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def seconds(text: str) -> float:
    """Return the seconds since 1970 of a time that `iso` formatted."""
    return datetime.fromisoformat(text).timestamp()
