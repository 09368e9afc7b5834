"""Progress output: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from typing import TextIO

QUIET_SECONDS = 10


class Progress:
    """Prints each step with its current activity and, when the step ends, its duration."""

    def __init__(self, stream: TextIO | None = None):
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self._detail = self._subject = ""
        self._told = 0.0
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Show `title` during the step, and the step's outcome and duration at its end."""
        started, self._detail = time.monotonic(), ""
        done = threading.Event()
        painter = threading.Thread(target=self._paint, args=(title, started, done), daemon=True)
        if self.live:
            painter.start()
        else:
            self._write(f"{title} ...\n")
        mark = "✗"
        try:
            yield
            mark = "✓"
        finally:
            done.set()
            if self.live:
                painter.join()
                self._write("\r\x1b[2K")
            self._write(f"  {mark} {title}  {time.monotonic() - started:.0f} s\n")

    def tell(self, line: str) -> None:
        """Show the current activity of the step. On a terminal, the line replaces the previous one.

        In other output, lines that begin with the same text before ` · ` are printed only every few seconds.
        """
        self._detail = line.strip()
        if self.live or not self._detail:
            return
        subject, now = self._detail.partition(" · ")[0], time.monotonic()
        if subject != self._subject or now - self._told > QUIET_SECONDS:
            self._subject, self._told = subject, now
            self._write(f"    {self._detail}\n")

    def hint(self, line: str) -> None:
        """Show the current activity as `tell` does, but only on a terminal."""
        if self.live:
            self.tell(line)

    def say(self, line: str = "") -> None:
        """Print a line."""
        self._write(f"{line}\n")

    def _paint(self, title: str, started: float, done: threading.Event) -> None:
        for frame in itertools.cycle("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"):
            line = f"  {frame} {title}  {time.monotonic() - started:.0f} s  {self._detail}"
            width = shutil.get_terminal_size().columns - 1
            self._write(f"\r\x1b[2K{line[:width]}")
            if done.wait(0.12):
                return

    def _write(self, text: str) -> None:
        with self._lock:
            self.stream.write(text)
            self.stream.flush()


class Lines:
    """A text stream that replaces standard error and passes each line to `Progress.tell`."""

    def __init__(self, progress: Progress):
        self._progress, self._rest = progress, ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._progress.tell(line)
        return len(text)

    def flush(self) -> None:
        pass
