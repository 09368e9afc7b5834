"""Saving of MiniStack's state while MiniStack runs. By itself, MiniStack saves only at a regular shutdown."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from local.emulator import ministack

PAUSE_SECONDS = 0.5
"""Minimum delay before a change is saved, so that a burst of changes is saved once."""
SHARE = 10
"""Saving uses at most about 1/SHARE of the time of one CPU core."""

logger = logging.getLogger(__name__)


class SaveError(OSError):
    """A service's state could not be encoded or written."""


class Snapshots:
    """Saves changed state in a separate thread. All files of a save are replaced together."""

    def __init__(self, folder: Path, objects: Callable[[], None] = lambda: None):
        """:param objects: function that retries failed S3 writes, and raises `OSError` if one still fails"""
        self._folder, self._objects = folder, objects
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._changed, self._ended = threading.Event(), threading.Event()
        self._saved: dict[str, bytes] = {}
        self._saving = threading.Lock()
        self._begun = self._done = 0
        self.failure: SaveError | None = None
        """Why the last save failed; None if it succeeded."""
        self._thread = threading.Thread(target=self._run, name="snapshots", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def changed(self) -> None:
        """Request a save, because the state may have changed. Returns immediately."""
        self._changed.set()

    def stop(self) -> None:
        """Stop the thread and save for the last time."""
        self._ended.set()
        self._changed.set()
        self._thread.join()
        try:
            self.save()
        except SaveError:
            logger.exception("The last changes could not be saved and are lost")

    def save(self) -> None:
        """Write all changes so far, or wait for a save in another thread that includes them. Raises
        `SaveError`."""
        begun = self._begun
        with self._saving:
            if self._done > begun:
                return
            self._begun += 1
            try:
                self._write()
            except Exception as error:
                failure = error if isinstance(error, SaveError) else _save_error("The state", error)
                if self.failure is None:
                    cause = None if isinstance(failure.__cause__, OSError) else failure.__cause__
                    logger.error(
                        "The state in %s cannot be saved: %s", self._folder.parent, failure, exc_info=cause
                    )
                self.failure = failure
                raise failure from failure.__cause__
            if self.failure is not None:
                logger.error("The state in %s can be saved again", self._folder.parent)
            self.failure, self._done = None, self._begun
            try:
                self._objects()
            except OSError:  # the writer already got an error response; the write is retried
                self._changed.set()

    def _write(self) -> None:
        """Write the state of every changed service. Tries all services, then raises the first `SaveError`.

        All new files are written before the first old one is replaced. Otherwise a crash could leave the
        state of services from different times, such as a stack without its resources.
        """
        failures, drafts = [], {}
        for name, state in ministack.states().items():
            try:
                if digest := self._draft(name, state):
                    drafts[name] = digest
            except Exception as error:
                failures.append(_save_error(f"The state of {name}", error))
        for name, digest in drafts.items():
            try:
                self._file(name, ".tmp").replace(self._file(name))
                self._saved[name] = digest
            except OSError as error:
                self._file(name, ".tmp").unlink(missing_ok=True)
                failures.append(_save_error(f"The state of {name}", error))
        if failures:
            raise failures[0]

    def _draft(self, name: str, state: Any) -> bytes | None:
        """Write a service's state to a temporary file. Return its hash, or None if the state is unchanged."""
        encoded = ministack.encode_state(name, state)
        digest = hashlib.sha256(encoded).digest()
        if self._saved.get(name) == digest:
            return None
        draft = self._file(name, ".tmp")
        try:
            draft.write_bytes(encoded)
        except OSError:
            draft.unlink(missing_ok=True)  # free the space for other files
            raise
        return digest

    def _file(self, name: str, suffix: str = "") -> Path:
        return self._folder / f"{name}.json{suffix}"

    def _run(self) -> None:
        pause = PAUSE_SECONDS
        while not self._ended.is_set():
            if self.failure is None:
                self._changed.wait()
            if self._ended.wait(pause):
                return
            self._changed.clear()
            begun = time.monotonic()
            with contextlib.suppress(SaveError):  # logged once, and retried until it succeeds
                self.save()
            pause = max(PAUSE_SECONDS, SHARE * (time.monotonic() - begun))


def _save_error(what: str, error: Exception) -> SaveError:
    failure = SaveError(str(error) if isinstance(error, OSError) else f"{what} cannot be encoded: {error!r}")
    failure.__cause__ = error
    return failure
