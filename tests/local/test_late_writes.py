"""Writes that the disk refuses are retried later, separately, in order, and never over a newer state."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

WORLD = """
import asyncio, json, logging, os, sys
from pathlib import Path
from types import SimpleNamespace

folder, said, refuses, room = Path(sys.argv[1]), {}, [], 100
os.environ |= {"S3_PERSIST": "1", "S3_DATA_DIR": str(folder), "MINISTACK_ACCOUNT_ID": "111122223333"}
import local.emulator.patches
from local.emulator import disk, ministack, reach
full = lambda size: "full" if size > room else None
reach.install(SimpleNamespace(platform=None, changed=lambda: None, full=full))
from ministack.services import s3

logs = []
handler = logging.Handler()
handler.emit = lambda record: logs.append(record.getMessage())
logging.getLogger().addHandler(handler)

# The disk refuses a path that contains one of `refuses`.
write = s3._atomic_write
def atomic_write(path, data, **more):
    if any(each in path for each in refuses):
        raise OSError(28, "No space left on device")
    write(path, data, **more)
s3._atomic_write = atomic_write

def call(method, path, body=b"", **query):
    # Returns the version id in the response, and whether a write to the disk failed.
    lost = []
    token = disk._lost.set(lost)
    with ministack.scope("111122223333", "us-east-1"):
        status, headers, answer = asyncio.run(s3.handle_request(method, path, {}, body, query))
    disk._lost.reset(token)
    assert status < 300, answer
    return headers.get("x-amz-version-id"), bool(lost)

def retry():
    try:
        disk._pending.retry()
    except OSError:
        return False
    return True

def files():
    # The content of every file, by file name.
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            found[path.name] = path.read_text()
    return found

call("PUT", "/bucket")
def versioned():
    body = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    call("PUT", "/bucket", body, versioning="")
"""


@pytest.fixture
def told(in_the_clouds_environment: Callable[..., Any], tmp_path: Path) -> Callable[[str], dict[str, Any]]:
    """Return a function that runs a scenario with the emulator's S3 in another process, and returns the value
    of the scenario's variable `said`."""

    def run(scenario: str) -> dict[str, Any]:
        program = f"{WORLD}\n{scenario}\nprint(json.dumps(said))"
        return json.loads(in_the_clouds_environment(program, str(tmp_path)).stdout)

    return run


def test_failed_late_write_does_not_block_others(told: Callable[[str], dict[str, Any]]) -> None:
    # given two objects whose writes were refused; when only the second object can be written
    said = told("""
refuses += ["bucket"]
said["lost"] = [call("PUT", f"/bucket/{name}", b"x")[1] for name in ("stuck", "free")]
refuses[:] = ["stuck"]
said["all"] = [retry(), retry()]
said["written"] = sorted(name for name in files() if "." not in name)
said["logged"] = list(logs)
refuses.clear()
said["then"] = retry(), files()["stuck"]
""")
    # then the second object is written; the failure of the first object is logged once, and the first object
    # is written when this is possible again
    assert said["lost"] == [True, True]
    assert (said["all"], said["written"]) == ([False, False], ["free"])
    assert sum("bucket/stuck" in line for line in said["logged"]) == 1, said["logged"]
    assert said["then"] == [True, "x"]


def test_late_write_is_not_attempted_without_enough_space(told: Callable[[str], dict[str, Any]]) -> None:
    # given a refused object that is larger than the free space
    said = told("""
refuses += ["bucket"]
call("PUT", "/bucket/large", b"x" * 101)
refuses.clear()
said["small disk"] = retry(), list(files())
room = 101
said["larger disk"] = retry(), len(files()["large"])
""")
    # then the object uses no space until there is enough for all of it
    assert said == {"small disk": [False, []], "larger disk": [True, 101]}


def test_late_write_does_not_replace_a_newer_or_deleted_object(
    told: Callable[[str], dict[str, Any]],
) -> None:
    # given two refused writes of objects; then one object is written again, and the other is deleted
    said = told("""
refuses += ["bucket"]
for name in ("replaced", "deleted"):
    call("PUT", f"/bucket/{name}", b"older")
refuses[:] = ["deleted"]
said["replaced"] = call("PUT", "/bucket/replaced", b"newer")[1]
call("DELETE", "/bucket/deleted")
refuses.clear()
said["all"] = retry()
said["files"] = files()
""")
    # when writes are possible again, then neither refused write is repeated
    assert (said["replaced"], said["all"]) == (False, True)
    assert said["files"]["replaced"] == "newer"
    assert not [name for name in said["files"] if name.startswith("deleted")]


