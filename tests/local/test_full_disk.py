"""A full disk: a write that cannot be stored is an error, and no confirmed write is lost."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.cloud import ACCOUNT, LocalCloud
from tests.support.clouds import client
from tests.support.waiting import until

ROOT = Path(__file__).resolve().parents[2]
SCENARIO = """
import contextlib, json, sys, threading
from pathlib import Path
from botocore.exceptions import ClientError
from local.cloud import LocalCloud
from tests.local.test_full_disk import WRITES, prepare, present
from tests.support.clouds import client
from tests.support.waiting import until

folder, said = Path(sys.argv[1]), {}
cloud, filler = LocalCloud(folder / "cloud"), folder / "filler"

def write(number):
    # Return the confirmed writes, and the error codes of the refused ones.
    kept, codes = [], []
    for service, call in WRITES.items():
        try:
            call(client(cloud, service), f"{service}-{number}")
            kept.append(f"{service}-{number}")
        except ClientError as error:
            code = error.response["Error"]["Code"]
            codes.append([service, code, error.response["ResponseMetadata"]["HTTPStatusCode"]])
    return kept, codes

def fill(until_full=None):
    with filler.open("ab", buffering=0) as file:
        with contextlib.suppress(OSError):
            while True:
                file.write(b"x" * (1 << 20))
                if until_full is not None:
                    until_full()

try:
    cloud.start()
    prepare(cloud)
    # with free space, then without, then with free space again
    said["with room"] = write(0)
    fill()
    said["full"] = write(1)
    said["reads"] = present(cloud)
    filler.unlink()
    said["room again"] = write(2)
    said["log"] = (cloud.home / "cloud.log").read_text()
    # with little free space: the server is killed right after it has confirmed a write
    said["at once"] = write(1000)[0]
    cloud.kill()
    cloud.start()
    said["kept"] = present(cloud)
    # writes while the disk is filled: the server is killed right after the last confirmation
    numbers, answered = iter(range(3, 1000)), []
    fill(lambda: answered.extend(write(next(numbers))[0]))
    cloud.kill()
    filler.unlink()
    cloud.start()
    said["answered"], said["there"] = answered, present(cloud)
finally:
    cloud.stop()
