"""The archive that the multi-model endpoint loads: the same files make the same bytes."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping


def build(files: Mapping[str, bytes]) -> bytes:
    """A flat tar.gz of `files`, by name. No owner, no time, and sorted: equal content is equal bytes."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted(files):
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = len(files[name]), 0o644, 0
            tar.addfile(member, io.BytesIO(files[name]))
    # Weights hardly shrink: the fastest level is as good as the best.
    return gzip.compress(content.getvalue(), compresslevel=1, mtime=0)
