"""Lambda's rules for a batch of stream records that a function fails on, without a cloud."""

from __future__ import annotations

from typing import Any

import pytest

from local.emulator.streams import Rules, deliver

DONE: dict[str, Any] = {"body": None}
ERROR = {"error": True, "body": {"errorMessage": "no"}}


def record(number: int, age: float = 0) -> dict[str, Any]:
    return {"dynamodb": {"SequenceNumber": str(number)}, "age": age}


class Function:
    """A function that fails on batches with a poisoned record, or reports the poisoned records."""

    def __init__(self, *poisoned: int, reports: bool = False):
        self.poisoned, self.reports = {str(each) for each in poisoned}, reports
        self.seen: list[list[str]] = []
        self.lost: list[tuple[list[str], str]] = []
        self.pauses: list[int] = []

    def run(self, batch: list[dict], **mapping: Any) -> bool:
        return deliver(batch, Rules.of(mapping), self.invoke, self.give_up, lambda r: r["age"], self.pause)

    def invoke(self, batch: list[dict]) -> dict[str, Any]:
        self.seen.append(numbers(batch))
        bad = [number for number in numbers(batch) if number in self.poisoned]
        if self.reports:
            return {"body": {"batchItemFailures": [{"itemIdentifier": each} for each in bad]}}
        return ERROR if bad else DONE

    def give_up(self, batch: list[dict], result: dict, condition: str) -> None:
        self.lost.append((numbers(batch), condition))

    def pause(self, attempt: int) -> bool:
        self.pauses.append(attempt)
        return len(self.pauses) < 20


def numbers(batch: list[dict]) -> list[str]:
    return [each["dynamodb"]["SequenceNumber"] for each in batch]


def test_batch_without_a_retry_limit_is_retried_until_delivery_stops() -> None:
    function = Function(1)
    assert not function.run([record(1)])
    assert len(function.seen) == 20
    assert not function.lost


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_limit_counts_the_attempts_after_the_first(retries: int) -> None:
    function = Function(1)
    assert function.run([record(1), record(2)], MaximumRetryAttempts=retries)
    assert function.seen == [["1", "2"]] * (retries + 1)
    assert function.lost == [(["1", "2"], "RetryAttemptsExhausted")]


def test_bisecting_discards_only_the_failing_record_and_keeps_the_order() -> None:
    function = Function(3)
    batch = [record(number) for number in range(6)]
    assert function.run(batch, MaximumRetryAttempts=0, BisectBatchOnFunctionError="true")
    assert function.lost == [(["3"], "RetryAttemptsExhausted")]
    done = [one for seen in function.seen if "3" not in seen for one in seen]
    assert done == ["0", "1", "2", "4", "5"]


def test_records_above_the_maximum_age_are_discarded() -> None:
    function = Function(1)
    assert function.run([record(1, age=70), record(2, age=10)], MaximumRecordAgeInSeconds=60)
    assert function.lost == [(["1"], "MaxRecordAgeExceeded")]
    assert function.seen == [["1", "2"], ["2"]]


REPORTS = {"FunctionResponseTypes": ["ReportBatchItemFailures"], "MaximumRetryAttempts": 1}


def test_deliver_repeats_no_record_before_the_lowest_reported() -> None:
    # given a function that reports two failed records, the later record first
    function = Function(4, 2, reports=True)
    batch = [record(number) for number in range(1, 6)]
    # when bisecting on errors is configured as well
    assert function.run(batch, **REPORTS, BisectBatchOnFunctionError=True)
    # then the batch is divided at the lowest reported record, and nowhere else
    assert function.seen == [["1", "2", "3", "4", "5"], ["2", "3", "4", "5"]]
    assert function.lost == [(["2", "3", "4", "5"], "RetryAttemptsExhausted")]


def test_deliver_gives_a_new_checkpoint_its_own_attempts() -> None:
    # given a function that fails once for the second record, and always for the third
    function = Function(2, 3, reports=True)
    original = function.invoke

    def invoke(batch: list[dict]) -> dict[str, Any]:
        answer = original(batch)
        function.poisoned.discard("2")
        return answer

    function.invoke = invoke
    assert function.run([record(1), record(2), record(3)], **REPORTS)
    assert function.seen == [["1", "2", "3"], ["2", "3"], ["3"]]
    assert function.lost == [(["3"], "RetryAttemptsExhausted")]


@pytest.mark.parametrize("halved", [False, True])
def test_deliver_treats_an_invalid_answer_as_a_failed_invocation(halved: bool) -> None:
    # given a function that reports a null identifier for one record
    function = Function()

    def invoke(batch: list[dict]) -> dict[str, Any]:
        function.seen.append(numbers(batch))
        bad = "2" in numbers(batch)
        return {"body": {"batchItemFailures": [{"itemIdentifier": None}] if bad else []}}

    function.invoke = invoke
    assert function.run(
        [record(1), record(2), record(3)], **REPORTS, BisectBatchOnFunctionError=str(halved).lower()
    )
    # then the whole batch, or its halves when bisecting is configured, are delivered again
    lost = ["2"] if halved else ["1", "2", "3"]
    assert function.lost == [(lost, "RetryAttemptsExhausted")]
    assert (["1"] in function.seen) == halved


def test_batch_is_retried_from_the_first_reported_failure() -> None:
    function = Function(2, reports=True)
    assert function.run([record(1), record(2), record(3)], **REPORTS)
    assert function.seen == [["1", "2", "3"], ["2", "3"]]
    assert function.lost == [(["2", "3"], "RetryAttemptsExhausted")]


@pytest.mark.parametrize(
    ("answer", "checkpoint"),
    [
        (None, 3),
        ("null", 3),
        ({}, 3),
        ({"batchItemFailures": []}, 3),
        ({"batchItemFailures": None}, 3),
        ({"batchItemFailures": [{"itemIdentifier": "1"}]}, 0),
        ('{"batchItemFailures": [{"itemIdentifier": "2"}]}', 1),
        ({"batchItemFailures": [{"itemIdentifier": "3"}, {"itemIdentifier": "2"}]}, 1),
        ("done", None),
        ([], None),
        (3, None),
        ({"batchItemFailures": {}}, None),
        ({"batchItemFailures": "2"}, None),
        ({"batchItemFailures": ["2"]}, None),
        ({"batchItemFailures": [{"itemIdentifier": ""}]}, None),
        ({"batchItemFailures": [{"itemIdentifier": None}]}, None),
        ({"batchItemFailures": [{"itemIdentifier": "4"}]}, None),
        ({"batchItemFailures": [{"itemIdentifier": "2"}, {"itemIdentifier": "4"}]}, None),
        ({"batchItemFailures": [{"item": "2"}]}, None),
    ],
)
def test_checkpoint_is_the_lowest_reported_record_or_none(answer: Any, checkpoint: int | None) -> None:
    batch = [record(1), record(2), record(3)]
    assert Rules.of(REPORTS).checkpoint(batch, {"body": answer}) == checkpoint


def test_checkpoint_ignores_reported_failures_when_not_configured() -> None:
    answer = {"batchItemFailures": [{"itemIdentifier": "1"}]}
    assert Rules.of({}).checkpoint([record(1), record(2)], {"body": answer}) == 2
