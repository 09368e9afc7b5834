"""Conversion of requests to DynamoDB items and back, and concurrent writes."""

from __future__ import annotations

from dataclasses import MISSING, fields, replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from personalization.aws import tables
from personalization.aws.environment import read
from personalization.aws.store import DynamoStore, request_item, request_of
from personalization.aws.tables import CONFLICT_TRIES, Table, marshal, unmarshal, write
from personalization.core import ids, keys
from personalization.core.model import Job, JobStatus, Request, Status
from personalization.core.settings import JobSettings, Limits, Pace
from personalization.core.times import iso, seconds
from settings.personalization import REQUESTS_PER_JOB
from tests.support.personalization.settings import job_settings

REQUEST = Request(
    request="01m83jqav0ppw1v617gkkkdbxc",
    user="6f1c3a52-0d1e-4c7e-9c35-1b0f5a7d2e11",
    model="01m83jqav0ppw1v617gkkkdbxc",
    subject="cat",
    images=12,
    steps=0,
    estimate=203.25,
    status=Status.TRAINING,
    attempt=2,
    last_attempt=3,
    queued_at=1_795_416_632.16008,
    updated=1_795_416_700.0,
    job="g-01m83jqb217ewrch1hkw4ns6z5",
    previous=("g-01m83jqb217ewrch1hkw4ns6z4",),
    requeued_at=1_795_416_650.5,
)


def test_request_is_read_back_unchanged():
    assert request_of(unmarshal(marshal(request_item(REQUEST)))) == REQUEST


def test_return_to_the_queue_stores_its_time():
    # given a request whose job was interrupted
    store, client = store_of_tables()
    # when the request returns to the queue
    assert store.move(replace(REQUEST, requeued_at=0.0), replace(REQUEST, status=Status.QUEUED))
    # then the request's row has the time of the return
    (asked,) = client.calls
    first = asked["TransactItems"][0]["Update"]
    assert {"S": iso(REQUEST.requeued_at)} in first["ExpressionAttributeValues"].values()


def test_times_sort_as_texts():
    moments = [0.0, 1.000001, 999_999_999.5, 1e9, 1_795_416_632.16008, 1e11]
    assert sorted(map(iso, moments)) == [iso(moment) for moment in moments]
    assert [seconds(iso(moment)) for moment in moments] == pytest.approx(moments)
    assert iso(1e9) == "2001-09-09T01:46:40.000000Z"


def test_ids_sort_by_time_and_are_unique():
    made = [ids.new(1_795_416_632 + number / 1000) for number in range(2000)]
    assert made == sorted(made)
    assert len({ids.new(1e9) for _ in range(5000)}) == 5000
    assert all(ids.valid(name) for name in made)


@pytest.mark.parametrize(
    "text", ["", "a" * 25, "a" * 27, "A" * 26, "i" * 26, "../" + "a" * 23, "a" * 26 + "\n", "a" * 25 + "é"]
)
def test_invalid_id_is_detected(text):
    assert not ids.valid(text)


def test_request_of_result_accepts_keys_of_results_only():
    job, request = "g-01m83jqb217ewrch1hkw4ns6z5", "01m83jqav0ppw1v617gkkkdbxc"
    assert keys.request_of_result(keys.result(job, request)) == (job, request)
    for key in (
        "jobs/j/tasks.json",
        "jobs/j/checkpoints/r/progress.json",
        "jobs/j/checkpoints/r/x/result.json",
    ):
        assert keys.request_of_result(key) is None


# Writes


class Client:
    """A DynamoDB client that raises the scripted errors first, and then succeeds."""

    def __init__(self, *answers: ClientError):
        self.answers, self.calls = list(answers), []

    def _answer(self, **asked: Any) -> None:
        self.calls.append(asked)
        if self.answers:
            raise self.answers.pop(0)

    transact_write_items = put_item = update_item = delete_item = _answer


def cancelled(*reasons: str) -> ClientError:
    answer = {
        "Error": {"Code": "TransactionCanceledException", "Message": ""},
        "CancellationReasons": [{"Code": reason} for reason in reasons],
    }
    return ClientError(answer, "TransactWriteItems")  # type: ignore[arg-type]


