"""Built images on this machine, each a folder named by the hash of what went into it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Image:
    """One built image.

    `folder` holds `root/` (the files the Dockerfile copied, under their paths inside the image),
    and `image.json` (entry point, command, environment, labels, working directory, architecture).
    """

    id: str
    folder: Path

    def launch(
        self, args: list[str], entrypoint: list[str] | None = None
    ) -> tuple[list[str], dict[str, str], Path]:
        """How `docker run [--entrypoint ENTRYPOINT...] IMAGE ARGS...` starts here: the command line, the
        image's own environment (paths inside the image turned into paths on this machine) and the working
        directory. `entrypoint` replaces the image's own, and its default command with it."""
        raise NotImplementedError
