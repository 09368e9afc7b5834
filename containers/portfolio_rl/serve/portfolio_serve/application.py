"""The HTTP API of SageMaker hosting, `/ping` and `/invocations`: returns an order for each account.

Request, `application/json`:

    {"accounts": [{"holdings": {"A": 20, "B": 0}, "cash": 512.5, "prices": {"A": 41.2, "B": 35.0}, "step": 3,
                   "mask": "all"}]}

`holdings` are in units, `cash` in dollars, `prices` in dollars per unit; `step` counts from 0. `mask` has the
choices that the caller allows: `"all"`, or for each asset a list of 2K + 1 booleans, from selling K lots to
buying K lots, where K is the policy's maximum for an asset. A policy that was trained on a price history also
needs `history`: for each asset its last prices, from the oldest to the current one.

Response: `{"orders": [{"units": {"A": -10, "B": 0}, "valid": true}], "policy": "..."}`. A rejected account
has no trade, `valid` false and a `reason`. An order has a `warning` if the account is outside of the range of
the training data. Each order is written to the audit log.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
from flask import Flask, Response, request

from . import audit
from .predictor import MOST_ACCOUNTS, Predictor, RequestError
from .switch import Switch

LARGEST = 4 * 2**20
"""Maximum size of a request in bytes: SageMaker's limit for serverless endpoints."""
JSON = "application/json"


def application(predictor: Predictor, switch: Switch) -> Flask:
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = LARGEST

    @app.before_request
    def refuse_pages() -> Response | None:
        """Reject requests with headers that browsers add for web pages. SageMaker never forwards them."""
        if request.method != "GET" and ("Origin" in request.headers or "Sec-Fetch-Site" in request.headers):
            return _answer(403, {"error": "requests from web pages are not allowed"})
        return None

    @app.get("/ping")
    def ping() -> Response:
        return Response(status=200)

    @app.post("/invocations")
    def invocations() -> Response:
        if request.mimetype != JSON:
            return _answer(415, {"error": f"content type must be {JSON}, got {request.mimetype}"})
        try:
            accounts = _accounts(request.get_data(), predictor)
        except RequestError as error:
            return _answer(400, {"error": str(error)})
        orders = answer(predictor, accounts, switch.reason())
        lines = [audit.line(predictor, *each) for each in zip(accounts, orders, strict=True)]
        sys.stdout.write("".join(lines))  # a single write, so that lines of several threads do not mix
        sys.stdout.flush()
        return _answer(200, {"orders": orders, "policy": predictor.name})

    @app.errorhandler(413)
    def too_large(_: Exception) -> Response:
        return _answer(413, {"error": f"the body must have at most {LARGEST} bytes"})

    return app


def answer(predictor: Predictor, accounts: list[Any], stopped: str) -> list[dict[str, Any]]:
    """Return an order for each account. Accounts do not affect each other."""
    names = predictor.names
    nothing = dict.fromkeys(names, 0)
    orders: list[dict[str, Any]] = [{"units": nothing, "valid": False, "reason": stopped} for _ in accounts]
    if stopped:
        return orders
    rows: list[tuple[int, Any, Any]] = []
    for index, account in enumerate(accounts):
        try:
            rows.append((index, *predictor.read(account)))
        except RequestError as error:
            orders[index]["reason"] = str(error)
    if rows:
        actions, valid = predictor.ask(np.stack([row[1] for row in rows]), np.stack([row[2] for row in rows]))
        for (index, observation, _), lots, good in zip(rows, actions, valid, strict=True):
            units = {name: int(k) * lot for name, k, lot in zip(names, lots, predictor.lots, strict=True)}
            orders[index] = {"units": units, "valid": bool(good)}
            if not good:
                orders[index]["reason"] = (
                    "the policy has no order for these holdings, cash, prices, step and mask"
                )
            elif warning := predictor.warning(observation):
                orders[index]["warning"] = warning
    return orders


def _accounts(body: bytes, predictor: Predictor) -> list[Any]:
    try:
        asked = json.loads(body, parse_int=_integer)
    except ValueError as error:
        raise RequestError(f"the body must be JSON: {error}") from None
    except RecursionError:
        raise RequestError("the body must be JSON with fewer levels of nesting") from None
    accounts = asked.get("accounts") if isinstance(asked, dict) else None
    most = predictor.most_accounts
    if not isinstance(accounts, list) or not 1 <= len(accounts) <= most:
        each = f", because the policy computes {predictor.choices} choices for each"
        raise RequestError(
            f"accounts must be a list of 1 to {most} accounts{each if most < MOST_ACCOUNTS else ''}"
        )
    return accounts


def _integer(digits: str) -> int | float:
    """Return an integer, or infinity if it is too large for a double: then only its account is rejected."""
    return int(digits) if len(digits) < 300 else float(digits)


def _answer(status: int, document: dict[str, Any]) -> Response:
    return Response(json.dumps(document), status=status, mimetype=JSON)
