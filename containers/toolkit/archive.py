"""A model's archive, unpacked: files and folders alone, in their folder, of bounded number and size."""

from __future__ import annotations

import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

MOST_MEMBERS = 10_000
MOST_BYTES = 4 * 2**30
"""What an archive may unpack to; a model of this container has megabytes."""

LONGEST_PATH, LONGEST_NAME = 1024, 255
"""Bytes; the latter is what Linux's file systems take."""

_METADATA_BYTES = 64 * 2**10


class ArchiveError(Exception):
    """The archive is not whole, or holds what is not unpacked; the text names it."""


class _Member(tarfile.TarInfo):
    """tarfile reads names and other metadata into memory, however long the archive says that they are."""

    def _proc_member(self, tar: Any) -> Any:
        plain = self.type in (*tarfile.REGULAR_TYPES, tarfile.DIRTYPE)
        if not plain and self.size > _METADATA_BYTES:
            raise ArchiveError(f"a header of {self.size} bytes")
        return super()._proc_member(tar)  # type: ignore[misc]


def unpack(path: Path, folder: Path, most_bytes: int = MOST_BYTES, most_members: int = MOST_MEMBERS) -> None:
    """Unpack a tar archive, compressed or not, into a folder that nobody else writes to.

    tarfile's own filters let members leave the folder by links before Python 3.11.13 (CVE-2025-4517), and
    bound nothing. Raises `ArchiveError`; what was unpacked before stays.
    """
    left = most_bytes
    try:
        with tarfile.open(path, mode="r|*", tarinfo=_Member) as tar:
            for number, member in enumerate(tar, start=1):
                target = folder / _inside(member)
                if number > most_members:
                    raise ArchiveError(f"more than {most_members} members")
                if member.isdir():
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                left -= member.size
                if left < 0:
                    raise ArchiveError(f"it unpacks to more than {most_bytes} bytes")
                target.parent.mkdir(parents=True, exist_ok=True)
                content = tar.extractfile(member)
                assert content is not None  # noqa: S101 - it is a file
                with content, target.open("wb") as file:
                    shutil.copyfileobj(content, file)
                target.chmod(member.mode & 0o755 | 0o600)
    except (tarfile.TarError, EOFError, zlib.error, OSError, ValueError, RecursionError) as error:
        raise ArchiveError(f"{type(error).__name__}: {error}") from None


def _inside(member: tarfile.TarInfo) -> PurePosixPath:
    """The path of a file or folder below where it is unpacked. Raises `ArchiveError`."""
    name = member.name if len(member.name) <= 80 else f"{member.name[:80]}…"
    if not (member.isfile() or member.isdir()):
        raise ArchiveError(f"{name!r} is neither a file nor a folder")
    path, encoded = PurePosixPath(member.name), member.name.encode(errors="surrogateescape")
    if path.is_absolute() or ".." in path.parts or b"\0" in encoded:
        raise ArchiveError(f"{name!r} is not a path inside of the archive")
    parts = encoded.split(b"/")
    if len(encoded) > LONGEST_PATH or max(map(len, parts)) > LONGEST_NAME:
        raise ArchiveError(f"{name!r} is longer than {LONGEST_PATH} bytes, or {LONGEST_NAME} in one part")
    return path
