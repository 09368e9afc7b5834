"""Records of SageMaker's resources, in SQLite: what was answered as done is still there after a crash."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

Record = dict[str, Any]
AGAIN_SECONDS = 0.5
"""Between two tries to write what there is no room for."""

logger = logging.getLogger(__name__)


class StorageError(Exception):
    """A record could not be written: the disk is full."""


Method = TypeVar("Method", bound=Callable[..., Any])


def kept(method: Method) -> Method:
    """Raise `StorageError` to a caller whose write cannot be kept. What goes on by itself, as a job does,
    waits until there is room."""

    @functools.wraps(method)
    def write(scope: Scope, *given: Any) -> Any:
        while True:
            try:
                return method(scope, *given)
            except sqlite3.OperationalError as error:
                if scope.store.asked.by_a_caller:
                    raise StorageError(f"The record could not be written: {error}") from error
                logger.error("%s %s could not be written: %s", *given[:2], error)
                time.sleep(AGAIN_SECONDS)

    return write  # type: ignore[return-value]


class Asked(threading.local):
    """Whether this thread answers a caller, or holds what others wait for."""

    by_a_caller = False


class Store:
    """Records by account, Region, kind and name. Values are JSON; times are epoch seconds.

    Every call is one transaction, safe from any thread. `change` is the only way to alter a record
    from what it was, so that two threads never lose each other's update.

    `live` holds what goes with this process: jobs at work, containers, pacing. Guard it by `exclusive`.
    """

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        self.live: dict[tuple[str, ...], Any] = {}
        self.asked = Asked()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS records (account TEXT, region TEXT, kind TEXT, name TEXT, body TEXT,"
            " PRIMARY KEY (account, region, kind, name))"
        )

    def scoped(self, account: str, region: str) -> Scope:
        return Scope(self, account, region)

    def scopes(self) -> list[tuple[str, str]]:
        """Every (account, Region) that holds a record."""
        with self._lock:
            return self._db.execute("SELECT DISTINCT account, region FROM records").fetchall()

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Nothing else reads or writes within: for a decision that rests on several records."""
        with self._lock, self.answering():
            yield

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """Within, a write that cannot be kept raises `StorageError` at once."""
        before, self.asked.by_a_caller = self.asked.by_a_caller, True
        try:
            yield
        finally:
            self.asked.by_a_caller = before

    def reset(self) -> None:
        with self._lock:
            self._db.execute("DELETE FROM records")


class Scope:
    """The records of one account in one Region."""

    def __init__(self, store: Store, account: str, region: str):
        self.store, self._db, self._lock = store, store._db, store._lock
        self.account, self.region = account, region

    def get(self, kind: str, name: str) -> Record | None:
        with self._lock:
            row = self._db.execute(
                "SELECT body FROM records WHERE account=? AND region=? AND kind=? AND name=?",
                (self.account, self.region, kind, name),
            ).fetchone()
        return json.loads(row[0]) if row else None

    @kept
    def add(self, kind: str, name: str, record: Record) -> bool:
        """Store a new record; False, and nothing stored, when the name is taken."""
        with self._lock:
            cursor = self._db.execute(
                "INSERT OR IGNORE INTO records VALUES (?, ?, ?, ?, ?)",
                (self.account, self.region, kind, name, json.dumps(record)),
            )
            return cursor.rowcount == 1

    @kept
    def change(self, kind: str, name: str, edit: Callable[[Record], Record | None]) -> Record | None:
        """Apply `edit` to the stored record and return the new one.

        `edit` changes the record in place or returns another. None when there is no such record.
        """
        with self._lock:
            record = self.get(kind, name)
            if record is None:
                return None
            record = edit(record) or record
            self._db.execute(
                "UPDATE records SET body=? WHERE account=? AND region=? AND kind=? AND name=?",
                (json.dumps(record), self.account, self.region, kind, name),
            )
            return record

    @kept
    def remove(self, kind: str, name: str) -> bool:
        with self._lock:
            cursor = self._db.execute(
                "DELETE FROM records WHERE account=? AND region=? AND kind=? AND name=?",
                (self.account, self.region, kind, name),
            )
            return cursor.rowcount == 1

    def all(self, kind: str) -> Iterator[Record]:
        with self._lock:
            rows = self._db.execute(
                "SELECT body FROM records WHERE account=? AND region=? AND kind=? ORDER BY name",
                (self.account, self.region, kind),
            ).fetchall()
        return (json.loads(body) for (body,) in rows)
