"""Fault injection during the run, by a plan that is drawn from a seed and spread over the run's progress."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from local.cloud import LocalCloud

LOOK_SECONDS = 0.5
KILL_SECONDS = 6.0
"""If a requested kill has killed no function after this number of seconds, it is put off and another is
requested."""
LAST_WRITE = 8
"""Functions are killed before the n-th write of an invocation, for n up to this number. Later writes are
repetitions in long loops."""


@dataclass(frozen=True)
class Kind:
    name: str
    setting: str
    """Name of the fault in `local/faults.py`."""
    share: float
    """Number of faults divided by the number of requests."""
    at_once: int = 1


KINDS = (
    Kind("training_jobs_throttled", "fault_throttle_training_jobs", 0.024, 6),
    Kind("training_jobs_without_capacity", "fault_no_capacity", 0.008),
    Kind("training_jobs_failed", "fault_fail_training_jobs", 0.008),
    Kind("training_jobs_stopped", "fault_stop_training_jobs", 0.006),
    Kind("spot_interruptions", "fault_interrupt_training_jobs", 0.008),
    Kind("job_events_lost", "fault_lose_events", 0.08, 8),
    Kind("object_events_lost", "fault_lose_object_events", 0.2, 20),
    Kind("stream_batches_twice", "fault_repeat_stream_batches", 0.05, 3),
    Kind("stream_batches_late", "fault_delay_stream_batches", 0.03, 2),
)
CRASHES = (0.35, 0.7)
"""Progress of the run at which the cloud crashes."""
KILL = "fault_kill_functions"
UNTIL = 0.97
"""Progress of the run after which no fault is injected."""


class Injection:
    """Injects the planned faults as the run progresses, kills functions one after the other, and crashes the
    cloud."""

    def __init__(
        self,
        cloud: LocalCloud,
        functions: Mapping[str, str],
        requests: int,
        progress: Callable[[], float],
        crash: Callable[[], None],
        seed: int,
    ):
        """`functions`: names by handler. `progress`: returns 0 to 1. `crash`: kills the cloud and starts it
        again."""
        self._cloud, self._functions, self._progress, self._crash = cloud, functions, progress, crash
        self._chance = random.Random(seed)  # noqa: S311 - no secret
        self._plan = sorted(self._planned(requests), key=lambda step: step[0])
        self._crashes = list(CRASHES)
        self._writes: dict[str, int] = {}
        self._late: list[tuple[str, int]] = []
        self._armed: tuple[str, int] | None = None
        self._armed_at = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="faults")
        self.crashes = 0
        self.error: Exception | None = None

    def _planned(self, requests: int) -> list[tuple[float, Kind, int]]:
        steps = []
        for kind in KINDS:
            left = max(kind.at_once, round(kind.share * requests))
            while left > 0:
                steps.append((self._chance.uniform(0.02, UNTIL), kind, min(left, kind.at_once)))
                left -= kind.at_once
        return steps

    def __enter__(self) -> Injection:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        nothing_more = {kind.setting: 0 for kind in KINDS} | {KILL: 0}
        self._cloud.configure(**nothing_more)

    def counts(self) -> dict[str, int]:
        """Return the number of injected faults of each kind."""
        struck = self._cloud.status()["faults"]
        found = {kind.name: struck[kind.setting]["injected"] for kind in KINDS}
        return found | {"functions_killed": struck[KILL]["injected"], "cloud_crashes": self.crashes}

    def kills(self) -> dict[str, dict[str, int]]:
        """Return the number of kills by handler, then by the number of the write before which the handler was
        killed."""
        found: dict[str, dict[str, int]] = {}
        for (handler, number), count in sorted(self._struck(self._cloud.status()).items()):
            found.setdefault(handler, {})[str(number)] = count
        return found

    def most_writes(self) -> dict[str, int]:
        """Return, by handler, the maximum number of writes in one invocation."""
        return dict(sorted(self._writes.items()))

    def _struck(self, status: dict[str, Any]) -> Counter[tuple[str, int]]:
        handlers = {name: handler for handler, name in self._functions.items()}
        found: Counter[tuple[str, int]] = Counter()
        for place, count in status["faults"][KILL].get("at", {}).items():
            name, _, number = place.rpartition(" ")
            found[handlers[name], int(number)] += count
        return found

    def _run(self) -> None:
        try:
            while not self._ended.wait(LOOK_SECONDS):
                self._step(self._progress())
        except Exception as error:
            self.error = error

    def _step(self, progress: float) -> None:
        status = self._cloud.status()
        for handler, name in self._functions.items():
            most = status["function_writes"].get(name, 0)
            self._writes[handler] = max(most, self._writes.get(handler, 0))
        more: dict[str, Any] = {}
        while self._plan and self._plan[0][0] <= progress:
            _, kind, count = self._plan.pop(0)
            left = status["faults"][kind.setting]["left"]
            more[kind.setting] = more.get(kind.setting, left) + count
        if progress < UNTIL:
            more |= self._next_kill(status)
        if more:
            self._cloud.configure(**more)
        if self._crashes and progress >= self._crashes[0]:
            self._crashes.pop(0)
            self._crash()
            self.crashes += 1

    def _next_kill(self, status: dict[str, Any]) -> dict[str, Any]:
        """Return the cloud's settings for the next kill, before a write of a handler at which no process was
        killed yet. They are empty while a requested kill is pending."""
        left = status["faults"][KILL]["left"]
        waited = time.monotonic() - self._armed_at
        if self._armed and left and waited < KILL_SECONDS:
            return {}
        if self._armed and left:
            self._late.append(self._armed)
        struck = self._struck(status)
        places = [
            (handler, number)
            for handler, most in self._writes.items()
            for number in range(1, min(most, LAST_WRITE) + 1)
            if not struck[handler, number] and (handler, number) not in self._late
        ]
        if not places:
            places, self._late = self._late, []
        if not places:
            self._armed = None
            return {KILL: 0}
        self._armed, self._armed_at = self._chance.choice(places), time.monotonic()
        handler, number = self._armed
        name = self._functions[handler]
        return {KILL: 1, "fault_kill_function": name, "fault_kill_at_write": number}
