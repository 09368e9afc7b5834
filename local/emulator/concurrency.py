"""Checks of Lambda's reserved concurrency: the account must keep some concurrency unreserved."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

LEAST_UNRESERVED = 100
"""Concurrent executions that AWS keeps for functions without a reservation."""


def refusal(functions: Mapping[str, Mapping[str, Any]], name: str | None, wanted: int, limit: int) -> str:
    """Return why a function cannot reserve this concurrency, or "" if it can.

    An account with a quota of less than 100 cannot reserve any concurrency.

    :param functions: the account's functions by name, with their `concurrency`
    :param name: name of the function; None for a new function
    :param wanted: executions to reserve
    :param limit: quota of concurrent executions
    """
    least = min(LEAST_UNRESERVED, limit)
    others = sum(
        int(function.get("concurrency") or 0) for other, function in functions.items() if other != name
    )
    if not wanted or limit - others - wanted >= least:
        return ""
    return (
        "Specified ReservedConcurrentExecutions for function decreases account's"
        f" UnreservedConcurrentExecution below its minimum value of [{least}]."
    )


def in_a_stack(message: str) -> str:
    """Return the error message in the format of CloudFormation's stack events."""
    call, token = uuid.uuid4(), uuid.uuid4()
    said = f"{message} (Service: Lambda, Status Code: 400, Request ID: {call})"
    return (
        f'Resource handler returned message: "{said}"'
        f" (RequestToken: {token}, HandlerErrorCode: InvalidRequest)"
    )
