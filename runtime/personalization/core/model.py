"""Requests for fine-tunes, and the training jobs that they are packed into."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from personalization.core.rows import ModelRow


class Status(StrEnum):
    """Status of a model and its request. `README.md` has a diagram."""

    CREATED = "CREATED"
    QUEUED = "QUEUED"
    LAUNCHED = "LAUNCHED"
    TRAINING = "TRAINING"
    PREPARING = "PREPARING"
    READY = "READY"
    FAILED = "FAILED"
    DELETED = "DELETED"


class JobStatus(StrEnum):
    CLAIMED = "CLAIMED"
    """Requests are assigned to the job; it may or may not exist in SageMaker yet."""
    CREATED = "CREATED"
    """The job exists in SageMaker."""
    ENDED = "ENDED"
    """The job has ended, and each of its requests has left it."""


IN_JOB = frozenset((Status.LAUNCHED, Status.TRAINING, Status.PREPARING))
IN_FLIGHT = IN_JOB | {Status.QUEUED}
"""Statuses that count as an active fine-tune of the user."""


@dataclass(frozen=True)
class Request:
    """A user's request for a model."""

    request: str
    user: str
    model: str
    subject: str
    images: int
    """Number of uploaded pictures."""
    steps: int
    """Number of training steps; 0 for the number in the job's hyperparameters."""
    estimate: float
    """Expected seconds on one instance."""
    status: Status
    attempt: int
    """Number of the attempt, which increases when the request returns to the queue after a job."""
    last_attempt: int
    """The attempt after which a failure is final."""
    queued_at: float
    """Submission time, in seconds since 1970 like the other times."""
    updated: float
    job: str = ""
    """Name of the current or the last job."""
    previous: tuple[str, ...] = ()
    """Names of earlier jobs, oldest first."""
    reason: str = ""
    """Message to the user: why the request failed and what to do."""
    requeued_at: float = 0.0
    """Time of the last return to the queue after a job; 0 if there was none."""

    @property
    def waiting_since(self) -> float:
        """Start of the current wait for a job. It determines the place in the queue."""
        return self.requeued_at or self.queued_at

    @property
    def images_in_uploads(self) -> list[str]:
        """Keys of the pictures below `uploads/`."""
        return [f"{self.user}/{self.model}/{number:02}" for number in range(self.images)]


@dataclass(frozen=True)
class Job:
    """A training job. Its name is chosen before the job exists in SageMaker."""

    job: str
    status: JobStatus
    requests: tuple[str, ...]
    hosts: int
    spot: bool
    warm: bool
    """Whether the instances are kept alive for the next job."""
    attempt: int
    """Number of times that the creation was tried or put off."""
    not_before: float
    """Time of the next step: launch a CLAIMED job, read the state of a CREATED one."""
    updated: float
    full: bool = False
    """Whether the job was put off because all instances of the quota are in use: no other job could start."""


def trigger(subject: str) -> str:
    """Return the words that represent the subject in a prompt."""
    return f"sks {subject}"


def queued(
    model: ModelRow, before: Request | None, steps: int, estimate: float, attempts: int, now: float
) -> Request:
    """Return the request that queues a model; `before` is its request of an earlier start, if any."""
    attempt = before.attempt + 1 if before else 1
    return Request(
        request=model["request"],
        user=model["user"],
        model=model["model"],
        subject=model["subject"],
        images=len(model["images"]),
        steps=steps,
        estimate=estimate,
        status=Status.QUEUED,
        attempt=attempt,
        last_attempt=attempt + attempts - 1,
        queued_at=now,
        updated=now,
        previous=(*before.previous, *filter(None, [before.job])) if before else (),
    )


def never_queued(model: ModelRow, now: float) -> Request:
    """Return the DELETED request of a model that was never started."""
    return Request(
        request=model["request"],
        user=model["user"],
        model=model["model"],
        subject=model["subject"],
        images=len(model["images"]),
        steps=0,
        estimate=0.0,
        status=Status.DELETED,
        attempt=0,
        last_attempt=0,
        queued_at=now,
        updated=now,
    )
