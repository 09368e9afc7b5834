"""Retry policies of steps: which failures are retried, how many times, and after what delay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from local.sagemaker.api import ApiError, unbuilt
from local.sagemaker.pipelines.expressions import check_members, malformed

SERVICE_FAULT, THROTTLING = "Step.SERVICE_FAULT", "Step.THROTTLING"
INTERNAL_ERROR = "SageMaker.JOB_INTERNAL_ERROR"
CAPACITY_ERROR = "SageMaker.CAPACITY_ERROR"
RESOURCE_LIMIT = "SageMaker.RESOURCE_LIMIT"
OF_STEPS = (SERVICE_FAULT, THROTTLING)
OF_JOBS = (INTERNAL_ERROR, CAPACITY_ERROR, RESOURCE_LIMIT)

LONGEST_INTERVAL = 43_200  # seconds
MOST_ATTEMPTS = 20
LATEST_EXPIRY = 14_400  # minutes
DEFAULT_ATTEMPTS = 5


@dataclass(frozen=True)
class RetryPolicy:
    """Retry of failures of certain types. Either `max_attempts` or `expire_after_minutes` is set."""

    exceptions: tuple[str, ...]
    interval_seconds: float = 1.0
    backoff_rate: float = 2.0
    max_attempts: int | None = DEFAULT_ATTEMPTS
    """Maximum number of retries; the first attempt does not count"""
    expire_after_minutes: int | None = None
    """Maximum time from the start of the first attempt to the start of a retry"""

    def delay(self, retries: int, elapsed: float) -> float | None:
        """Return the seconds to wait before the next attempt; None: no further attempt.

        :param retries: number of retries with this policy so far
        :param elapsed: seconds since the start of the first attempt
        """
        if self.max_attempts is not None and retries >= self.max_attempts:
            return None
        wait = self.interval_seconds * self.backoff_rate**retries
        if self.expire_after_minutes is not None and elapsed + wait > self.expire_after_minutes * 60:
            return None
        return wait


AUTOMATIC = RetryPolicy(OF_STEPS)
"""Retries that AWS makes without a policy. AWS does not document their number."""


def policy_for(exception: str | None, policies: tuple[RetryPolicy, ...]) -> tuple[int, RetryPolicy] | None:
    """Return the first policy for a type of failure and its position (-1: the automatic policy), or None."""
    for position, policy in enumerate(policies):
        if exception in policy.exceptions:
            return position, policy
    return (-1, AUTOMATIC) if exception in AUTOMATIC.exceptions else None


def parse(policies: Any, jobs: bool) -> tuple[RetryPolicy, ...]:
    """Parse the `RetryPolicies` of a step. Raises ApiError.

    :param jobs: whether the step starts a job
    """
    if not isinstance(policies, list):
        raise malformed("Expecting start of Json Array.")
    return tuple(_parse(policy, jobs) for policy in policies)


def _parse(policy: Any, jobs: bool) -> RetryPolicy:
    allowed = ("ExceptionType", "IntervalSeconds", "BackoffRate", "MaxAttempts", "ExpireAfterMin")
    check_members(policy, allowed, ("ExceptionType",))
    exceptions = policy["ExceptionType"]
    if not isinstance(exceptions, list) or not exceptions:
        raise malformed("ExceptionType must be an array of at least one exception type")
    for each in exceptions:
        if each == "Emr.RESOURCE_LIMIT":
            raise unbuilt(f"CreatePipeline with the ExceptionType {each}")
        if each not in OF_STEPS + OF_JOBS:
            known = ", ".join(OF_STEPS + OF_JOBS)
            raise malformed(f"ExceptionType must be one of {known}, got {each!r}")
        if each in OF_JOBS and not jobs:
            raise malformed(f"ExceptionType {each} is only for steps that start a job")
    if "MaxAttempts" in policy and "ExpireAfterMin" in policy:
        raise malformed("Only one of MaxAttempts and ExpireAfterMin can be given in a retry policy")
    expiry = _number(policy, "ExpireAfterMin", LATEST_EXPIRY, int) if "ExpireAfterMin" in policy else None
    attempts = _number(policy, "MaxAttempts", MOST_ATTEMPTS, int, DEFAULT_ATTEMPTS)
    return RetryPolicy(
        exceptions=tuple(exceptions),
        interval_seconds=_number(policy, "IntervalSeconds", LONGEST_INTERVAL, int, 1),
        backoff_rate=_number(policy, "BackoffRate", None, (int, float), 2.0),
        max_attempts=attempts if expiry is None else None,
        expire_after_minutes=expiry,
    )


def _number(policy: dict[str, Any], name: str, most: int | None, kind: Any, default: Any = None) -> Any:
    value = policy.get(name, default)
    if isinstance(value, bool) or not isinstance(value, kind) or value < 0 or (most and value > most):
        range_ = f"from 0 to {most}" if most else "of at least 0"
        raise malformed(f"{name} of a retry policy must be a number {range_}, got {value!r}")
    return value


def exception_of(error: ApiError) -> str | None:
    """Return the exception type of a request's error; None: never retried."""
    if error.code in ("ThrottlingException", "TooManyRequestsException", "RequestThrottled"):
        return THROTTLING
    if error.code == "ResourceLimitExceeded":
        return RESOURCE_LIMIT
    # Status 501 means that the local cloud does not have a feature: a retry would fail again
    return SERVICE_FAULT if error.status >= 500 and error.status != 501 else None


def exception_of_job(reason: str) -> str | None:
    """Return the exception type of a job's FailureReason; None: never retried."""
    if reason.startswith("InternalServerError"):
        return INTERNAL_ERROR
    return CAPACITY_ERROR if reason.startswith("CapacityError") else None
