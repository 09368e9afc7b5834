"""The record of what a local cloud answered: IAM actions and CloudFormation resource types.

Tests compare the record with `local/fidelity.toml`. Without `GROUNDPLAN_RECORD`, nothing is recorded.
"""

from __future__ import annotations

from pathlib import Path

VARIABLE = "GROUNDPLAN_RECORD"
"""Environment variable with the path of a file, to which the server appends the record."""

_file: Path | None = None
_answered: set[str] = set()


def start(path: str | None) -> None:
    """From now on, append each new name to the file `path` once; if `path` is None, record nothing."""
    global _file
    _file = Path(path) if path else None


def on() -> bool:
    return _file is not None


def answered(name: str) -> None:
    """Record that an action was performed, or that a resource of a type was created."""
    if _file is None or name in _answered:
        return
    _answered.add(name)
    with _file.open("a") as record:  # written at once, because a test may kill the server
        record.write(f"{name}\n")
