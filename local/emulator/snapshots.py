"""MiniStack's state on disk while it runs: it would save it only at a clean end."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from pathlib import Path

from local.emulator import hooks

PAUSE_SECONDS = 0.5
"""At least so long after a change before it is saved, so that a burst of changes is saved once."""
SHARE = 10
"""Saving takes at most about one part in so many of one core."""

logger = logging.getLogger(__name__)


class Snapshots:
    """Saves what changed, on a thread of its own; each service's file is replaced whole."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._changed, self._ended = threading.Event(), threading.Event()
        self._saved: dict[str, bytes] = {}
        self._saving = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="snapshots", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def changed(self) -> None:
        """Something may have changed; returns at once."""
        self._changed.set()

    def stop(self) -> None:
        """Save for the last time."""
        self._ended.set()
        self._changed.set()
        self._thread.join()
        self.save()

    def save(self) -> None:
        """Write every service's state that is not what was written last."""
        with self._saving:
            for name, state in hooks.states().items():
                encoded = hooks.encode_state(name, state)
                digest = hashlib.sha256(encoded).digest()
                if self._saved.get(name) == digest:
                    continue
                draft = self._folder / f"{name}.json.tmp"
                draft.write_bytes(encoded)
                draft.replace(self._folder / f"{name}.json")
                self._saved[name] = digest

    def _run(self) -> None:
        pause = PAUSE_SECONDS
        while not self._ended.is_set():
            self._changed.wait()
            if self._ended.wait(pause):
                return
            self._changed.clear()
            begun = time.monotonic()
            try:
                self.save()
            except Exception:
                logger.exception("The state could not be saved; it is tried again at the next change")
            pause = max(PAUSE_SECONDS, SHARE * (time.monotonic() - begun))
