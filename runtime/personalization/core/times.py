"""Times as rows and messages hold them."""

from __future__ import annotations

from datetime import UTC, datetime


def iso(moment: float) -> str:
    """Format seconds since 1970 as ISO 8601 in UTC. Texts sort as the moments do."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def seconds(text: str) -> float:
    """Invert `iso`."""
    return datetime.fromisoformat(text).timestamp()
