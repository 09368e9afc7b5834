"""Execution of a Dockerfile's RUN command, in a container of the image as it is before that instruction."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from local import namespaces
from local.images.recipe import Command

SECONDS = 600
"""Timeout of a command."""

SHOWN = 3000
"""Maximum characters of a failed command's output in the error message."""

_HOST = "build"


def run(command: Command, root: Path, environment: Path, prefix: str, scratch: Path) -> str:
    """Run the command, add the files that it writes to the image, and return its output.

    The command has only the image's variables, and no network except a private loopback interface, so that
    its output depends only on the image. Files below `namespaces_init.FOLDERS`, such as `/tmp`, are not kept.
    Raises `BuildError`. If the command failed, the error message has the end of the output.

    :param root: folder of the image's files
    :param environment: the image's Python environment
    :param prefix: path of the environment in the container
    :param scratch: path for a temporary folder, which must not exist
    """
    space = namespaces.layout(root, environment, prefix, None, scratch, _HOST, {_HOST: "127.0.0.1"})
    space |= {
        "network": "own",
        "kept": True,
        "command": [*command.words],
        "directory": command.workdir,
        "environment": {"TZ": "UTC", "HOME": "/root", "HOSTNAME": _HOST} | command.environment,
    }
    scratch.mkdir()
    try:
        output = _output(command, space)
        for inside, place in namespaces.written(space):
            _keep(place, inside, root)
        return output
    except (OSError, ValueError) as error:
        raise command.instruction.error(f"could not keep the files that the command wrote: {error}") from None
    finally:
        namespaces.remove(scratch)


def _output(command: Command, space: dict) -> str:
    """Run the command and return its output. Raises `BuildError` unless it exits with 0."""
    error = command.instruction.error
    try:
        process = namespaces.start(space, lambda pid: None)
    except OSError as reason:
        raise error(f"the command could not be started: the image has {reason}") from None
    try:
        output, _ = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise error(f"the command did not end within {SECONDS} seconds") from None
    finally:
        process.send_signal(namespaces.KILL)
        process.wait()
    if process.returncode:
        raise error(f"the command exited with {process.returncode}:\n{output.strip()[-SHOWN:]}")
    return output


def _keep(place: Path, inside: str, root: Path) -> None:
    here, entry = root / inside[1:], place.lstat()
    if place.is_dir() and not place.is_symlink():
        here.mkdir(parents=True, exist_ok=True)
        return
    here.parent.mkdir(parents=True, exist_ok=True)
    here.unlink(missing_ok=True)
    if place.is_symlink():
        target = place.readlink()
        leads = os.path.normpath(here.parent / target)
        if target.is_absolute() or not Path(leads).is_relative_to(root):
            raise ValueError(f"the link {inside} -> {target} must be relative and must not leave the image")
        here.symlink_to(target)
        return
    shutil.copyfile(place, here)
    here.chmod(0o555 if entry.st_mode & 0o100 else 0o444)
    os.utime(here, ns=(entry.st_atime_ns, entry.st_mtime_ns))
