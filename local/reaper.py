"""Ends the process groups of a cloud when the cloud ends, however it ends.

A process that is killed with SIGKILL cannot tidy up after itself. So the cloud starts this small
program and tells it, through a pipe, which process groups are its own. The kernel closes the pipe
when the cloud is gone, whatever the signal was; the program then ends every group that is left.
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
"""Between SIGTERM and SIGKILL."""


class Reaper:
    """The cloud's side of the pipe."""

    def __init__(self, keep: int) -> None:
        """`keep` is a file descriptor that stays open until the last group has ended: the cloud's lock
        file, so that the next cloud in the same place waits for what is left of this one."""
        self._lock = threading.Lock()
        # The program must outlive any signal to the cloud's own group: it gets a session of its own.
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=(keep,),
            env={"PATH": os.environ.get("PATH", "")},
        )

    def adopt(self, group: int) -> None:
        """End this process group with the cloud."""
        self._tell(f"+{group}\n")

    def release(self, group: int) -> None:
        """The group has ended; its number may be another's by now."""
        self._tell(f"-{group}\n")

    def end(self) -> None:
        """End every adopted group now, and wait until they are gone."""
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
    """Send a signal to a process group; False when nobody is left in it."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextlib.contextmanager
def ended_with_us() -> Iterator[Reaper]:
    """Yield a reaper that ends its process groups on exit, or when this process dies for any reason."""
    with tempfile.TemporaryFile() as kept:
        reaper = Reaper(kept.fileno())
        try:
            yield reaper
        finally:
            reaper.end()


def alive(group: int) -> bool:
    """Whether a process group has a member that runs. One that has ended but that nobody has waited
    for, as in a container whose first process does not, counts as gone where the system tells."""
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
    """SIGTERM, then SIGKILL to what is left after `grace` seconds."""
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
