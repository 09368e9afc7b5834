"""Safe unpacking of a model's archive: only files and folders, inside the target, limited in size."""

from __future__ import annotations

import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

MOST_MEMBERS = 10_000
MOST_BYTES = 4 * 2**30
"""Maximum size of the unpacked files. Models are far smaller, in the order of megabytes."""

LONGEST_PATH, LONGEST_NAME = 1024, 255
"""Bytes. The second is the limit of Linux's file systems."""

_METADATA_BYTES = 64 * 2**10


class ArchiveError(Exception):
    """The archive is damaged or has a member that is not unpacked. The message names it."""


class _Member(tarfile.TarInfo):
    """A member with metadata of bounded size. tarfile reads metadata of any declared size into memory."""

    def _proc_member(self, tar: Any) -> Any:
        plain = self.type in (*tarfile.REGULAR_TYPES, tarfile.DIRTYPE)
        if not plain and self.size > _METADATA_BYTES:
            raise ArchiveError(f"a header of {self.size} bytes")
        return super()._proc_member(tar)  # type: ignore[misc]


def unpack(path: Path, folder: Path, most_bytes: int = MOST_BYTES, most_members: int = MOST_MEMBERS) -> None:
    """Unpack a tar archive, compressed or not, into a folder that no other process writes to.

    Before Python 3.11.13, tarfile's filters let members leave the folder through links (CVE-2025-4517), and
    they limit neither number nor size. Raises `ArchiveError`; members that were unpacked before stay.
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
    """Return the relative path of a member that is a file or folder. Raises `ArchiveError`."""
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
