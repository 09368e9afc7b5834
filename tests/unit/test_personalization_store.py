"""Plain values into DynamoDB and back, and what a write does when others write too."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from personalization import ids, keys, tables
from personalization.model import Request, Status
from personalization.settings import JobSettings, Limits, read
from personalization.store import request_item, request_of
from personalization.tables import CONFLICT_TRIES, Table, iso, marshal, seconds, unmarshal, write

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
)


def test_a_request_comes_back_as_it_was_put():
    assert request_of(unmarshal(marshal(request_item(REQUEST)))) == REQUEST


def test_times_sort_as_texts():
    moments = [0.0, 1.000001, 999_999_999.5, 1e9, 1_795_416_632.16008, 1e11]
    assert sorted(map(iso, moments)) == [iso(moment) for moment in moments]
    assert [seconds(iso(moment)) for moment in moments] == pytest.approx(moments)
    assert iso(1e9) == "2001-09-09T01:46:40.000000Z"


def test_ids_sort_by_their_time_and_never_meet():
    made = [ids.new(1_795_416_632 + number / 1000) for number in range(2000)]
    assert made == sorted(made)
    assert len({ids.new(1e9) for _ in range(5000)}) == 5000
    assert all(ids.valid(name) for name in made)


@pytest.mark.parametrize(
    "text", ["", "a" * 25, "a" * 27, "A" * 26, "i" * 26, "../" + "a" * 23, "a" * 26 + "\n", "a" * 25 + "é"]
)
def test_what_is_no_id_is_seen_at_once(text):
    assert not ids.valid(text)


def test_only_a_tasks_own_result_is_one():
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
    """DynamoDB that answers as it is told, and then as if all were well."""

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


def parts(client: Client, count: int) -> list[Any]:
    return [Table(client, "t").put({"key": str(n)}, "attribute_not_exists(#key)") for n in range(count)]


def test_a_failed_condition_is_told_by_its_place_and_not_tried_again():
    client = Client(cancelled("None", "ConditionalCheckFailed", "None"))
    assert write(client, *parts(client, 3)) == {1}
    assert len(client.calls) == 1


@pytest.mark.parametrize(
    "reason", ["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"]
)
def test_what_two_writers_haste_causes_is_tried_again(reason):
    client = Client(cancelled("None", reason), cancelled(reason, "None"))
    assert not write(client, *parts(client, 2))
    assert len(client.calls) == 3


def test_a_conflict_that_does_not_end_is_an_error_and_not_a_failed_condition():
    client = Client(*[cancelled("TransactionConflict", "None")] * CONFLICT_TRIES)
    with pytest.raises(ClientError):
        write(client, *parts(client, 2))
    assert len(client.calls) == CONFLICT_TRIES


def test_one_part_is_written_by_itself():
    client = Client(refused("ConditionalCheckFailedException"))
    assert write(client, *parts(client, 1)) == {0}
    client = Client(refused("TransactionConflictException"))
    assert not write(client, *parts(client, 1))
    assert list(client.calls[0])[:2] == ["TableName", "Item"]


@pytest.mark.parametrize("count", [1, 2])
def test_any_other_error_is_raised_at_once(count):
    client = Client(refused("AccessDeniedException"))
    with pytest.raises(ClientError, match="AccessDenied"):
        write(client, *parts(client, count))
    assert len(client.calls) == 1


# Settings


def test_a_setting_that_is_not_known_is_named(monkeypatch):
    monkeypatch.setenv("LIMITS", '{"models": 3, "modles": 4}')
    with pytest.raises(ValueError, match=r"LIMITS: modles not known, allowed are: .*models"):
        read(Limits, "LIMITS")


def test_a_job_takes_no_more_requests_than_one_transaction_can_claim():
    settings = JobSettings(image="i", role="r", instance_type="t", hosts_max=20, tasks_per_host=20)
    assert 1 + 2 * settings.capacity <= 100


def test_steps_follow_the_pictures_up_to_the_jobs_own():
    def steps(**changes: Any) -> int:
        return JobSettings(image="i", role="r", instance_type="t", **changes).steps(images=5)

    assert steps(hyperparameters={"steps": "400"}) == 0, "the job's own"
    assert steps(hyperparameters={"steps": "400"}, steps_per_image=60) == 300
    assert steps(hyperparameters={"steps": "200"}, steps_per_image=60) == 200
    assert steps(steps_per_image=60) == 300
