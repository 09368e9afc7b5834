"""Records of SageMaker's resources in SQLite. Changes that were confirmed to a caller survive a crash."""

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
"""Seconds between two attempts to write a record when the disk is full."""

logger = logging.getLogger(__name__)


class StorageError(Exception):
    """A record could not be written: the disk is full."""


Method = TypeVar("Method", bound=Callable[..., Any])


def kept(method: Method) -> Method:
    """Handle failed writes of a method: raise `StorageError` in a thread that answers a caller.

    In other threads, such as a job's, retry until there is room on the disk."""

    @functools.wraps(method)
    def write(scope: Scope, *given: Any) -> Any:
        while True:
            try:
                return method(scope, *given)
            except sqlite3.OperationalError as error:
                if scope.store.asked.by_a_caller:
                    raise StorageError(f"The record could not be written: {error}") from error
                logger.error("Could not write the record %s %s; it will be retried: %s", *given[:2], error)
                time.sleep(AGAIN_SECONDS)

    return write  # type: ignore[return-value]


class Asked(threading.local):
    """Whether this thread answers a caller, or holds a lock that other threads wait for."""

    by_a_caller = False


class Store:
    """Records by account, Region, kind and name. Values are JSON; times are epoch seconds.

    Every call is one transaction, safe from any thread. Records are updated only with `change`, so that no
    thread overwrites another thread's update.

    `live` has the state of this process that is not stored: running jobs, containers, token buckets. Access
    it within `exclusive`.
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
        """Return every (account, Region) that has records."""
        with self._lock:
            return self._db.execute("SELECT DISTINCT account, region FROM records").fetchall()

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Exclude all other reads and writes, for decisions that depend on several records."""
        with self._lock, self.answering():
            yield

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """Have failed writes of this thread raise `StorageError` immediately."""
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
        """Store a new record. Return False, and store nothing, if the name is taken."""
        with self._lock:
            cursor = self._db.execute(
                "INSERT OR IGNORE INTO records VALUES (?, ?, ?, ?, ?)",
                (self.account, self.region, kind, name, json.dumps(record)),
            )
            return cursor.rowcount == 1

    @kept
    def change(self, kind: str, name: str, edit: Callable[[Record], Record | None]) -> Record | None:
        """Apply `edit` to the stored record and return the new one, or None if the record does not exist.

        :param edit: changes the record in place or returns another one
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
