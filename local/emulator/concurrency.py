"""Lambda's reserved concurrency, refused where it would leave the account too little."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

LEAST_UNRESERVED = 100
"""Executions at once that AWS keeps for the functions without a reservation."""


def refusal(functions: Mapping[str, Mapping[str, Any]], name: str | None, wanted: int, limit: int) -> str:
    """Why function `name` cannot have `wanted` executions reserved, "" if it can.

    `functions` are the account's, by name, with their `concurrency`; `limit` is the quota of
    concurrent executions. An account with fewer than 100 can reserve none: it must keep all of them.
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
    """The refusal as CloudFormation tells of it in a stack's events."""
    call, token = uuid.uuid4(), uuid.uuid4()
    said = f"{message} (Service: Lambda, Status Code: 400, Request ID: {call})"
    return (
        f'Resource handler returned message: "{said}"'
        f" (RequestToken: {token}, HandlerErrorCode: InvalidRequest)"
    )