def test_version_is_written_before_the_object_that_replaced_it(
    told: Callable[[str], dict[str, Any]],
) -> None:
    # given an object in a versioned bucket that is overwritten while its older version cannot be copied
    said = told("""
versioned()
first, _ = call("PUT", "/bucket/key", b"older")
refuses += [".versions"]
_, said["lost"] = call("PUT", "/bucket/key", b"newer")
said["meanwhile"] = files()["key"]
refuses.clear()
said["all"] = retry()
said["version"] = (folder / ".versions" / "111122223333" / "bucket" / first / "key").read_text()
said["object"] = (folder / "111122223333" / "bucket" / "key").read_text()
""")
    # when the copy is possible again, then each version has its own content
    assert (said["lost"], said["meanwhile"], said["all"]) == (True, "older", True)
    assert (said["version"], said["object"]) == ("older", "newer")


def test_versions_and_markers_removed_meanwhile_are_not_written(
    told: Callable[[str], dict[str, Any]],
) -> None:
    # given a version and a delete marker whose writes were refused, and which were then removed
    said = told("""
versioned()
first, _ = call("PUT", "/bucket/version", b"older")
refuses += ["bucket"]
_, marked = call("DELETE", "/bucket/marker")
_, displaced = call("PUT", "/bucket/version", b"newer")
said["lost"] = [marked, displaced]
with ministack.scope("111122223333", "us-east-1"):
    marker = s3._object_versions[("bucket", "marker")][-1]["version_id"]
for name, version in (("marker", marker), ("version", first)):
    call("DELETE", f"/bucket/{name}", versionId=version)
refuses.clear()
said["all"] = retry()
said["files"] = {str(path.relative_to(folder)): "" for path in folder.rglob("*") if path.is_file()}
""")
    # when writes are possible again, then neither refused write is repeated
    assert (said["lost"], said["all"]) == ([True, True], True)
    assert sorted(said["files"]) == ["111122223333/bucket/version", "111122223333/bucket/version.meta.json"]


def test_deletion_waits_for_a_late_write_that_has_begun(told: Callable[[str], dict[str, Any]]) -> None:
    # given a slow late write of an object; when the object is deleted during this write
    said = told("""
import threading
refuses += ["bucket"]
call("PUT", "/bucket/key", b"older")
refuses.clear()
begun, deleting = threading.Event(), threading.Event()
quick = s3._atomic_write
def slow(path, data, **more):
    begun.set()
    deleting.wait(1)  # longer than the deletion takes, unless it waits
    quick(path, data, **more)
s3._atomic_write = slow
late = threading.Thread(target=retry)
late.start()
begun.wait()
call("DELETE", "/bucket/key")
deleting.set()
late.join()
said["files"] = list(files())
""")
    # then the object stays deleted
    assert said["files"] == []


def test_state_that_cannot_be_encoded_refuses_writes(
    told: Callable[[str], dict[str, Any]],
) -> None:
    # given a service whose state cannot be encoded, and a second service whose state can be encoded
    said = told("""
cloud = disk.Disk(folder / "home")
states = {"broken": {"value": object()}, "whole": {"value": 1}}
encode = ministack.encode_state
ministack.states = lambda: states
ministack.encode_state = lambda name, state: json.dumps(state).encode()
try:
    cloud.snapshots.save()
except OSError as error:
    said["raised"] = str(error)
said["refusal"] = cloud.refusal(0)
said["saved"] = sorted(path.name for path in (folder / "home" / "state").iterdir())
try:
    cloud.snapshots.save()
except OSError:
    pass
states["broken"] = {"value": 2}
cloud.snapshots.save()
said["then"] = cloud.refusal(0)
said["logged"] = [line for line in logs if "saved" in line]
""")
    # when state is saved, then saving fails, and writes are refused until the state can be encoded; the state
    # of the other service is saved
    assert said["raised"].startswith("The state of broken cannot be encoded: TypeError(")
    assert said["raised"] in said["refusal"]
    assert said["saved"] == ["whole.json"]
    assert said["then"] is None
    assert ["cannot be saved" in line for line in said["logged"]] == [True, False], said["logged"]
