"""Reads files from tar and zip archives, by name and up to a maximum size."""

from __future__ import annotations

import io
import tarfile
import zipfile
import zlib
from collections.abc import Collection
from typing import IO


def tar_files(body: bytes, names: Collection[str], most_bytes: int) -> dict[str, bytes]:
    """Return the files with these names in a gzipped tar archive. Names that the archive lacks are omitted.

    Raises `ValueError` if one of these files has more than `most_bytes`, or the archive cannot be read.
    """
    found = dict[str, bytes]()
    try:
        with tarfile.open(fileobj=io.BytesIO(body), mode="r:gz") as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                if name in names and member.isfile():
                    _bound(name, member.size, most_bytes)
                    content = archive.extractfile(member)
                    found[name] = content.read() if content else b""
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise ValueError(f"the archive cannot be read: {error}") from None
    return found


def zip_file(stream: IO[bytes], name: str, most_bytes: int) -> bytes | None:
    """Return the content of the file `name` in a zip archive; None if the archive has no such file.

    Raises `ValueError` if the file has more than `most_bytes`, or the archive cannot be read.
    """
    try:
        with zipfile.ZipFile(stream) as archive:
            if name not in archive.namelist():
                return None
            _bound(name, archive.getinfo(name).file_size, most_bytes)
            return archive.read(name)
    # zipfile raises NotImplementedError for an unknown compression, RuntimeError for an encrypted file
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"the archive cannot be read: {error}") from None


def _bound(name: str, size: int, most_bytes: int) -> None:
    if size > most_bytes:
        raise ValueError(f"{name} must have at most {most_bytes} bytes, got {size}")
