"""The archive that the multi-model endpoint loads. Equal files give equal bytes."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping


def build(files: Mapping[str, bytes]) -> bytes:
    """Return a flat tar.gz of `files`, sorted by name, without owners and times."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted(files):
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = len(files[name]), 0o644, 0
            tar.addfile(member, io.BytesIO(files[name]))
    # Weights hardly compress, so the fastest level is good enough.
    return gzip.compress(content.getvalue(), compresslevel=1, mtime=0)
