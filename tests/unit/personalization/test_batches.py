"""Batches of the requests table's stream: reported failures, and redelivery by Lambda."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
from aws_lambda_powertools.utilities.batch.exceptions import BatchProcessingError

from local.emulator.streams import Rules, deliver
from personalization.aws import environment
from personalization.core.model import Request, Status
from personalization.handlers import notify, purge
from tests.support.personalization.world import CONTEXT, record

pytestmark = pytest.mark.filterwarnings("ignore:No application metrics")
MAPPING = {
    "FunctionResponseTypes": ["ReportBatchItemFailures"],
    "BisectBatchOnFunctionError": True,
    "MaximumRetryAttempts": 2,
}


def ready(name: str, number: int, before: str = "-") -> dict[str, Any]:
    return record(name, number, Status.READY, before)


class Notifications:
    """A topic that refuses messages about some models, and a record of the requests that are marked as
    notified."""

    def __init__(self, *refused: str) -> None:
        self.refused, self.asked, self.published = set(refused), Counter[str](), Counter[str]()

    def awaits_notification(self, request: Request) -> bool:
        self.asked[request.request] += 1
        return not self.published[request.request]

    def mark_notified(self, request: Request) -> None:
        pass

    def publish(self, subject: str, message: Mapping[str, str], attributes: Mapping[str, str]) -> None:
        if message["model"] in self.refused:
            raise OSError("no answer")
        self.published[message["model"]] += 1


@pytest.fixture
def notifications(monkeypatch: pytest.MonkeyPatch) -> Notifications:
    made = Notifications()
    monkeypatch.setattr(environment, "follow_ups", lambda: made)
    monkeypatch.setattr(environment, "topic", lambda: made)
    return made


def notified(*records: Any) -> Any:
    return notify.handler({"Records": list(records)}, CONTEXT)


def test_notify_reports_the_records_that_failed_and_tries_every_one(notifications: Notifications) -> None:
    # given a batch with a model whose notification fails
    notifications.refused = {"b"}
    # when the function gets the batch
    answer = notified(ready("a", 101), ready("b", 102), ready("c", 103))
    # then it reports that record, and the users of the other models are notified
    assert answer == {"batchItemFailures": [{"itemIdentifier": "102"}]}
    assert notifications.published == {"a": 1, "c": 1}


def test_notify_reports_nothing_of_a_batch_that_succeeded(notifications: Notifications) -> None:
    assert notified(ready("a", 101)) == {"batchItemFailures": []}


def test_notify_leaves_a_request_whose_status_did_not_change(notifications: Notifications) -> None:
    assert notified(ready("a", 101, before="READY")) == {"batchItemFailures": []}
    assert not notifications.asked


def test_notify_raises_when_every_record_failed(notifications: Notifications) -> None:
    notifications.refused = {"a", "b"}
    with pytest.raises(BatchProcessingError):
        notified(ready("a", 101), ready("b", 102))


def test_failing_record_does_not_repeat_earlier_records(notifications: Notifications) -> None:
    # given a batch whose third record always fails
    notifications.refused = {"c"}
    batch = [ready(name, number) for number, name in enumerate("abcde", start=101)]
    lost: list[str] = []

    def invoke(records: list[dict[str, Any]]) -> dict[str, Any]:
        try:
            return {"body": notified(*records)}
        except BatchProcessingError as error:
            return {"error": True, "body": {"errorMessage": str(error)}}

    def give_up(records: list[dict[str, Any]], result: dict[str, Any], condition: str) -> None:
        lost.extend(each["dynamodb"]["SequenceNumber"] for each in records)

    # when the stream delivers the batch with the settings of the stack's event source mapping
    assert deliver(batch, Rules.of(MAPPING), invoke, give_up, lambda record: 0.0, lambda attempt: True)
    # then the earlier records were processed once, and no user was notified twice
    assert (notifications.asked["a"], notifications.asked["b"]) == (1, 1)
    assert notifications.asked["c"] == 3
    assert notifications.published == {"a": 1, "b": 1, "d": 1, "e": 1}
    assert lost == ["103", "104", "105"]


def test_purge_reports_the_records_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    # given a deletion that fails for one model
    purged: list[str] = []

    def remove(backend: Any, accounts: Any, follow_ups: Any, request: Request) -> None:
        if request.model == "a":
            raise OSError("no answer")
        purged.append(request.model)

    for name in ("backend", "accounts", "follow_ups"):
        monkeypatch.setattr(environment, name, lambda: None)
    monkeypatch.setattr(purge, "purge", remove)
    # when the function gets a batch with this model and another one
    batch: list[Any] = [record("a", 101, Status.DELETED), record("b", 102, Status.DELETED)]
    answer = purge.handler({"Records": batch}, CONTEXT)
    # then it reports the record of the failed deletion, and the other model is purged
    assert answer == {"batchItemFailures": [{"itemIdentifier": "101"}]}
    assert purged == ["b"]
