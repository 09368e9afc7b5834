"""The interfaces that `core` works with.

The functions pass the adapters of `aws`; a simulation passes tables in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from personalization.core.model import Job, JobStatus, Request, Status
from personalization.core.pacing import Bucket
from personalization.core.rows import GenerationRequest, GenerationRow, ImageRow, ModelRow, UploadForm
from personalization.core.settings import JobSettings, Pace


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


class SharedObjects(Objects, Protocol):
    """The bucket, with addresses that a browser can use."""

    def get_start(self, key: str, most: int) -> bytes | None:
        """The first `most` bytes, or fewer, of an object that is not empty; None when there is none."""
        ...

    def size_and_type(self, key: str) -> tuple[int, str] | None:
        """Size in bytes and content type; None when there is no such object."""
        ...

    def picture(self, key: str, seconds: int) -> str:
        """A URL to get the object from, valid for so long."""
        ...

    def upload(self, key: str, content_type: str, size: int, seconds: int) -> UploadForm:
        """A form to upload an object of exactly this type and size with, valid for so long."""
        ...


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


class AbsentError(Exception):
    """There is no such row, or it belongs to another user: the caller is not told which."""


class NotReadyError(Exception):
    """The model is in another status: `args[0]`."""


class LimitReachedError(Exception):
    """`args[0]` names the limit."""


class KeyReusedError(Exception):
    """The idempotency key belongs to another request."""


class StillRunningError(Exception):
    """The first request of this idempotency key has not ended."""


class Accounts(Protocol):
    """What users have: models, generations, and the counts that their limits are compared with."""

    def wait(self, user: str, now: float) -> float:
        """Count one request of `user`; returns 0, or the seconds until the next is allowed."""
        ...

    def wait_for_pictures(self, user: str, count: int, now: float) -> float:
        """Count `count` pictures of `user`; returns 0, or the seconds until so many are allowed.

        A negative `count` gives back what was counted and not made.
        """
        ...

    def model(self, user: str, model: str) -> ModelRow:
        """Raises `AbsentError`."""
        ...

    def models_of(self, user: str) -> list[ModelRow]:
        """Newest first."""
        ...

    def create(self, user: str, name: str, subject: str, images: Sequence[ImageRow], now: float) -> ModelRow:
        """A new model in CREATED. Raises `LimitReachedError`."""
        ...

    def start(self, model: ModelRow, steps: int, estimate: float, attempts: int, now: float) -> None:
        """Queue a model that is CREATED or FAILED; in any other status, do nothing. Raises
        `LimitReachedError`."""
        ...

    def delete(self, user: str, model: str, now: float) -> None:
        """Mark a model DELETED, whatever its status. Raises `AbsentError`."""
        ...

    def generation(self, user: str, generation: str) -> GenerationRow:
        """Raises `AbsentError`."""
        ...

    def generations_of(self, user: str, model: str, before: str | None, limit: int) -> list[GenerationRow]:
        """Newest first, those older than the generation `before`."""
        ...

    def begin(
        self, model: ModelRow, prompt: str, seed: int, count: int, key: str | None, now: float
    ) -> GenerationRow:
        """A generation, RUNNING; or the one that the idempotency key began before, if it is DONE.

        Raises `NotReadyError`, `AbsentError`, `KeyReusedError`, `StillRunningError`.
        """
        ...

    def end(self, generation: GenerationRow, status: str, now: float) -> bool:
        """DONE or FAILED. False when the model was deleted meanwhile."""
        ...

    def forget(self, user: str, model: str) -> None:
        """Remove the rows of a DELETED model, except its request's."""
        ...

    def forget_request(self, request: str) -> None:
        """Remove the row of a DELETED request."""
        ...


class FollowUps(Protocol):
    """What remains to be done for requests that have ended: notifications, and purges of deleted models."""

    def awaits_notification(self, request: Request) -> bool:
        """Whether the request still exists and nobody was notified of this attempt's end."""
        ...

    def mark_notified(self, request: Request) -> None: ...

    def not_notified(self, status: Status, between: tuple[float, float], ahead: float) -> list[Request]:
        """Requests in `status` without a notification that changed in this time, or after `ahead`."""
        ...

    def mark_purged(self, request: Request) -> None: ...

    def not_purged(self, before: float, again: float, ahead: float) -> list[Request]:
        """DELETED requests that changed before `before` and are not purged, or changed before `again`.

        Those not purged count as well when they changed after `ahead`.
        """
        ...


class Topic(Protocol):
    """Where users are notified."""

    def publish(self, subject: str, message: Mapping[str, str], attributes: Mapping[str, str]) -> None: ...


class FieldRefusedError(Exception):
    """The endpoint refuses a field: its name and what is allowed."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field, self.message = field, message


class BusyError(Exception):
    """The endpoint makes no pictures now. `seconds`: when to try again."""

    def __init__(self, why: str, seconds: int) -> None:
        super().__init__(why)
        self.seconds = seconds


class Endpoint(Protocol):
    """The endpoint that serves every model."""

    def generate(self, target: str, request: GenerationRequest) -> list[bytes]:
        """The PNGs that the model `target` makes. Raises `FieldRefusedError`, `BusyError`."""
        ...
