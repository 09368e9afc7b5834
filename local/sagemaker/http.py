"""HTTP requests to SageMaker: JSON 1.1 operations by `X-Amz-Target`, and the paths of the SageMaker runtime.

The module also answers requests to Application Auto Scaling, the AWS Price List, and the REST API of MLflow
apps.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from local.sagemaker import (
    api,
    domains,
    hosting,
    labeling,
    mlflow,
    models,
    notebooks,
    pipelines,
    prices,
    processing,
    registry,
    scaling,
    tags,
    training,
    transform,
    tuning,
)
from local.sagemaker.api import NOT_BUILT, ApiError, Context
from local.sagemaker.platform import Platform
from local.sagemaker.store import StorageError, Store

Response = tuple[int, dict[str, str], bytes]

OPERATED_BY = (
    domains,
    hosting,
    labeling,
    mlflow,
    models,
    notebooks,
    pipelines,
    processing,
    registry,
    tags,
    training,
    transform,
    tuning,
)
"""Modules that register their operations when they are imported."""

SCALING = "AnyScaleFrontendService"
"""Name of Application Auto Scaling in `X-Amz-Target`."""
PRICES = "AWSPriceListService"
"""Name of the AWS Price List in `X-Amz-Target`."""
MLFLOW = "/api/"
"""Path prefix of the REST APIs of an MLflow app."""
SERVICES = {"SageMaker": api.call, SCALING: scaling.call, PRICES: prices.call}

logger = logging.getLogger(__name__)

_RUNTIME = re.compile(r"/endpoints/([^/]+)/(invocations|async-invocations|invocations-\w+-stream)")
_RUNTIME_UNBUILT = {
    "async-invocations": "InvokeEndpointAsync",
    "invocations-response-stream": "InvokeEndpointWithResponseStream",
    "invocations-bidirectional-stream": "InvokeEndpointWithBidirectionalStream",
}


def handle_request(
    platform: Platform,
    store: Store,
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: bytes,
    query: Mapping[str, Any],
    account: str,
    region: str,
    access_key: str | None,
) -> Response:
    """Answer one HTTP request. Blocks until the response is ready; never raises.

    :param access_key: the caller's access key, whose IAM policies are enforced; None: the local cloud itself
    """
    context = Context(platform, store.scoped(account, region), access_key)
    headers = {name.lower(): value for name, value in headers.items()}
    try:
        if runtime := _RUNTIME.fullmatch(path.partition("?")[0]):
            return _invoke(context, method, unquote(runtime[1]), runtime[2], headers, body)
        if path.startswith(MLFLOW) and mlflow.HEADER in headers:
            return mlflow.invoke(context, method, path, headers, body, query)
        service, name = _operation(method, headers)
        with store.answering():
            return _answer(200, SERVICES[service](context, name, _parameters(body)))
    except ApiError as error:
        return _error(error)
    except StorageError as error:
        logger.error("Could not save the changes of %s: %s", headers.get("x-amz-target", ""), error)
        return _error(ApiError("InsufficientStorage", str(error), 507))
    except Exception:
        logger.exception("Could not answer %s %s %s", method, path, headers.get("x-amz-target", ""))
        return _error(
            ApiError("InternalFailure", "The local SageMaker failed; the cloud's log has the error.", 500)
        )


def _operation(method: str, headers: Mapping[str, str]) -> tuple[str, str]:
    service, _, name = headers.get("x-amz-target", "").rpartition(".")
    if method != "POST" or service not in SERVICES or not name:
        raise ApiError("UnknownOperationException", "The request names no operation of SageMaker", 404)
    return service, name


def _parameters(body: bytes) -> dict[str, Any]:
    try:
        params = json.loads(body or b"{}")
    except ValueError:
        params = None
    if not isinstance(params, dict):
        raise ApiError("SerializationException", "The request's body is not a JSON object")
    return params


def _invoke(
    context: Context, method: str, endpoint: str, action: str, headers: Mapping[str, str], body: bytes
) -> Response:
    if action in _RUNTIME_UNBUILT:
        raise ApiError(
            NOT_BUILT,
            f"sagemaker:{_RUNTIME_UNBUILT[action]} is not implemented in the local cloud",
            501,
        )
    if method != "POST":
        raise ApiError("MethodNotAllowedException", f"{method} is not allowed on an endpoint", 405)
    return hosting.invoke(context, endpoint, headers, body)


def _answer(status: int, document: dict[str, Any]) -> Response:
    return status, {"Content-Type": "application/x-amz-json-1.1"}, json.dumps(document).encode()


def _error(error: ApiError) -> Response:
    status, headers, body = _answer(error.status, {"__type": error.code, "message": error.message})
    # SDKs read the error code from the body; for the SageMaker runtime, a REST API, from this header first
    return status, headers | {"x-amzn-ErrorType": error.code}, body
