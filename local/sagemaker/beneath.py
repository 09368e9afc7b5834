"""Reading of a container's files without following links out of its folder.

The cloud can read files that the container cannot. Through a link in `/opt/ml`, a container could make the
cloud copy a file of the cloud's owner to S3, where the container's role can read it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

_OTHER = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.ENODEV, errno.EINVAL})
"""Errors that mean that the file does not exist or is not of the expected type. EINVAL: a link was replaced
between the kernel's checks of its type and its target."""


def stays(root: Path, path: Path) -> bool:
    """Return whether a path is below `root` after its links are followed."""
    try:
        return path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # a link to itself
        return False


@contextlib.contextmanager
def folder(root: Path, file: Path) -> Iterator[tuple[int, str]]:
    """Open the folder of a file below `root`. Yields the folder's descriptor and the file's name in it.

    Follows only links that stay below `root`, even if the container changes links meanwhile. Raises
    FileNotFoundError if the folder does not exist or is not below `root`, and another OSError if it cannot be
    opened.
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
            # A path component was replaced by a link meanwhile, or is not a folder
            raise FileNotFoundError(str(error)) from None
        assert found is not None  # noqa: S101 - narrows the type
        yield found, name


@contextlib.contextmanager
def held(root: Path, file: Path) -> Iterator[Path]:
    """Open a regular file below `root`. Yields a path that leads to exactly this file while it is open.

    Raises FileNotFoundError if it does not exist or is not regular, and another OSError if it cannot be
    opened.
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
