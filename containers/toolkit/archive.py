"""Safe unpacking of a model archive: only files and folders, inside the target folder, limited in size."""

from __future__ import annotations

import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

MOST_MEMBERS = 10_000
MOST_BYTES = 4 * 2**30
"""Maximum total size of the unpacked files, in bytes. Models are far smaller, usually megabytes."""

LONGEST_PATH, LONGEST_NAME = 1024, 255
"""Maximum length in bytes of a member's path, and of each name in the path. Linux's file systems allow names
of 255 bytes."""

_METADATA_BYTES = 64 * 2**10


class ArchiveError(Exception):
    """The archive is damaged, too large, or has a member that is not allowed. The message has the reason."""


class _Member(tarfile.TarInfo):
    """A member whose metadata is limited in size. tarfile would read metadata of any size into memory."""

    def _proc_member(self, tar: Any) -> Any:
        plain = self.type in (*tarfile.REGULAR_TYPES, tarfile.DIRTYPE)
        if not plain and self.size > _METADATA_BYTES:
            raise ArchiveError(f"a header of {self.size} bytes is above the limit of {_METADATA_BYTES}")
        return super()._proc_member(tar)  # type: ignore[misc]


def unpack(path: Path, folder: Path, most_bytes: int = MOST_BYTES, most_members: int = MOST_MEMBERS) -> None:
    """Unpack a tar archive, compressed or not, into a folder that no other process writes to.

    tarfile's extraction filters are not enough: before Python 3.11.13, links in an archive can lead to files
    outside the folder (CVE-2025-4517), and the filters limit neither the number nor the size of members.

    Raises `ArchiveError`. Members that were unpacked before the error stay in the folder.
    """
    left = most_bytes
    try:
        with tarfile.open(path, mode="r|*", tarinfo=_Member) as tar:
            for number, member in enumerate(tar, start=1):
                target = folder / _inside(member)
                if number > most_members:
                    raise ArchiveError(f"it has more than {most_members} members")
                if member.isdir():
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                left -= member.size
                if left < 0:
                    raise ArchiveError(f"it unpacks to more than {most_bytes} bytes")
                target.parent.mkdir(parents=True, exist_ok=True)
                content = tar.extractfile(member)
                assert content is not None  # noqa: S101 - the member is a file
                with content, target.open("wb") as file:
                    shutil.copyfileobj(content, file)
                target.chmod(member.mode & 0o755 | 0o600)
    except (tarfile.TarError, EOFError, zlib.error, OSError, ValueError, RecursionError) as error:
        raise ArchiveError(f"{type(error).__name__}: {error}") from None


def _inside(member: tarfile.TarInfo) -> PurePosixPath:
    """Return a member's relative path.

    Raises `ArchiveError` if the member is neither a file nor a folder, or if its path is too long or leaves
    the target folder.
    """
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
