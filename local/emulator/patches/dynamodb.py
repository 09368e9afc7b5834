"""DynamoDB streams: persistence, and delivery to Lambda."""

from __future__ import annotations

import contextvars
import copy
import threading
import time
from collections.abc import Callable

from local import faults
from local.emulator import streams
from local.emulator.ministack import scope
from local.emulator.reach import Cloud, hook, replace, touch
from local.sagemaker.quotas import setting


@hook
def streams_outlive_the_server(cloud: Cloud) -> None:
    """MiniStack persists the read positions of streams but not their records. After a restart, it would skip
    as many new records as were read before."""
    records = touch("services.dynamodb._stream_records")
    trimmed = touch("services.dynamodb._stream_trimmed")
    positions = touch("services.lambda_svc._dynamodb_stream_positions")
    mappings = touch("services.lambda_svc._iter_all_esms")
    kept = {"stream_records": records, "stream_trimmed": trimmed}

    def read(place: tuple[str, str, str]) -> int | None:
        """Return the position up to which all mappings have read a table's stream; None if no mapping reads
        it."""
        account, region, table = place
        of = f"arn:aws:dynamodb:{region}:{account}:table/{table}/stream/"
        ours = [each for *_, each in mappings() if each.get("EventSourceArn", "").startswith(of)]
        return min((positions.get_scoped(account, region, one["UUID"], 0) for one in ours), default=None)

    @replace("services.dynamodb.get_state")
    def get_state(original: Callable) -> dict:
        state = original() | {name: type(value)() for name, value in kept.items()}
        for place, stream in records.all_items():
            begins = trimmed.get_scoped(*place, 0)
            done = max(0, (read(place) or begins) - begins)  # leave out records that all mappings have read
            state["stream_records"].set_scoped(*place, copy.deepcopy(stream[done:]))
            state["stream_trimmed"].set_scoped(*place, begins + min(done, len(stream)))
        return state

    @replace("services.dynamodb.load_persisted_state", "data")
    def load(original: Callable, data: dict) -> None:
        original(data)
        for name, value in kept.items():
            value.update((data or {}).get(name, {}))


