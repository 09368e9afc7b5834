"""What onboarding asks of the world. The Lambdas give it AWS; a simulation gives it tables in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from personalization.model import Job, JobStatus, Request, Status
from personalization.pacing import Bucket
from personalization.settings import JobSettings, Pace


class Store(Protocol):
    """Requests and jobs. Every change is a compare and swap: it happens whole, or (False) not at all because
    somebody else was faster. Lists may lag behind; `requests` and `job` never do."""

    def queue(self, limit: int) -> list[Request]:
        """QUEUED requests, those that wait longest first."""
        ...

    def stale(self, status: Status, before: float, limit: int) -> list[Request]:
        """Requests that entered `status` before that moment, oldest first."""
        ...

    def requests(self, ids: Sequence[str]) -> list[Request]:
        """These, as they are now, without those that are gone."""
        ...

    def job(self, name: str) -> Job | None: ...

    def due(self, status: JobStatus, now: float, limit: int, *, horizon: float) -> list[Job]:
        """Jobs in `status` whose `not_before` is at most `now`, oldest first.

        One after `horizon` counts as well: no job is put off that long, so a wrong clock wrote it.
        """
        ...

    def claim(self, job: Job, changes: Sequence[tuple[Request, Request]]) -> bool:
        """Put the new job, and each request from its state before to its state after: all or nothing."""
        ...

    def move(self, before: Request, after: Request, *, previews: int | None = None) -> bool:
        """A request, its model and its user's count of active fine-tunes, together. Compared by status and
        attempt. `previews`: how many first pictures the model has."""
        ...

    def change(self, before: Job, after: Job) -> bool:
        """A job. Compared by status and attempt."""
        ...

    def bucket(self) -> Bucket | None:
        """The token bucket of CreateTrainingJob; None before its first use."""
        ...

    def swap_bucket(self, before: Bucket | None, after: Bucket) -> bool: ...

    def seconds_per_step(self) -> float | None:
        """What a step of training took lately; None before the first."""
        ...

    def learn(self, seconds_per_step: float) -> None:
        """Remember one measurement: an estimate, so one lost or counted twice does no harm."""
        ...


class Objects(Protocol):
    """The bucket."""

    def get(self, key: str) -> bytes | None:
        """None when there is no such object."""
        ...

    def put(self, key: str, body: bytes, content_type: str = "application/octet-stream") -> None: ...

    def list(self, prefix: str) -> list[str]:
        """The keys that begin with `prefix`, sorted."""
        ...

    def copy(self, source: str, target: str) -> None: ...

    def delete(self, keys: Sequence[str]) -> None: ...


@dataclass(frozen=True)
class Described:
    """What SageMaker says of a job. `reason` is for the log and for telling failures apart, not for users."""

    status: str
    """InProgress, Stopping, Completed, Failed or Stopped."""
    reason: str = ""

    @property
    def ended(self) -> bool:
        return self.status in ("Completed", "Failed", "Stopped")


class PutOff(Exception):
    """SageMaker takes no job now: too many calls, or a quota is used up. Later it may."""


class QuotaExceededError(PutOff):
    """The account may not run as many instances of this kind of capacity as the job needs.

    `limit` is the quota, None where SageMaker did not say; `free` is how much of it is not in use.
    """

    def __init__(self, message: str, limit: int | None = None, free: int = 0) -> None:
        super().__init__(message)
        self.limit, self.free = limit, free


class Refused(Exception):
    """SageMaker will not take this job, later neither."""


class Training(Protocol):
    """SageMaker's training jobs."""

    def create(self, request: dict[str, Any]) -> None:
        """Create the job; fine when one of its name is there. Raises `QuotaExceededError`, `PutOff`,
        `Refused`."""
        ...

    def describe(self, name: str) -> Described | None: ...

    def stop(self, name: str) -> None:
        """Stop the job; fine when it has ended or never was."""
        ...


class Clock(Protocol):
    def now(self) -> float:
        """Seconds since 1970."""
        ...


@dataclass(frozen=True)
class Backend:
    """All that onboarding works with."""

    store: Store
    objects: Objects
    training: Training
    clock: Clock
    settings: JobSettings
    pace: Pace
    bucket: str
    """The bucket's name, for what SageMaker is told."""
    prefix: str
    """What the names of jobs begin with."""
    count: Callable[[str, float], None] = lambda name, value: None
    """Told of what is worth a metric: its name and its value, seconds where the name says so."""
