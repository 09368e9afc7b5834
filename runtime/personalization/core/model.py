"""What onboarding is about: a request for a fine-tune, and the training job that it is packed into."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from personalization.core.rows import ModelRow


class Status(StrEnum):
    """Where a model and its request stand. `README.md` has the picture."""

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
    """Its requests are its own; SageMaker may or may not know of it yet."""
    CREATED = "CREATED"
    """SageMaker has it."""
    ENDED = "ENDED"
    """It has ended, and each of its requests has been moved on."""


IN_JOB = frozenset((Status.LAUNCHED, Status.TRAINING, Status.PREPARING))
IN_FLIGHT = IN_JOB | {Status.QUEUED}
"""What counts as an active fine-tune of its user."""


@dataclass(frozen=True)
class Request:
    """One user's wish for one model. `attempt` grows with every return to the queue."""

    request: str
    user: str
    model: str
    subject: str
    images: int
    """How many pictures were uploaded."""
    steps: int
    """How many training steps it gets; 0 for the job's own number."""
    estimate: float
    """Expected seconds on one instance."""
    status: Status
    attempt: int
    last_attempt: int
    """The attempt after which a failure is final."""
    queued_at: float
    """Submission time, in seconds since 1970, as `updated`."""
    updated: float
    job: str = ""
    """The job it is in, or was in last."""
    previous: tuple[str, ...] = ()
    """The jobs it was in before `job`, oldest first."""
    reason: str = ""
    """Why it failed and what to do, in a sentence for its user."""
    requeued_at: float = 0.0
    """Time at which it returned to the queue after a job, 0 if it never did."""

    @property
    def waiting_since(self) -> float:
        """Start of the current wait for a job, which decides the place in the queue."""
        return self.requeued_at or self.queued_at

    @property
    def images_in_uploads(self) -> list[str]:
        """The pictures' keys below `uploads/`."""
        return [f"{self.user}/{self.model}/{number:02}" for number in range(self.images)]


@dataclass(frozen=True)
class Job:
    """One training job, known by its name from before it is created."""

    job: str
    status: JobStatus
    requests: tuple[str, ...]
    hosts: int
    spot: bool
    warm: bool
    """Whether its instances wait for the next job."""
    attempt: int
    """How often its creation was tried or put off."""
    not_before: float
    """When to look at it again: to launch a CLAIMED one, to ask after a CREATED one."""
    updated: float
    full: bool = False
    """Whether it was put off because all instances of the quota are in use: no other job could start."""


def trigger(subject: str) -> str:
    """The words that stand for the subject in a prompt."""
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
