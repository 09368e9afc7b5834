"""Records of SageMaker's resources, in SQLite: what was answered as done is still there after a crash."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Record = dict[str, Any]


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
        with self._lock:
            yield

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

    def add(self, kind: str, name: str, record: Record) -> bool:
        """Store a new record; False, and nothing stored, when the name is taken."""
        with self._lock:
            cursor = self._db.execute(
                "INSERT OR IGNORE INTO records VALUES (?, ?, ?, ?, ?)",
                (self.account, self.region, kind, name, json.dumps(record)),
            )
            return cursor.rowcount == 1

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
