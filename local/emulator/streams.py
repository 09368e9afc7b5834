"""How a batch of a stream's records is delivered to a function: retried, halved, given up, as Lambda does."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Record = dict[str, Any]
Result = dict[str, Any]


@dataclass(frozen=True)
class Rules:
    """What an event source mapping says of failures."""

    retries: float = math.inf
    """Attempts after the first; without a number until the records are too old."""
    age: float = math.inf
    """Seconds after which a record is given up."""
    bisect: bool = False
    partial: bool = False
    """The function reports which records failed."""

    @classmethod
    def of(cls, mapping: dict[str, Any]) -> Rules:
        retries, age = (
            int(mapping.get(name, -1)) for name in ("MaximumRetryAttempts", "MaximumRecordAgeInSeconds")
        )
        return cls(
            retries if retries >= 0 else math.inf,
            age if age > 0 else math.inf,
            str(mapping.get("BisectBatchOnFunctionError", False)).lower() == "true",
            "ReportBatchItemFailures" in (mapping.get("FunctionResponseTypes") or []),
        )

    def first_failed(self, batch: list[Record], result: Result) -> int | None:
        """The first record that has to come again, by the function's answer; None when all are done."""
        if result.get("error"):
            return 0
        if not self.partial:
            return None
        answer = result.get("body")
        if isinstance(answer, str):
            try:
                answer = json.loads(answer)
            except ValueError:
                return None
        failures = answer.get("batchItemFailures") if isinstance(answer, dict) else None
        if not failures:
            return None
        numbers = [record["dynamodb"]["SequenceNumber"] for record in batch]
        try:
            return min(numbers.index(failure["itemIdentifier"]) for failure in failures)
        except (KeyError, ValueError, TypeError):  # names none of these records: all failed
            return 0


def deliver(
    batch: list[Record],
    rules: Rules,
    invoke: Callable[[list[Record]], Result],
    give_up: Callable[[list[Record], Result, str], None],
    age: Callable[[Record], float],
    pause: Callable[[int], bool],
) -> bool:
    """Until each record of the batch is done or given up; False when `pause` says that it is of no use.

    `pause(n)` waits before the n-th attempt after the first. `give_up(records, result, condition)` tells the
    mapping's destination. `age(record)` in seconds.
    """
    attempts = 0
    while batch:
        result = invoke(batch)
        first = rules.first_failed(batch, result)
        if first is None:
            return True
        if first:  # what came before it is done, and this has failed for the first time
            batch, attempts = batch[first:], 0
        old = next((at for at, record in enumerate(batch) if age(record) <= rules.age), len(batch))
        if old:
            give_up(batch[:old], result, "MaxRecordAgeExceeded")
            batch = batch[old:]
            continue
        if rules.bisect and len(batch) > 1 and not first:  # counts as no attempt
            half = len(batch) // 2
            return all(
                deliver(part, rules, invoke, give_up, age, pause) for part in (batch[:half], batch[half:])
            )
        attempts += 1
        if attempts > rules.retries:
            give_up(batch, result, "RetryAttemptsExhausted")
            return True
        if not pause(attempts):
            return False
    return True
