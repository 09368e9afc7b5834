"""The multi-model endpoint as `ports.Endpoint`, invoked through SageMaker's runtime API."""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError, ConnectionError, HTTPClientError

from personalization.core.ports import BusyError, FieldRefusedError
from personalization.core.rows import GenerationRequest

if TYPE_CHECKING:
    from mypy_boto3_sagemaker_runtime import SageMakerRuntimeClient

PNG = b"\x89PNG\r\n\x1a\n"
_FIELD = re.compile(r"(prompt|seed|count):? (.+)", re.DOTALL)


class SageMakerEndpoint:
    """`ports.Endpoint` with SageMaker's runtime API."""

    def __init__(self, client: SageMakerRuntimeClient, name: str) -> None:
        self.client, self.name = client, name

    def generate(self, target: str, request: GenerationRequest) -> list[bytes]:
        try:
            answer = self.client.invoke_endpoint(
                EndpointName=self.name,
                TargetModel=target,
                ContentType="application/json",
                Accept="application/json",
                Body=json.dumps(request).encode(),
            )
            return _pictures(answer["Body"].read(), request["count"])
        except ClientError as error:
            raise _meaning(error) from error
        except (ConnectionError, HTTPClientError) as error:
            raise BusyError(f"the endpoint did not answer in time: {type(error).__name__}", 10) from error


def _pictures(body: bytes, count: int) -> list[bytes]:
    try:
        pictures = [base64.b64decode(text, validate=True) for text in json.loads(body)["images"]]
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise BusyError(
            "the endpoint's response must be JSON with `images`, a list of base64 texts", 30
        ) from error
    if len(pictures) != count or not all(picture.startswith(PNG) for picture in pictures):
        raise BusyError(f"the endpoint must return {count} pictures, all PNG, got {len(pictures)}", 30)
    return pictures


def _meaning(error: ClientError) -> Exception:
    code, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
    if code == "ModelError":
        status = int(error.response.get("OriginalStatusCode") or 500)
        found = _FIELD.match(_said(error.response.get("OriginalMessage", "")))
        if 400 <= status < 500 and found:
            return FieldRefusedError(found[1], found[2].strip())
        return BusyError(
            f"the model container returned status {status}", 5 if status in (429, 503, 507) else 30
        )
    if code in ("ThrottlingException", "ModelNotReadyException", "ServiceUnavailable", "InternalFailure"):
        return BusyError(code, 5)
    return BusyError(f"{code}: {message}", 30)


def _said(original: str) -> str:
    """Return the field `error` of the container's response, or the response itself if it is not JSON."""
    try:
        body = json.loads(original)
    except ValueError:
        return original
    return str(body.get("error", "")) if isinstance(body, dict) else original
