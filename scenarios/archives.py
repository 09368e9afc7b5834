"""Tar archives from S3, read into memory. Only regular files are read; their number and size are limited."""

from __future__ import annotations

import io
import tarfile
import zlib

MOST_FILES = 10_000
MOST_BYTES = 2**30


class ArchiveError(Exception):
    """The archive is damaged, too large, or has an entry that is not allowed. The message has the reason."""


def files(body: bytes, most_bytes: int = MOST_BYTES, most_files: int = MOST_FILES) -> dict[str, bytes]:
    """Return the files of a tar archive by name, without a leading `./`. Raises `ArchiveError`."""
    found: dict[str, bytes] = {}
    left = most_bytes
    try:
        with tarfile.open(fileobj=io.BytesIO(body), mode="r|*") as tar:
            for number, member in enumerate(tar, start=1):
                left -= member.size
                if number > most_files or left < 0:
                    raise ArchiveError(
                        f"the archive must have at most {most_files} members and {most_bytes} bytes"
                    )
                if not (member.isfile() or member.isdir()):
                    raise ArchiveError(f"{member.name[:80]!r} is neither a file nor a folder")
                if content := tar.extractfile(member):
                    found[member.name.removeprefix("./")] = content.read()
    except (tarfile.TarError, EOFError, zlib.error, OSError, ValueError) as error:
        raise ArchiveError(f"{type(error).__name__}: {error}") from None
    return found
