"""SageMaker's training jobs as `ports.Training`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError, ConnectionError, HTTPClientError, ParamValidationError

from personalization.core.ports import Described, JobRefusedError, LaunchPostponedError, QuotaExceededError

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient

LATER = frozenset(
    (
        "ThrottlingException",
        "Throttling",
        "TooManyRequestsException",
        "RequestLimitExceeded",
        "InternalFailure",
        "InternalServerError",
        "InternalServerException",
        "ServiceUnavailable",
        "ServiceUnavailableException",
    )
)
_QUOTA = re.compile(
    r"service limit '[^']*' is (\d+) Instances?, with current utilization of (\d+) Instances?"
)


class SageMaker:
    """`ports.Training` with SageMaker's API."""

    def __init__(self, client: SageMakerClient):
        self.client = client

    def create(self, request: dict[str, Any]) -> None:
        try:
            self.client.create_training_job(**request)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code == "ResourceInUse":
                return  # this job exists already
            message = error.response["Error"].get("Message", "")
            if code == "ResourceLimitExceeded":
                raise _quota_exceeded(message) from error
            raise (LaunchPostponedError if code in LATER else JobRefusedError)(
                f"{code}: {message}"
            ) from error
        except ParamValidationError as error:
            raise JobRefusedError(str(error)) from error
        except (ConnectionError, HTTPClientError) as error:
            raise LaunchPostponedError(f"no answer from SageMaker: {error}") from error

    def describe(self, name: str) -> Described | None:
        try:
            found = self.client.describe_training_job(TrainingJobName=name)
        except ClientError as error:
            if _not_found(error):
                return None
            raise
        return Described(found["TrainingJobStatus"], found.get("FailureReason", ""))

    def stop(self, name: str) -> None:
        try:
            self.client.stop_training_job(TrainingJobName=name)
        except ClientError as error:
            # SageMaker returns the same error for a job that has ended and one that does not exist
            if error.response["Error"]["Code"] not in ("ValidationException", "ResourceNotFound"):
                raise


def _quota_exceeded(message: str) -> QuotaExceededError:
    """Return the error with the quota and its unused part, which only SageMaker's message contains."""
    if not (found := _QUOTA.search(message)):
        return QuotaExceededError(message)
    limit, used = int(found[1]), int(found[2])
    return QuotaExceededError(message, limit, max(0, limit - used))


def _not_found(error: ClientError) -> bool:
    """Return whether the error means that the job does not exist, which only its message may tell."""
    code, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
    return code == "ResourceNotFound" or (code == "ValidationException" and "not found" in message.lower())