def refused(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": ""}}, "PutItem")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables.time, "sleep", lambda seconds: None)


def parts(client: Any, count: int) -> list[Any]:
    return [Table(client, "t").put({"key": str(n)}, "attribute_not_exists(#key)") for n in range(count)]


def test_failed_condition_returns_its_index_and_is_not_retried():
    client: Any = Client(cancelled("None", "ConditionalCheckFailed", "None"))
    assert write(client, *parts(client, 3)) == {1}
    assert len(client.calls) == 1


@pytest.mark.parametrize(
    "reason", ["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"]
)
def test_transaction_conflict_is_retried(reason):
    client: Any = Client(cancelled("None", reason), cancelled(reason, "None"))
    assert not write(client, *parts(client, 2))
    assert len(client.calls) == 3


def test_persistent_transaction_conflict_raises_an_error():
    client: Any = Client(*[cancelled("TransactionConflict", "None")] * CONFLICT_TRIES)
    with pytest.raises(ClientError):
        write(client, *parts(client, 2))
    assert len(client.calls) == CONFLICT_TRIES


def test_single_part_is_written_without_a_transaction():
    client: Any = Client(refused("ConditionalCheckFailedException"))
    assert write(client, *parts(client, 1)) == {0}
    client: Any = Client(refused("TransactionConflictException"))
    assert not write(client, *parts(client, 1))
    assert list(client.calls[0])[:2] == ["TableName", "Item"]


@pytest.mark.parametrize("count", [1, 2])
def test_any_other_error_is_raised_at_once(count):
    client: Any = Client(refused("AccessDeniedException"))
    with pytest.raises(ClientError, match="AccessDenied"):
        write(client, *parts(client, count))
    assert len(client.calls) == 1


# Settings


def test_unknown_setting_is_named(monkeypatch):
    monkeypatch.setenv("LIMITS", '{"models": 3, "modles": 4}')
    with pytest.raises(ValueError, match=r"LIMITS has unknown fields: modles; allowed: .*models"):
        read(Limits, "LIMITS")


def test_read_names_the_fields_that_are_missing(monkeypatch):
    monkeypatch.setenv("PACE", '{"rate": 0.5, "burst": 2, "max_attempts": 3, "stale_seconds": 360}')
    with pytest.raises(ValueError, match=r"^PACE has missing fields: max_launches, tombstone_seconds$"):
        read(Pace, "PACE")


def test_read_names_the_variable_that_is_not_set(monkeypatch):
    monkeypatch.delenv("JOB_SETTINGS", raising=False)
    with pytest.raises(ValueError, match=r"^the environment variable JOB_SETTINGS is not set$"):
        read(JobSettings, "JOB_SETTINGS")


@pytest.mark.parametrize("kind", [JobSettings, Limits, Pace])
def test_settings_of_the_runtime_have_no_defaults(kind):
    for field in fields(kind):
        assert field.default is MISSING, field.name
        assert field.default_factory is MISSING, field.name


def test_full_job_is_claimed_in_one_transaction(monkeypatch):
    # given as many requests as the settings allow in one job, each of a different user
    store, client = store_of_tables()
    asked = [request(number) for number in range(REQUESTS_PER_JOB)]
    claimed = [replace(one, status=Status.LAUNCHED, job="job") for one in asked]
    # when a job claims all of them
    assert store.claim(job(asked), list(zip(asked, claimed, strict=True)))
    # then the transaction has at most 100 items, DynamoDB's limit, although each request also writes
    # its user's row
    [call] = client.calls
    assert len(call["TransactItems"]) == 1 + 2 * REQUESTS_PER_JOB <= 100
    assert 1 + 3 * REQUESTS_PER_JOB <= 100


def test_steps_follow_the_pictures_up_to_the_hyperparameter():
    def steps(per_image: int, most: str) -> int:
        return job_settings(steps_per_image=per_image, hyperparameters={"steps": most}).steps(images=5)

    assert steps(0, "400") == 400
    assert steps(60, "400") == 300
    assert steps(60, "200") == 200


def store_of_tables() -> tuple[DynamoStore, Client]:
    client: Any = Client()
    return DynamoStore(client, *(Table(client, name) for name in "umrj")), client


def request(number: int) -> Request:
    return Request(
        request=f"r{number}", user=f"u{number}", model=f"r{number}", subject="cat", images=3, steps=150,
        estimate=75.0, status=Status.QUEUED, attempt=1, last_attempt=3, queued_at=1e9, updated=1e9,
    )  # fmt: skip


def job(members: list[Request]) -> Job:
    return Job(
        job="job", status=JobStatus.CLAIMED, requests=tuple(one.request for one in members), hosts=2,
        spot=True, warm=False, attempt=1, not_before=1e9, updated=1e9,
    )  # fmt: skip
