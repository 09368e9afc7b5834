"""Interfaces to storage and services that `core` uses.

The Lambda functions pass the adapters of `aws`; a simulation passes tables in memory.
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
    """Requests and jobs.

    Every change is an atomic compare and swap: it returns False and changes nothing if another process
    changed the row first. Lists are eventually consistent; `requests` and `job` are strongly consistent.
    """

    def queue(self, limit: int) -> list[Request]:
        """Return QUEUED requests, longest waiting first."""
        ...

    def stale(self, status: Status, before: float, limit: int) -> list[Request]:
        """Return requests that entered `status` before the time `before`, oldest first."""
        ...

    def requests(self, ids: Sequence[str]) -> list[Request]:
        """Return the current requests of these ids. An id without a row is omitted."""
        ...

    def job(self, name: str) -> Job | None: ...

    def due(self, status: JobStatus, now: float, limit: int, *, horizon: float) -> list[Job]:
        """Return jobs in `status` whose `not_before` is at most `now`, oldest first.

        Jobs with a `not_before` after `horizon` are due too: no job is put off that long, so a wrong clock
        wrote it.
        """
        ...

    def claim(self, job: Job, changes: Sequence[tuple[Request, Request]]) -> bool:
        """Write the new job, and replace the first request of each pair by the second, in one transaction."""
        ...

    def move(self, before: Request, after: Request, *, previews: int | None = None) -> bool:
        """Change a request, its model and its user's count of active fine-tunes in one transaction.

        Does nothing and returns False unless status and attempt are those of `before`.

        :param previews: number of preview pictures of the model; None: unchanged
        """
        ...

    def change(self, before: Job, after: Job) -> bool:
        """Change a job. Does nothing and returns False unless status and attempt are those of `before`."""
        ...

    def bucket(self) -> Bucket | None:
        """Return the token bucket of CreateTrainingJob; None before its first use."""
        ...

    def swap_bucket(self, before: Bucket | None, after: Bucket) -> bool: ...

    def seconds_per_step(self) -> float | None:
        """Return the mean duration of recent training steps; None before the first measurement."""
        ...

    def learn(self, seconds_per_step: float) -> None:
        """Add a measurement to the mean. It is an estimate: a lost or repeated measurement does no harm."""
        ...


class Objects(Protocol):
    """Objects in the bucket."""

    def get(self, key: str) -> bytes | None:
        """Return the content of an object; None if the object does not exist."""
        ...

    def put(self, key: str, body: bytes, content_type: str = "application/octet-stream") -> None: ...

    def list(self, prefix: str) -> list[str]:
        """Return the keys that begin with `prefix`, sorted."""
        ...

    def copy(self, source: str, target: str) -> None: ...

    def delete(self, keys: Sequence[str]) -> None: ...


class SharedObjects(Objects, Protocol):
    """Objects in the bucket, with presigned URLs and forms for browsers."""

    def get_start(self, key: str, most: int) -> bytes | None:
        """Return at most the first `most` bytes of an object that is not empty; None if it does not exist."""
        ...

    def size_and_type(self, key: str) -> tuple[int, str] | None:
        """Return the size in bytes and the content type; None if the object does not exist."""
        ...

    def picture(self, key: str, seconds: int) -> str:
        """Return a URL to download the object, valid for `seconds`."""
        ...

    def upload(self, key: str, content_type: str, size: int, seconds: int) -> UploadForm:
        """Return a form to upload an object of exactly this type and size, valid for `seconds`."""
        ...


@dataclass(frozen=True)
class Described:
    """Status of a training job in SageMaker.

    `reason` is for logs and to distinguish failures. Users do not see it.
    """

    status: str
    """InProgress, Stopping, Completed, Failed or Stopped."""
    reason: str = ""

    @property
    def ended(self) -> bool:
        return self.status in ("Completed", "Failed", "Stopped")


class LaunchPostponedError(Exception):
    """SageMaker rejects the job for now: it throttles, fails, or a quota is used up. Retry later."""


class QuotaExceededError(LaunchPostponedError):
    """The account's quota allows fewer instances of this kind of capacity (spot or on demand) than requested.

    `limit` is the quota; None if SageMaker's message does not have it. `free` is the unused part of the
    quota.
    """

    def __init__(self, message: str, limit: int | None = None, free: int = 0) -> None:
        super().__init__(message)
        self.limit, self.free = limit, free


class JobRefusedError(Exception):
    """SageMaker rejects the job for a reason that a retry does not change."""


class Training(Protocol):
    """SageMaker's training jobs."""

    def create(self, request: dict[str, Any]) -> None:
        """Create the job. Does nothing if a job of this name exists.

        Raises `QuotaExceededError`, `LaunchPostponedError`, `JobRefusedError`.
        """
        ...

    def describe(self, name: str) -> Described | None: ...

    def stop(self, name: str) -> None:
        """Stop the job. Does nothing if it has ended or does not exist."""
        ...


class Clock(Protocol):
    def now(self) -> float:
        """Return the time in seconds since 1970."""
        ...


