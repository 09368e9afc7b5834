"""The multi-model endpoint: one call, and what its failures mean to the caller."""

from __future__ import annotations

import base64
import binascii
import json
import logging
import re
from typing import Any

from botocore.exceptions import ClientError, ConnectionError, HTTPClientError

log = logging.getLogger(__name__)

PNG = b"\x89PNG\r\n\x1a\n"
_FIELD = re.compile(r"(prompt|seed|count): (.+)", re.DOTALL)


class Refused(Exception):
    """The endpoint refuses a field: its name and what is allowed."""

    def __init__(self, field: str, message: str):
        super().__init__(f"{field}: {message}")
        self.field, self.message = field, message


class Busy(Exception):
    """Not now. `seconds`: when it is worth trying again."""

    def __init__(self, why: str, seconds: int):
        super().__init__(why)
        self.seconds = seconds


def invoke(client: Any, endpoint: str, target: str, request: dict[str, Any]) -> list[bytes]:
    """The PNGs that the model `target` makes of `request`. Raises `Refused`, `Busy`."""
    try:
        answer = client.invoke_endpoint(
            EndpointName=endpoint,
            TargetModel=target,
            ContentType="application/json",
            Accept="application/json",
            Body=json.dumps(request).encode(),
        )
        return _pictures(answer["Body"].read(), request["count"])
    except ClientError as error:
        raise _meaning(error) from error
    except (ConnectionError, HTTPClientError) as error:
        raise Busy(f"the endpoint did not answer in time: {type(error).__name__}", 10) from error


def _pictures(body: bytes, count: int) -> list[bytes]:
    try:
        pictures = [base64.b64decode(text, validate=True) for text in json.loads(body)["images"]]
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise Busy("the endpoint answered with something else than pictures", 30) from error
    if len(pictures) != count or not all(picture.startswith(PNG) for picture in pictures):
        raise Busy(f"the endpoint answered with {len(pictures)} pictures, not {count} PNGs", 30)
    return pictures


def _meaning(error: ClientError) -> Exception:
    code, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
    if code == "ModelError":
        status = int(error.response.get("OriginalStatusCode") or 500)
        found = _FIELD.match(_said(error.response.get("OriginalMessage", "")))
        if 400 <= status < 500 and found:
            return Refused(found[1], found[2].strip())
        return Busy(f"the model answered {status}", 5 if status in (429, 503, 507) else 30)
    if code in ("ThrottlingException", "ModelNotReadyException", "ServiceUnavailable", "InternalFailure"):
        return Busy(code, 5)
    return Busy(f"{code}: {message}", 30)


def _said(original: str) -> str:
    """The `error` of the container's JSON, or its text as it is."""
    try:
        body = json.loads(original)
    except ValueError:
        return original
    return str(body.get("error", "")) if isinstance(body, dict) else original
