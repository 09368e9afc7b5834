"""Record which API calls succeed and which resource types are created (`local/record.py`)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from local import record
from local.emulator.callers import INVOCATIONS, Admitted, bucket_of
from local.emulator.reach import Cloud, hook, replace, touch
from local.sagemaker import prices, scaling

OWN = ("sagemaker", scaling.SERVICE, prices.SERVICE)
"""Services that MiniStack lacks."""
PARAMETERS = ("service", "method", "path", "headers", "body", "query_params")

logger = logging.getLogger(__name__)


def recording(admitted: Admitted, send: Callable) -> Callable:
    """Return a `send` function that records the request's action unless the response is an error."""
    if not record.on():
        return send

    async def sent(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start" and message["status"] < 400:
            try:
                if action := _action(admitted):
                    record.answered(action)
            except Exception:
                logger.exception("%s was not recorded", admitted.path)
        await send(message)

    return sent


def _action(admitted: Admitted) -> str | None:
    """Return the IAM action of a request, or None if it is not a call of an API."""
    request, path = admitted.request, admitted.path
    if request.method == "OPTIONS" or (admitted.is_data_plane and not path.endswith(INVOCATIONS)):
        return None
    service, operation = admitted.called
    if service in OWN:  # invocations of endpoints are recorded when they are authorized
        return f"{service}:{operation}" if operation else None
    if bucket := bucket_of(request.header("host")):
        service, path = "s3", f"/{bucket}{path}"
    action_of = touch("core.iam_actions.extract_iam_action", *PARAMETERS)
    return action_of(service, request.method, path, admitted.headers, request.body, admitted.parameters)


@hook
def created_types_are_recorded(cloud: Cloud) -> None:
    """MiniStack does not report which resource types its stacks have created."""

    @replace(
        "services.cloudformation.stacks._provision_resource",
        "resource_type", "logical_id", "props", "stack_name",
    )  # fmt: skip
    def provision(original: Callable, resource_type: str, *given: Any) -> tuple:
        created = original(resource_type, *given)
        record.answered(resource_type)
        return created