class Delivery:
    """Poller of streams for event source mappings. Each event source mapping with records to deliver gets a
    thread."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._mappings = touch("services.lambda_svc._iter_all_esms")
        self._there = touch("services.lambda_svc._esms")
        self._filtered = touch("services.lambda_svc._apply_filter_criteria", "records", "esm")
        self._execute = touch("services.lambda_svc._execute_function", "func", "event")
        self._function = touch("services.lambda_svc._get_func_record_for_qualifier", "name", "qualifier")
        self._table = touch("services.lambda_svc._dynamodb_stream_table_from_arn_spec", "spec")
        self._put_aside = touch(
            "services.lambda_svc._send_ddb_stream_failure_record",
            "esm", "func_rec", "batch", "stream_arn", "result", "condition",
        )  # fmt: skip
        self._positions = touch("services.lambda_svc._dynamodb_stream_positions")
        self._wake = touch("core.concurrency.esm_wake")
        self._tables = touch("services.dynamodb._tables")
        self._begin = touch("services.dynamodb.stream_start_position", "table_name")
        self._end = touch("services.dynamodb.stream_end_position", "table_name")
        self._since = touch("services.dynamodb.stream_records_since", "table_name", "position", "limit")
        self._parsed = touch("core.arn.parse_arn", "value")
        self._busy: set[str] = set()
        self._waiting: dict[str, float] = {}

    def poll(self) -> bool:
        """Start a thread for each mapping that has a batch ready.

        Returns False, so that the poller sleeps. A thread that ends wakes the poller.
        """
        for account, region, mapping in self._mappings():
            if mapping.get("UUID", "") in self._busy:
                continue
            with scope(account, region):
                found = self._next_batch(mapping)
                if found is None:
                    continue
                self._busy.add(mapping["UUID"])
                threading.Thread(
                    target=self._work, args=(account, region, mapping, *found), daemon=True
                ).start()
        return False

    def _enabled(self, mapping: dict) -> bool:
        return str(mapping.get("Enabled", True)).lower() == "true" and mapping["UUID"] in self._there

    def _next_batch(self, mapping: dict) -> tuple[int, list] | None:
        """Return position and records of a mapping's next batch; None if there is none yet."""
        arn = mapping.get("EventSourceArn", "")
        if not arn.startswith("arn:") or ":dynamodb:" not in arn or not self._enabled(mapping):
            return None
        place = self._table(self._parsed(arn))
        table = self._tables.get(place[0]) if place else None
        if not place or not table or table.get("LatestStreamArn") != arn:
            return None
        name, key = place[0], mapping["UUID"]
        first, last = self._begin(name), self._end(name)
        if key not in self._positions:
            self._positions[key] = first if mapping.get("StartingPosition") == "TRIM_HORIZON" else last
        at = self._positions[key] = min(max(self._positions[key], first), last)
        size = int(mapping.get("BatchSize") or 100)
        records = list(self._since(name, at, size))
        if not records:
            self._waiting.pop(key, None)
            return None
        window = float(mapping.get("MaximumBatchingWindowInSeconds") or 0)
        waited = time.monotonic() - self._waiting.setdefault(key, time.monotonic())
        if len(records) < size and waited < window:
            return None
        self._waiting.pop(key, None)
        return at, records

    def _work(self, account: str, region: str, mapping: dict, at: int, records: list) -> None:
        key = mapping["UUID"]
        with scope(account, region):
            try:
                batch = self._filtered(records, mapping)
                if not batch or self._serve(mapping, batch):
                    if key in self._positions:
                        self._positions[key] = at + len(records)
                    self._cloud.changed()
            finally:
                self._busy.discard(key)
                self._wake.set()

    def _serve(self, mapping: dict, batch: list) -> bool:
        """Deliver a batch; return whether it was delivered or sent to the failure destination."""
        function, _ = self._function(mapping["FunctionName"], mapping.get("Qualifier"))
        if function is None:
            return False
        rules, platform = streams.Rules.of(mapping), self._cloud.platform

        def pause(attempt: int) -> bool:
            # The exponential backoff is limited to 20 times the first pause, because a user waits
            time.sleep(setting(platform, "stream_retry") * min(2 ** (attempt - 1), 20))
            return self._enabled(mapping)

        def invoke(records: list) -> dict:
            result = self._execute(function, {"Records": records})
            failed = result.get("error")
            mapping["LastProcessingResult"] = "PROBLEM: Function call failed" if failed else "OK"
            return result

        def give_up(records: list, result: dict, condition: str) -> None:
            self._put_aside(mapping, function, records, mapping["EventSourceArn"], result, condition)

        late = faults.value(platform, "fault_stream_seconds")
        if faults.take(platform, "fault_delay_stream_batches"):
            time.sleep(late)
        done = streams.deliver(batch, rules, invoke, give_up, _age, pause)
        if done and faults.take(platform, "fault_repeat_stream_batches"):
            threading.Thread(
                target=contextvars.copy_context().run,
                args=(lambda: (time.sleep(late), invoke(batch)),),
                daemon=True,
            ).start()
        return done


def _age(record: dict) -> float:
    """Return the age of a stream record in seconds."""
    return time.time() - float(record["dynamodb"]["ApproximateCreationDateTime"])


@hook
def streams_are_delivered_as_lambda_does(cloud: Cloud) -> None:
    """In MiniStack, one failing function blocks all streams forever. MiniStack has no retry limit, bisection,
    partial batch response or batching window."""
    delivery = Delivery(cloud)

    @replace("services.lambda_svc._poll_dynamodb_streams")
    def poll(original: Callable) -> bool:
        return delivery.poll()
