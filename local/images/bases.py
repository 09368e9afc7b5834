"""Base images, and the packages that provide the same software on this machine: the rows of `bases.toml`."""

from __future__ import annotations

import functools
import json
import platform
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

TABLE = Path(__file__).with_name("bases.toml")


@dataclass(frozen=True)
class Base:
    """The row of `bases.toml` for the base image `reference`."""

    reference: str
    python: str
    packages: tuple[str, ...]
    prefix: str
    folders: frozenset[str]
    command: tuple[str, ...]
    environment: dict[str, str]

    @property
    def interpreter(self) -> str:
        """Python for the environment: this process's executable if it has the image's Python version, else
        that version."""
        return sys.executable if self._fits else self.python

    @property
    def fingerprint(self) -> str:
        """A text that changes if an image with this base would be built differently."""
        exact = platform.python_version() if self._fits else self.python
        row = [exact, self.packages, self.prefix, sorted(self.folders), self.command, self.environment]
        return json.dumps(row, sort_keys=True)

    @property
    def _fits(self) -> bool:
        return self.python == f"{sys.version_info.major}.{sys.version_info.minor}"


@functools.cache
def _rows() -> dict[str, dict]:
    return {name: row for row in tomllib.loads(TABLE.read_text()).values() for name in row["images"]}


@functools.cache
def _anywhere() -> dict[str, dict]:
    """Return the rows of images that any registry may have, by name and tag without the registry."""
    return {name.rpartition("/")[2]: row for name, row in _rows().items() if row.get("any_registry")}


def find(reference: str) -> Base:
    """Return the row of a base image that a Dockerfile names in FROM. Raises `LookupError` if there is
    none."""
    name, _, digest = reference.partition("@")
    row = _rows().get(reference) or (_rows().get(name) if digest and ":" in name else None)
    if row is None and "/" in name:
        row = _anywhere().get(name.rpartition("/")[2])
    if row is None:
        raise LookupError(
            f"the base image {reference} is not known: add it to local/images/bases.toml, with the packages "
            f"that provide the same software on this machine. Known base images: {', '.join(_rows())}"
        )
    return Base(
        reference=reference,
        python=row["python"],
        packages=tuple(row["packages"]),
        prefix=row["prefix"],
        folders=frozenset(row["folders"]),
        command=tuple(row["command"]),
        environment=dict(row["environment"]),
    )
