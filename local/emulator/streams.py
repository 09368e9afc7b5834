"""Delivery of a batch of stream records to a function, with retries and bisection as Lambda does."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from local.emulator import batches

Record = dict[str, Any]
Result = dict[str, Any]


@dataclass(frozen=True)
class Rules:
    """Failure handling of an event source mapping."""

    retries: float = math.inf
    """Maximum number of retries. By default, only `age` limits retries"""
    age: float = math.inf
    """Maximum age of a record in seconds, after which it is discarded"""
    bisect: bool = False
    partial: bool = False
    """Whether the function reports which records failed"""

    @classmethod
    def of(cls, mapping: dict[str, Any]) -> Rules:
        retries, age = (
            int(mapping.get(name, -1)) for name in ("MaximumRetryAttempts", "MaximumRecordAgeInSeconds")
        )
        return cls(
            retries if retries >= 0 else math.inf,
            age if age > 0 else math.inf,
            str(mapping.get("BisectBatchOnFunctionError", False)).lower() == "true",
            batches.reports(mapping),
        )

    def checkpoint(self, batch: list[Record], result: Result) -> int | None:
        """Return the index of the first record to deliver again; `len(batch)` if all have succeeded.

        Return None if the whole batch has failed: the invocation failed, or its response is invalid.
        """
        if result.get("error"):
            return None
        if not self.partial:
            return len(batch)
        numbers = [record["dynamodb"]["SequenceNumber"] for record in batch]
        try:
            failures = batches.failed(result.get("body"), numbers)
        except batches.InvalidAnswerError:
            return None
        return min((numbers.index(number) for number in failures), default=len(batch))


def deliver(
    batch: list[Record],
    rules: Rules,
    invoke: Callable[[list[Record]], Result],
    give_up: Callable[[list[Record], Result, str], None],
    age: Callable[[Record], float],
    pause: Callable[[int], bool],
) -> bool:
    """Deliver a batch until each record has succeeded or is discarded. Return False if `pause` returned
    False.

    :param give_up: `(records, result, condition)`: function that sends discarded records to the mapping's
        failure destination
    :param age: function that returns a record's age in seconds
    :param pause: `(n)`: function that waits before the n-th retry, and returns whether to continue
    """
    attempts = 0
    while batch:
        result = invoke(batch)
        checkpoint = rules.checkpoint(batch, result)
        if checkpoint:  # earlier records have succeeded
            batch, attempts = batch[checkpoint:], 0
            if not batch:
                return True
        old = next((at for at, record in enumerate(batch) if age(record) <= rules.age), len(batch))
        if old:
            give_up(batch[:old], result, "MaxRecordAgeExceeded")
            batch = batch[old:]
            continue
        # A batch with a checkpoint was already divided at the checkpoint. Bisection does not count as a retry
        if rules.bisect and len(batch) > 1 and checkpoint is None:
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