@dataclass(frozen=True)
class Backend:
    """Adapters and settings for training users' models."""

    store: Store
    objects: Objects
    training: Training
    clock: Clock
    settings: JobSettings
    pace: Pace
    bucket: str
    """Name of the bucket, for requests to SageMaker."""
    prefix: str
    """Prefix of job names."""
    count: Callable[[str, float], None] = lambda name, value: None
    """Records a metric: its name and value. Values are in seconds if the name ends in `Seconds`."""


class AbsentError(Exception):
    """The row does not exist or belongs to another user. The error does not distinguish the two."""


class NotReadyError(Exception):
    """The model is not READY. `args[0]` is its status."""


class LimitReachedError(Exception):
    """The user has reached a limit. `args[0]` is its name."""


class KeyReusedError(Exception):
    """The idempotency key belongs to another request."""


class StillRunningError(Exception):
    """The first request with this idempotency key is still in flight."""


class Accounts(Protocol):
    """Users' models and generations, and the counts for their limits."""

    def wait(self, user: str, now: float) -> float:
        """Count one request of `user` and return 0, or return the seconds until a request is allowed."""
        ...

    def wait_for_pictures(self, user: str, count: int, now: float) -> float:
        """Count `count` pictures of `user` and return 0, or return the seconds until so many are allowed.

        A negative `count` returns tokens for pictures that were counted but not made.
        """
        ...

    def model(self, user: str, model: str) -> ModelRow:
        """Return a user's model. Raises `AbsentError`."""
        ...

    def models_of(self, user: str) -> list[ModelRow]:
        """Return a user's models, newest first."""
        ...

    def create(self, user: str, name: str, subject: str, images: Sequence[ImageRow], now: float) -> ModelRow:
        """Create a model with the status CREATED. Raises `LimitReachedError`."""
        ...

    def start(self, model: ModelRow, steps: int, estimate: float, attempts: int, now: float) -> None:
        """Queue a model that is CREATED or FAILED. Does nothing in another status.

        Raises `LimitReachedError`.
        """
        ...

    def delete(self, user: str, model: str, now: float) -> None:
        """Mark a model DELETED, in any status. Raises `AbsentError`."""
        ...

    def generation(self, user: str, generation: str) -> GenerationRow:
        """Return a user's generation. Raises `AbsentError`."""
        ...

    def generations_of(self, user: str, model: str, before: str | None, limit: int) -> list[GenerationRow]:
        """Return the generations that are older than the generation `before`, newest first."""
        ...

    def begin(
        self, model: ModelRow, prompt: str, seed: int, count: int, key: str | None, now: float
    ) -> GenerationRow:
        """Begin a generation, or return the earlier generation of the idempotency key.

        An earlier generation that is DONE is returned unchanged, one that failed begins again.

        Raises `NotReadyError`, `AbsentError`, `KeyReusedError`, `StillRunningError`.
        """
        ...

    def end(self, generation: GenerationRow, status: str, now: float) -> bool:
        """Set the status to DONE or FAILED. Return False if the model was deleted meanwhile."""
        ...

    def forget(self, user: str, model: str) -> None:
        """Delete the rows of a DELETED model except its request."""
        ...

    def forget_request(self, request: str) -> None:
        """Delete the row of a DELETED request."""
        ...


class FollowUps(Protocol):
    """Outstanding work for requests that have ended: notifications, and purges of deleted models."""

    def awaits_notification(self, request: Request) -> bool:
        """Return whether the request exists, is not DELETED, and no notification of this attempt was sent."""
        ...

    def mark_notified(self, request: Request) -> None: ...

    def not_notified(self, status: Status, between: tuple[float, float], ahead: float) -> list[Request]:
        """Return requests in `status` that need a notification and changed in the interval `between`.

        Requests with a time after `ahead`, which a wrong clock wrote, are returned too.
        """
        ...

    def mark_purged(self, request: Request) -> None: ...

    def not_purged(self, before: float, again: float, ahead: float) -> list[Request]:
        """Return DELETED requests that are not purged and changed before `before`.

        Requests that are not purged and have a time after `ahead`, which a wrong clock wrote, are returned
        too. Requests that changed before `again` are returned even if they were purged.
        """
        ...


class Topic(Protocol):
    """Topic of notifications to users."""

    def publish(self, subject: str, message: Mapping[str, str], attributes: Mapping[str, str]) -> None: ...


class FieldRefusedError(Exception):
    """The endpoint rejects the field that `field` names. `message` has the values that are allowed."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field, self.message = field, message


class BusyError(Exception):
    """The endpoint cannot make pictures now. `seconds`: time until a retry."""

    def __init__(self, why: str, seconds: int) -> None:
        super().__init__(why)
        self.seconds = seconds


class Endpoint(Protocol):
    """Endpoint that serves all models."""

    def generate(self, target: str, request: GenerationRequest) -> list[bytes]:
        """Return the PNGs that the model `target` makes. Raises `FieldRefusedError`, `BusyError`."""
        ...
