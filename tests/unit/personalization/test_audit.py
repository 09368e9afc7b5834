"""The audit in the fault benchmark finds lost, wrong and duplicate work."""

from __future__ import annotations

import io
import json
import tarfile
from typing import Any

import pytest

from benchmarks.personalization.faults.audit import Audit, JobRecord, judge_attempts, judge_ends
from benchmarks.personalization.faults.people import Person, Wish

ANN = Person("ann@example.org", "ann", "token")
TARGET = "adapters/ann/m1.tar.gz"


def wish(**others: Any) -> Wish:
    asked: dict[str, Any] = {"bad": False, "twice": False, "delete_at": "", "model": "m1"}
    asked["pictures"] = [b"one", b"two"]
    return Wish(number=1, person=ANN, started=True, **(asked | others))


def archive(weights: bytes) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        member = tarfile.TarInfo("adapter_model.safetensors")
        member.size = len(weights)
        tar.addfile(member, io.BytesIO(weights))
    return content.getvalue()


def ends(asked: Wish, status: str, keys: list[str], weights: bytes = b"", reason: str = "") -> Audit:
    found = Audit()
    states = {"m1": {"status": status, "reason": reason}} if status else {}
    judge_ends(found, [asked], states, keys, lambda names: [archive(weights) for _ in names])
    return found


def test_audit_of_a_complete_run_finds_no_errors() -> None:
    asked = wish()
    found = ends(asked, "READY", [TARGET], asked.adapter)
    assert (found.lost, found.wrong, found.left_behind, found.ends["READY"]) == ([], [], [], 1)


@pytest.mark.parametrize("status", ["QUEUED", "LAUNCHED", "TRAINING", "PREPARING", "CREATED", ""])
def test_audit_counts_an_unfinished_request_as_lost(status: str) -> None:
    assert len(ends(wish(), status, []).lost) == 1


def test_audit_counts_a_missing_and_another_users_adapter() -> None:
    assert len(ends(wish(), "READY", []).lost) == 1
    assert len(ends(wish(), "READY", [TARGET], b"of somebody else").wrong) == 1


def test_audit_counts_a_failure_without_a_valid_reason() -> None:
    assert len(ends(wish(), "FAILED", []).wrong) == 1
    assert ends(wish(), "FAILED", [], reason="interrupted").failed_for_faults == 1
    assert ends(wish(bad=True), "FAILED", [], reason="images[0] cannot be read").wrong == []
    assert len(ends(wish(), "FAILED", [], reason="images[0] cannot be read").wrong) == 1
    assert len(ends(wish(bad=True), "READY", [TARGET]).wrong) == 1


def test_audit_finds_data_of_a_deleted_model() -> None:
    gone = wish(deleted=True)
    assert ends(gone, "", []).left_behind == []
    keys = [TARGET, "uploads/ann/m1/00", "jobs/j/checkpoints/m1/result.json"]
    assert ends(gone, "", keys).left_behind == keys
    assert len(ends(gone, "READY", []).lost) == 1


def attempts(*jobs: JobRecord, done_in: tuple[str, ...] = ()) -> Audit:
    found = Audit()
    keys = [f"jobs/{name}/checkpoints/m1/result.json" for name in done_in]
    result = json.dumps({"status": "done"}).encode()
    judge_attempts(found, [wish()], list(jobs), keys, lambda names: [result for _ in names])
    return found


def job(name: str, status: str, began: float, ended: float) -> JobRecord:
    return JobRecord(name, status, began, ended, ["m1"])


def test_audit_accepts_a_retry_after_a_failed_job() -> None:
    found = attempts(job("a", "Failed", 0, 1), job("b", "Completed", 2, 3), done_in=("b",))
    assert (found.retries, found.duplicates, found.unexplained) == (1, [], [])


def test_audit_finds_a_duplicate_training() -> None:
    twice = attempts(job("a", "Failed", 0, 1), job("b", "Completed", 2, 3), done_in=("a", "b"))
    assert len(twice.duplicates) == 1
    at_once = attempts(job("a", "Failed", 0, 3), job("b", "Completed", 2, 4), done_in=("b",))
    assert len(at_once.duplicates) == 1
    again = attempts(job("a", "Completed", 0, 1), job("b", "Completed", 2, 3), done_in=("b",))
    assert len(again.unexplained) == 1
