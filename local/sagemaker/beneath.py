"""A container's files, read by the cloud without following the container's links out of them.

The cloud may read what the container may not. A link that a container leaves in `/opt/ml` would make the
cloud copy a file of its owner's to S3, where the container's role can read it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

_OTHER = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.ENODEV, errno.EINVAL})
"""Errors that mean: the file does not exist, or is of another type. EINVAL is a link that stopped being one
between the kernel's two answers about it."""


def stays(root: Path, path: Path) -> bool:
    """Whether a path below `root`, with its links followed, is still there."""
    try:
        return path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # a link to itself
        return False


@contextlib.contextmanager
def folder(root: Path, file: Path) -> Iterator[tuple[int, str]]:
    """Hold the folder of a file below `root` open; yields its descriptor and the file's name in it.

    Links are followed if they stay below `root`, whatever the container changes meanwhile. Raises
    FileNotFoundError where there is no such folder, another OSError where it cannot be opened.
    """
    if not stays(root, file):
        raise FileNotFoundError(f"{file} leads out of {root}")
    with contextlib.ExitStack() as stack:
        try:
            top = root.resolve()
            *parts, name = file.resolve().relative_to(top).parts
            found = None
            for each in (top, *parts):
                flags = os.O_DIRECTORY | os.O_RDONLY | os.O_NONBLOCK | (os.O_NOFOLLOW if found else 0)
                found = os.open(each, flags, dir_fd=found)
                stack.callback(os.close, found)
        except (OSError, RuntimeError, ValueError) as error:
            if isinstance(error, OSError) and error.errno not in _OTHER:
                raise
            # A link came in between, or it is no folder at all.
            raise FileNotFoundError(str(error)) from None
        assert found is not None  # noqa: S101 - narrows the type
        yield found, name


@contextlib.contextmanager
def held(root: Path, file: Path) -> Iterator[Path]:
    """Hold a regular file below `root` open; yields a path that leads to that very file.

    Raises FileNotFoundError where there is no such file, another OSError where it cannot be opened.
    """
    with folder(root, file) as (inside, name):
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=inside)
        except OSError as error:
            if error.errno not in _OTHER:
                raise
            raise FileNotFoundError(str(error)) from None
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise FileNotFoundError(f"{file} is not a regular file")
            through = Path(f"/proc/self/fd/{descriptor}")
            yield through if through.exists() else file.resolve()
        finally:
            os.close(descriptor)
