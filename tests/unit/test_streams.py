"""What becomes of a batch of stream records that a function fails: Lambda's rules, without a cloud."""

from __future__ import annotations

from typing import Any

import pytest

from local.emulator.streams import Rules, deliver

DONE: dict[str, Any] = {"body": None}
ERROR = {"error": True, "body": {"errorMessage": "no"}}


def record(number: int, age: float = 0) -> dict[str, Any]:
    return {"dynamodb": {"SequenceNumber": str(number)}, "age": age}


class Function:
    """Fails whatever holds a poisoned record, or reports the poisoned ones."""

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


def test_without_a_limit_it_is_tried_until_it_is_of_no_use() -> None:
    function = Function(1)
    assert not function.run([record(1)])
    assert len(function.seen) == 20
    assert not function.lost


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_a_limit_counts_the_attempts_after_the_first(retries: int) -> None:
    function = Function(1)
    assert function.run([record(1), record(2)], MaximumRetryAttempts=retries)
    assert function.seen == [["1", "2"]] * (retries + 1)
    assert function.lost == [(["1", "2"], "RetryAttemptsExhausted")]


def test_halving_leaves_only_the_poisoned_record_behind_and_keeps_the_order() -> None:
    function = Function(3)
    batch = [record(number) for number in range(6)]
    assert function.run(batch, MaximumRetryAttempts=0, BisectBatchOnFunctionError="true")
    assert function.lost == [(["3"], "RetryAttemptsExhausted")]
    done = [one for seen in function.seen if "3" not in seen for one in seen]
    assert done == ["0", "1", "2", "4", "5"]


def test_what_is_too_old_is_given_up_and_the_rest_goes_on() -> None:
    function = Function(1)
    assert function.run([record(1, age=70), record(2, age=10)], MaximumRecordAgeInSeconds=60)
    assert function.lost == [(["1"], "MaxRecordAgeExceeded")]
    assert function.seen == [["1", "2"], ["2"]]


REPORTS = {"FunctionResponseTypes": ["ReportBatchItemFailures"], "MaximumRetryAttempts": 1}


def test_reported_failures_come_again_from_the_first_on() -> None:
    function = Function(2, reports=True)
    assert function.run([record(1), record(2), record(3)], **REPORTS)
    assert function.seen == [["1", "2", "3"], ["2", "3"]]
    assert function.lost == [(["2", "3"], "RetryAttemptsExhausted")]


@pytest.mark.parametrize(
    ("answer", "first"),
    [
        (None, None),
        ({}, None),
        ({"batchItemFailures": []}, None),
        ('{"batchItemFailures": [{"itemIdentifier": "2"}]}', 1),
        ({"batchItemFailures": [{"itemIdentifier": "3"}, {"itemIdentifier": "2"}]}, 1),
        ({"batchItemFailures": [{"itemIdentifier": ""}]}, 0),
        ({"batchItemFailures": [{"item": "2"}]}, 0),
    ],
)
def test_an_answer_says_where_to_go_on(answer: Any, first: int | None) -> None:
    batch = [record(1), record(2), record(3)]
    assert Rules.of(REPORTS).first_failed(batch, {"body": answer}) == first
