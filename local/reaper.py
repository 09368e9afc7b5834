"""Program that ends a cloud's process groups when the cloud's process ends, even if SIGKILL ended it.

A process that is killed with SIGKILL cannot clean up. So the cloud starts this small program and sends it,
through a pipe, the IDs of its process groups. The kernel closes the pipe when the cloud's process ends; the
program then ends every remaining group.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

GRACE_SECONDS = 5.0
"""Seconds between SIGTERM and SIGKILL."""


class Reaper:
    """Starts the program and sends it the IDs of process groups through the pipe."""

    def __init__(self, keep: int) -> None:
        """
        :param keep: file descriptor that stays open until the last group has ended. If it is the cloud's lock
            file, the next cloud in the same home waits for this cloud's remaining processes
        """
        self._lock = threading.Lock()
        # In a separate session, so that signals to the cloud's process group do not reach it
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=(keep,),
            env={"PATH": os.environ.get("PATH", "")},
        )

    def adopt(self, group: int) -> None:
        """Register a process group, to be ended when the cloud ends."""
        self._tell(f"+{group}\n")

    def release(self, group: int) -> None:
        """Stop tracking a group that has ended: its ID may be reused."""
        self._tell(f"-{group}\n")

    def end(self) -> None:
        """End every adopted group now, and wait until they have ended."""
        assert self._process.stdin is not None  # noqa: S101 - narrows the type
        with self._lock, contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None  # noqa: S101 - narrows the type
        with self._lock:
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()


def signal_group(group: int, number: int) -> bool:
    """Send a signal to a process group. Return False if the group has no process."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextlib.contextmanager
def ended_with_us() -> Iterator[Reaper]:
    """Yield a reaper that ends its process groups when the `with` block or this process ends."""
    with tempfile.TemporaryFile() as kept:
        reaper = Reaper(kept.fileno())
        try:
            yield reaper
        finally:
            reaper.end()


def alive(group: int) -> bool:
    """Return whether a process group has a running process.

    Zombie processes are not counted if `/proc` shows them: they remain in a container whose first process
    does not reap its children.
    """
    if not signal_group(group, 0):
        return False
    members = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, its_group = entry.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group:
                members.append(state)
    return any(state != "Z" for state in members) if members else True


def end_groups(groups: set[int], grace: float = GRACE_SECONDS) -> None:
    """Send SIGTERM to the groups, and SIGKILL to those that still run after `grace` seconds."""
    left = {group for group in groups if signal_group(group, signal.SIGTERM)}
    deadline = time.monotonic() + grace
    while left and time.monotonic() < deadline:
        time.sleep(0.02)
        left = {group for group in left if alive(group)}
    for group in left:
        signal_group(group, signal.SIGKILL)


def main() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line.startswith("+"):
            groups.add(group)
        else:
            groups.discard(group)
    end_groups(groups)


if __name__ == "__main__":
    main()
