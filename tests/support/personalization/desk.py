"""A dispatcher with its store, its training service and a clock, all in memory."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.personalization.memory import MemoryObjects, MemoryStore
from personalization.core import ids, keys
from personalization.core.collect import collect
from personalization.core.dispatch import dispatch, horizon
from personalization.core.model import Job, JobStatus, Request, Status
from personalization.core.ports import Backend, Described
from personalization.core.settings import Pace
from tests.support.personalization.settings import job_settings
from tests.support.personalization.settings import pace as paces

START = 1_795_416_632.0
USER = "6f1c3a52-0d1e-4c7e-9c35-1b0f5a7d2e11"


class Clock:
    def __init__(self) -> None:
        self.time = START

    def now(self) -> float:
        return self.time


class SageMaker:
    """SageMaker in memory. A second `create` under the same name has no effect. While `refuse` is set,
    `create` raises it."""

    def __init__(self) -> None:
        self.jobs: dict[str, Described] = {}
        self.asked: list[dict[str, Any]] = []
        self.stopped: list[str] = []
        self.refuse: Exception | None = None

    def create(self, request: dict[str, Any]) -> None:
        if self.refuse:
            raise self.refuse
        if request["TrainingJobName"] not in self.jobs:
            self.asked.append(request)
            self.jobs[request["TrainingJobName"]] = Described("InProgress")

    def describe(self, name: str) -> Described | None:
        return self.jobs.get(name)

    def stop(self, name: str) -> None:
        self.stopped.append(name)


class Store(MemoryStore):
    """A store that records the claimed jobs."""

    def __init__(self, on_move: Callable[[Request | None, Request], object]) -> None:
        super().__init__(on_move)
        self.claimed: list[str] = []

    def claim(self, job: Job, changes: Sequence[tuple[Request, Request]]) -> bool:
        done = super().claim(job, changes)
        self.claimed += [job.job] * done
        return done

    def jobs(self) -> list[Job]:
        return [job for name in self.claimed if (job := self.job(name))]


class Desk:
    """A backend in memory with helpers for tests."""

    def __init__(self, **settings: Any) -> None:
        pace: dict[str, Any] = {"rate": 1.0, "burst": 3}
        pace |= {name: settings.pop(name) for name in list(settings) if name in Pace.__dataclass_fields__}
        job: dict[str, Any] = {"hosts_max": 2, "tasks_per_host": 2} | settings
        self.clock, self.training, self.objects = Clock(), SageMaker(), MemoryObjects()
        self.moves: list[tuple[Status, Status]] = []
        self.counted: Counter[str] = Counter()
        self.store = Store(lambda before, after: before and self.moves.append((before.status, after.status)))
        self.backend = Backend(
            store=self.store,
            objects=self.objects,
            training=self.training,
            clock=self.clock,
            settings=job_settings(**job),
            pace=paces(**pace),
            bucket="data",
            prefix="groundplan",
            count=lambda name, value: self.counted.update({name: value}),
        )

    def add(self, count: int = 1, **changes: Any) -> list[str]:
        added = []
        for _ in range(count):
            self.clock.time += 0.001
            name, now = ids.new(self.clock.time), self.clock.time
            request = Request(
                request=name, user=USER, model=name, subject="cat", images=2, steps=0, estimate=60.0,
                status=Status.QUEUED, attempt=1, last_attempt=3, queued_at=now, updated=now,
            )  # fmt: skip
            self.store.add(replace(request, **changes))
            added.append(name)
        return added

    def request(self, name: str) -> Request:
        return self.store.requests([name])[0]

    def job(self) -> Job:
        [job] = self.store.jobs()
        return job

    def end(self, job: str, status: str = "Completed", reason: str = "") -> None:
        self.training.jobs[job] = Described(status, reason)

    def result(self, name: str, **changes: Any) -> None:
        """Store the result that the training task of this request writes."""
        folder = keys.checkpoint(self.request(name).job, name)
        files = {"adapter/adapter.json": b"{}", "adapter/adapter_model.safetensors": name.encode()}
        told = {k: {"bytes": len(v), "sha256": hashlib.sha256(v).hexdigest()} for k, v in files.items()}
        result = {"version": 1, "status": "done", "seconds": 30.0, "metrics": {"steps": 300}, "files": told}
        for key, content in files.items():
            self.objects.put(folder + key, content)
        self.objects.put(f"{folder}result.json", json.dumps(result | changes).encode())

    def sweep(self) -> None:
        while (wait := dispatch(self.backend)) is not None and wait < 60:
            self.clock.time += wait
        now = self.clock.now()
        for job in self.store.due(JobStatus.CREATED, now, 100, horizon=horizon(self.backend, now)):
            collect(self.backend, job)
