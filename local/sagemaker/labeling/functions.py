"""Calls to the pre- and post-annotation Lambda functions of a labeling job.

https://docs.aws.amazon.com/sagemaker/latest/dg/sms-custom-templates-step3-lambda-requirements.html
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from local.sagemaker.jobs.job import JobError

VERSION = "2018-10-16"
ATTEMPTS = 6
AGAIN_SECONDS = 0.2
"""Delay before the first retry of a throttled call. It doubles with each retry."""
_THROTTLED = ("TooManyRequestsException", "ThrottlingException", "ServiceException")


@dataclass(frozen=True)
class AnnotationFunction:
    """A Lambda function that a labeling job calls with its role."""

    kind: str
    """`pre-annotation` or `post-annotation`"""
    arn: str
    client: Any

    def call(self, request: Mapping[str, Any], about: str) -> Any:
        """Call the function and return its response. Raises JobError.

        :param about: subject of the call, for error messages
        """
        payload = json.dumps({"version": VERSION, **request}).encode()
        attempts = iter(range(1, ATTEMPTS + 1))
        while True:
            attempt = next(attempts)
            try:
                answer = self.client.invoke(FunctionName=self.arn, Payload=payload)
                said = json.loads(answer["Payload"].read())
                break
            except ClientError as error:
                if error.response["Error"]["Code"] not in _THROTTLED or attempt == ATTEMPTS:
                    raise self.error("cannot be invoked", about, f": {error}") from None
                time.sleep(AGAIN_SECONDS * 2 ** (attempt - 1))
            except (BotoCoreError, ValueError) as error:
                raise self.error("did not answer", about, f": {error}") from None
        if answer.get("FunctionError"):
            details = said if isinstance(said, dict) else {}
            cause = f"{details.get('errorType', 'Error')}: {details.get('errorMessage', said)}"
            raise self.error("failed", about, f": {cause}")
        return said

    def error(self, problem: str, about: str, details: str = "") -> JobError:
        return JobError(f"ClientError: The {self.kind} function {self.arn} {problem} for {about}{details}")


def needs_labelers(function: AnnotationFunction, response: Any, about: str) -> bool:
    """Return whether a pre-annotation response asks for labels. Raises JobError for an invalid one."""
    if not isinstance(response, Mapping) or not isinstance(response.get("taskInput"), Mapping):
        raise function.error("must return the object taskInput", about, f", got {str(response)[:200]}")
    needed = str(response.get("isHumanAnnotationRequired", True)).lower()
    if needed not in ("true", "false"):
        problem = "must return isHumanAnnotationRequired as true or false"
        raise function.error(problem, about, f", got {needed}")
    return needed == "true"


def contents(function: AnnotationFunction, response: Any, about: str) -> dict[str, Mapping[str, Any]]:
    """Return the contents of a post-annotation response by `datasetObjectId`. Raises JobError."""
    found: dict[str, Any] | None = None
    if isinstance(response, list):
        try:
            found = {each["datasetObjectId"]: each["consolidatedAnnotation"]["content"] for each in response}
        except (TypeError, KeyError):
            found = None
    if found is None or not all(isinstance(content, Mapping) for content in found.values()):
        problem = "must return a list of objects with datasetObjectId and consolidatedAnnotation.content"
        raise function.error(problem, about, f", got {str(response)[:200]}")
    return found
