"""Records that cannot be written: an error for a caller, and a wait for background jobs."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from local.sagemaker import registry  # noqa: F401 - registers its operations
from local.sagemaker.api import ApiError, Context, call
from local.sagemaker.store import Scope, StorageError, Store

LARGE = {"text": "x" * 1_000_000}


@pytest.fixture
def full(tmp_path: Path) -> Scope:
    """Records in a database that cannot grow."""
    store = Store(tmp_path / "records.sqlite")
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count={pages}")
    return store.scoped("000000000000", "eu-west-1")


def test_record_of_a_caller_raises_when_the_disk_is_full(full: Scope) -> None:
    with full.store.answering(), pytest.raises(StorageError, match="full"):
        full.add("kind", "name", LARGE)
    with full.store.exclusive(), pytest.raises(StorageError, match="full"):
        # the write fails at once and does not wait for space, because other threads wait for this thread
        full.add("kind", "name", LARGE)
    assert full.get("kind", "name") is None


def test_operation_returns_insufficient_storage_when_the_disk_is_full(full: Scope) -> None:
    context = Context(SimpleNamespace(settings={}), full, None)  # type: ignore[arg-type]

    def create_until_refused() -> None:
        for number in range(20):
            name = {"ModelPackageGroupName": f"group-{number}"}
            call(context, "CreateModelPackageGroup", name | {"ModelPackageGroupDescription": "x" * 1000})

    with pytest.raises(ApiError) as refused:
        create_until_refused()
    assert (refused.value.code, refused.value.status) == ("InsufficientStorage", 507)


def test_background_record_is_written_when_the_disk_has_room(full: Scope) -> None:
    # given a running job, and a full disk
    job = threading.Thread(target=full.add, args=("kind", "name", LARGE))
    job.start()
    job.join(0.2)
    assert job.is_alive()
    # when there is space again, then the record is written
    full.store._db.execute("PRAGMA max_page_count=100000")
    until = time.monotonic() + 60
    while job.is_alive() and time.monotonic() < until:
        job.join(0.1)
    assert full.get("kind", "name") == LARGE
