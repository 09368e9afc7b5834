"""Invocations of the pre- and post-annotation Lambda functions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from data_centric.core.hooks import HookError

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

AT_ONCE = 4
"""Maximum number of concurrent invocations. A new AWS account has 10 concurrent executions in all."""


def call(client: LambdaClient, function: str, request: Mapping[str, Any]) -> Any:
    """Return the function's response. Raises `HookError` with the function's error."""
    answer = client.invoke(FunctionName=function, Payload=json.dumps(request).encode())
    with answer["Payload"] as body:
        response = json.loads(body.read() or b"null")
    if "FunctionError" in answer:
        reason = response.get("errorMessage") if isinstance(response, Mapping) else response
        raise HookError(f"{function.rpartition(':')[2]} failed: {reason}")
    return response


def call_each(client: LambdaClient, function: str, requests: Iterable[Mapping[str, Any]]) -> list[Any]:
    """Return the responses in the order of the requests. Raises `HookError` like `call`."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda request: call(client, function, request), requests))