print(json.dumps(said))
"""

WRITES: dict[str, Callable[[Any, str], Any]] = {
    "dynamodb": lambda call, name: call.put_item(TableName="rows", Item={"id": {"S": name}}),
    "s3": lambda call, name: call.put_object(Bucket="full-disk", Key=name, Body=name.encode() * 100),
    "sqs": lambda call, name: call.create_queue(QueueName=name),
    "iam": lambda call, name: call.create_user(UserName=name),
    "sagemaker": lambda call, name: call.create_model_package_group(ModelPackageGroupName=name),
}


def prepare(cloud: LocalCloud) -> None:
    place = {"LocationConstraint": cloud.region}
    client(cloud, "s3").create_bucket(Bucket="full-disk", CreateBucketConfiguration=place)
    client(cloud, "dynamodb").create_table(
        TableName="rows",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )


def present(cloud: LocalCloud) -> list[str]:
    """Return the names of all stored writes. An object counts only if its content is complete."""
    s3 = client(cloud, "s3")
    rows = client(cloud, "dynamodb").scan(TableName="rows")["Items"]
    keys = [each["Key"] for each in s3.list_objects_v2(Bucket="full-disk").get("Contents", [])]
    whole = [
        key for key in keys if s3.get_object(Bucket="full-disk", Key=key)["Body"].read() == key.encode() * 100
    ]
    queues = client(cloud, "sqs").list_queues().get("QueueUrls", [])
    groups = client(cloud, "sagemaker").list_model_package_groups(MaxResults=100)
    return [
        *(row["id"]["S"] for row in rows),
        *whole,
        *(url.rpartition("/")[2] for url in queues),
        *(user["UserName"] for user in client(cloud, "iam").list_users()["Users"]),
        *(group["ModelPackageGroupName"] for group in groups["ModelPackageGroupSummaryList"]),
    ]


def names(number: int) -> set[str]:
    return {f"{service}-{number}" for service in WRITES}


@pytest.fixture(scope="module")
def full() -> Iterator[dict[str, Any]]:
    """Results of a scenario on a file system of 128 MiB, in a separate mount namespace."""
    with tempfile.TemporaryDirectory() as folder:
        mount = 'mount -t tmpfs -o size=128m none "$0" && exec "$@"'
        program = [sys.executable, "-c", SCENARIO, folder]
        # In the namespace, the folders above this user's cache belong to an owner that jsii cannot look up
        own = {"PYTHONPATH": os.pathsep.join(sys.path), "JSII_RUNTIME_PACKAGE_CACHE": "disabled"}
        done = subprocess.run(
            ["unshare", "-Urm", "sh", "-c", mount, folder, *program],
            cwd=ROOT,
            env=os.environ | own,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        yield json.loads(done.stdout)


def test_every_service_refuses_a_write_while_the_disk_is_full(full: dict[str, Any]) -> None:
    assert set(full["with room"][0]) == names(0)
    # when the disk is full; then each service returns an error that its SDK parses and does not retry
    kept, refused = full["full"]
    assert kept == []
    assert refused == [[service, "InsufficientStorage", 507] for service in WRITES]
    # and stored data can be read
    assert names(0) <= set(full["reads"])
    assert not names(1) & set(full["reads"])


def test_writes_succeed_when_the_disk_has_room_again(full: dict[str, Any]) -> None:
    assert set(full["room again"][0]) == names(2)
    assert f"was full: {len(WRITES)} writes were refused" in full["log"]


def test_confirmed_writes_survive_a_full_disk_and_a_crash(full: dict[str, Any]) -> None:
    assert set(full["at once"]) == names(1000) <= set(full["kept"])
    assert len(full["answered"]) > len(WRITES)
    assert set(full["answered"]) <= set(full["there"])


def test_unsaved_state_is_saved_when_writing_is_possible_again(tmp_path: Path) -> None:
    # given a cloud with free space, but a limit of a kilobyte per file
    with LocalCloud(tmp_path / "cloud") as cloud:
        prepare(cloud)
        pid = cloud.status()["pid"]
        before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (1024, resource.RLIM_INFINITY))

        def refused(service: str, name: str) -> str:
            try:
                WRITES[service](client(cloud, service), name)
            except ClientError as error:
                return error.response["Error"]["Code"]
            return ""

        # when state cannot be saved; then writes fail, and earlier writes are kept in memory
        answered: list[str] = []

        def write_until_refused() -> bool:
            name = f"user-{len(answered)}"
            code = refused("iam", name)
            answered.extend([] if code else [name])
            return code == "InsufficientStorage"

        until(write_until_refused, "the refusal of a write")
        # and writes of an object and a record that do not fit fail too
        assert refused("s3", "object" * 10) == "InsufficientStorage"
        assert refused("sagemaker", "group") == "InsufficientStorage"
        # when the limit is removed; then earlier confirmed writes are saved too
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
        until(lambda: not refused("iam", "last"), "a successful write")
        until(
            lambda: "can be saved again" in (cloud.home / "cloud.log").read_text(),
            "the log message about saved state",
        )
        cloud.crash()
        cloud.start()
        assert {*answered, "last"} <= set(present(cloud))


def test_object_too_large_to_write_fails_without_affecting_others(tmp_path: Path) -> None:
    # given a cloud with free space, but a limit of a megabyte per file
    with LocalCloud(tmp_path / "cloud") as cloud:
        prepare(cloud)
        s3 = client(cloud, "s3")
        pid = cloud.status()["pid"]
        before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
        # when an object is larger; then its write fails, and other objects are stored
        with pytest.raises(ClientError) as refused:
            s3.put_object(Bucket="full-disk", Key="large", Body=b"x" * (2 << 20))
        assert refused.value.response["Error"]["Code"] == "InsufficientStorage"
        for number in range(3):
            WRITES["iam"](client(cloud, "iam"), f"user-{number}")
        # when the limit is removed; then the large object can be written too, and is kept
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
        stored = cloud.home / "s3" / ACCOUNT / "full-disk"
        until(
            lambda: any(file.stat().st_size == 2 << 20 for file in stored.glob("*")),
            "the write of the object",
        )
        cloud.crash()
        cloud.start()
        assert s3.head_object(Bucket="full-disk", Key="large")["ContentLength"] == 2 << 20


def test_stack_is_saved_while_it_changes_without_requests(in_the_clouds_environment: Callable) -> None:
    program = """
from types import SimpleNamespace
import local.emulator.patches
from local.emulator import reach
changes = []
reach.install(SimpleNamespace(platform=None, changed=lambda: changes.append(1)))
from ministack.services.cloudformation import stacks
stacks._add_event("arn", "stack", "Group", "AWS::SageMaker::ModelPackageGroup", "CREATE_COMPLETE")
print(len(changes))
"""
    assert in_the_clouds_environment(program).stdout.split() == ["1"]
