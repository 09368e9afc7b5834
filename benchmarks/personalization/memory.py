"""In-memory implementations of the interfaces of the onboarding code (`personalization.core.ports`).

Changes are compare-and-swap, like DynamoDB's transactions, and lists have the order of DynamoDB's index.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence

from personalization.core.model import Job, JobStatus, Request, Status
from personalization.core.pacing import Bucket


class MemoryStore:
    """`ports.Store` in memory. Like the table's stream, it calls `on_move(before, after)` for each request
    change."""

    def __init__(self, on_move: Callable[[Request | None, Request], object]) -> None:
        self._requests: dict[str, Request] = {}
        # The requests of each status. Virtual time only increases, so they are usually inserted in the order
        # of their `updated` times. `_returned` has the requests with an older time than the last one in
        # `_by_status`.
        self._by_status: dict[Status, dict[str, None]] = {status: {} for status in Status}
        self._returned: dict[Status, dict[str, None]] = {status: {} for status in Status}
        self._jobs: dict[str, Job] = {}
        self._due: dict[JobStatus, list[tuple[float, int, str]]] = {status: [] for status in JobStatus}
        self._number, self._latest = 0, 0.0
        self._bucket: Bucket | None = None
        self._seconds_per_step: float | None = None
        self._on_move = on_move

    # --- requests ---

    def add(self, request: Request) -> None:
        """Add a new request, as the API does."""
        self._requests[request.request] = request
        self._by_status[request.status][request.request] = None
        self._on_move(None, request)

    def all(self) -> list[Request]:
        return list(self._requests.values())

    def queue(self, limit: int) -> list[Request]:
        return self.stale(Status.QUEUED, float("inf"), limit)

    def stale(self, status: Status, before: float, limit: int) -> list[Request]:
        def moment(request: Request) -> tuple[float, str]:
            return request.updated, request.request

        returned = sorted((self._requests[name] for name in self._returned[status]), key=moment)
        entering = (self._requests[name] for name in self._by_status[status])
        oldest = heapq.merge(returned, entering, key=moment) if returned else entering
        entered = itertools.takewhile(lambda request: request.updated < before, oldest)
        return list(itertools.islice(entered, limit))

    def requests(self, ids: Sequence[str]) -> list[Request]:
        return [self._requests[name] for name in ids if name in self._requests]

    def move(self, before: Request, after: Request, *, previews: int | None = None) -> bool:
        if not self._unchanged(before):
            return False
        self._put(before, after)
        return True

    def _unchanged(self, before: Request) -> bool:
        now = self._requests.get(before.request)
        return now is not None and (now.status, now.attempt) == (before.status, before.attempt)

    def _put(self, before: Request, after: Request) -> None:
        self._requests[after.request] = after
        for places in (self._by_status, self._returned):
            places[before.status].pop(after.request, None)
        entered = self._by_status[after.status]
        late = bool(entered) and self._requests[next(reversed(entered))].updated > after.updated
        (self._returned if late else self._by_status)[after.status][after.request] = None
        self._on_move(before, after)

    # --- jobs ---

    def job(self, name: str) -> Job | None:
        return self._jobs.get(name)

    def due(self, status: JobStatus, now: float, limit: int, *, horizon: float) -> list[Job]:
        # true only if a clock has jumped forward and back; simulated clocks do not
        if self._latest > horizon:
            jobs = [job for job in self._jobs.values() if job.status == status]
            return [job for job in jobs if not now < job.not_before <= horizon][:limit]
        waiting, found, kept = self._due[status], [], []
        while waiting and waiting[0][0] <= now and len(found) < limit:
            entry = heapq.heappop(waiting)
            job = self._jobs[entry[2]]
            # otherwise the entry is outdated: the job has changed since
            if (job.status, job.not_before) == (status, entry[0]):
                found.append(job)
                kept.append(entry)
        for entry in kept:
            heapq.heappush(waiting, entry)
        return found

    def claim(self, job: Job, changes: Sequence[tuple[Request, Request]]) -> bool:
        if job.job in self._jobs or not all(self._unchanged(before) for before, _ in changes):
            return False
        self._put_job(job)
        for before, after in changes:
            self._put(before, after)
        return True

    def change(self, before: Job, after: Job) -> bool:
        now = self._jobs.get(before.job)
        if now is None or (now.status, now.attempt) != (before.status, before.attempt):
            return False
        self._put_job(after)
        return True

    def _put_job(self, job: Job) -> None:
        self._jobs[job.job] = job
        self._number, self._latest = self._number + 1, max(self._latest, job.not_before)
        if job.status != JobStatus.ENDED:
            heapq.heappush(self._due[job.status], (job.not_before, self._number, job.job))

    # --- state that requests and jobs share ---

    def bucket(self) -> Bucket | None:
        return self._bucket

    def swap_bucket(self, before: Bucket | None, after: Bucket) -> bool:
        if self._bucket != before:
            return False
        self._bucket = after
        return True

    def seconds_per_step(self) -> float | None:
        return self._seconds_per_step

    def learn(self, seconds_per_step: float) -> None:
        known = self._seconds_per_step
        self._seconds_per_step = (
            seconds_per_step if known is None else known + 0.2 * (seconds_per_step - known)
        )


class MemoryObjects:
    """`ports.Objects` in memory: a bucket whose keys are indexed by folder."""

    def __init__(self) -> None:
        self._folders: dict[str, dict[str, bytes]] = {}

    @staticmethod
    def _folder(key: str) -> str:
        """Return the first two parts of a key: `jobs/{job}`, `adapters/{user}`, ..."""
        return "/".join(key.split("/", 2)[:2])

    def get(self, key: str) -> bytes | None:
        return self._folders.get(self._folder(key), {}).get(key)

    def put(self, key: str, body: bytes, content_type: str = "application/octet-stream") -> None:
        self._folders.setdefault(self._folder(key), {})[key] = body

    def list(self, prefix: str) -> list[str]:
        return sorted(key for key in self._folders.get(self._folder(prefix), {}) if key.startswith(prefix))

    def copy(self, source: str, target: str) -> None:
        body = self.get(source)
        if body is None:
            raise KeyError(source)
        self.put(target, body)

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._folders.get(self._folder(key), {}).pop(key, None)
