"""Streaming extraction of tar archives to one folder: files and folders only, limited in size and number."""

from __future__ import annotations

import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

MOST_MEMBERS = 100_000

LONGEST_PATH, LONGEST_NAME = 1024, 255
"""Maximum bytes of a path, and of each of its parts (the limit of Linux file systems)."""

_METADATA_BYTES = 64 * 2**10


class ArchiveError(Exception):
    """The archive is damaged, or has a forbidden member, which the message names."""


class TooLargeError(ArchiveError):
    """The archive's content is larger than the allowed number of bytes."""


class _Member(tarfile.TarInfo):
    """A member with metadata of limited size: tarfile reads metadata into memory, whatever its size."""

    def _proc_member(self, tar: Any) -> Any:
        plain = self.type in (*tarfile.REGULAR_TYPES, tarfile.DIRTYPE)
        if not plain and self.size > _METADATA_BYTES:
            raise ArchiveError(f"it has a header of {self.size} bytes, more than {_METADATA_BYTES}")
        return super()._proc_member(tar)  # type: ignore[misc]


def unpack(stream: Any, folder: Path, most_bytes: float, most_members: int = MOST_MEMBERS) -> None:
    """Unpack a tar archive, compressed or not, into a folder that no other process writes to.

    The archive is streamed, so unpacking needs little memory, and disk space only for the archive's content.
    tarfile's own filters do not limit sizes, and before Python 3.11.13 members could leave the folder through
    links (CVE-2025-4517). Raises `ArchiveError`; files that were already unpacked stay.

    :param most_bytes: maximum size of all files
    :param most_members: maximum number of files and folders
    """
    left = most_bytes
    try:
        with tarfile.open(fileobj=stream, mode="r|*", tarinfo=_Member) as tar:
            for number, member in enumerate(tar, start=1):
                target = folder / _inside(member)
                if number > most_members:
                    raise ArchiveError(f"it has more than {most_members} members")
                if member.isdir():
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                left -= member.size
                if left < 0:
                    raise TooLargeError(f"it unpacks to more than {most_bytes:.0f} bytes")
                target.parent.mkdir(parents=True, exist_ok=True)
                content = tar.extractfile(member)
                assert content is not None  # noqa: S101 - it is a file
                with content, target.open("wb") as file:
                    shutil.copyfileobj(content, file)
                target.chmod(member.mode & 0o755 | 0o600)
    except (tarfile.TarError, EOFError, zlib.error, OSError, ValueError, RecursionError) as error:
        raise ArchiveError(f"{type(error).__name__}: {error}") from None


def _inside(member: tarfile.TarInfo) -> PurePosixPath:
    """Return the path of a member relative to the folder. Raises `ArchiveError` for a forbidden member."""
    name = member.name if len(member.name) <= 80 else f"{member.name[:80]}…"
    if not (member.isfile() or member.isdir()):
        raise ArchiveError(f"{name!r} is neither a file nor a folder")
    path, encoded = PurePosixPath(member.name), member.name.encode(errors="surrogateescape")
    if path.is_absolute() or ".." in path.parts or b"\0" in encoded:
        raise ArchiveError(f"{name!r} is not a path inside of the archive")
    parts = encoded.split(b"/")
    if len(encoded) > LONGEST_PATH or max(map(len, parts)) > LONGEST_NAME:
        raise ArchiveError(
            f"{name!r} must have at most {LONGEST_PATH} bytes, {LONGEST_NAME} between two slashes"
        )
    return path
