"""The audit log: for each order one line with a JSON object, which includes the account from the request.

Only the allowed fields of an account are written, and their entries are shortened, so that neither the length
nor the content of a request can hide an order. Alarms count lines by their fields `valid` and `outside`.
"""

from __future__ import annotations

import json
from typing import Any

from toolkit.failure import redact

from .predictor import LONGEST, Predictor, shortened


def line(predictor: Predictor, account: Any, order: dict[str, Any]) -> str:
    """Return the line for an account and its order."""
    entry = {
        "audit": "order",
        "policy": predictor.name,
        **order,
        "outside": "warning" in order,
        "account": _account(predictor, account),
    }
    return f"{json.dumps(_redacted(entry))}\n"


def _account(predictor: Predictor, account: Any) -> Any:
    """Return an account without the fields, and entries of fields, that the predictor does not use."""
    if not isinstance(account, dict):
        return _entry(account)
    lengths = {"mask": 2 * predictor.largest + 1, "history": predictor.look_back + 1}

    def named(field: str, value: Any) -> Any:
        if not isinstance(value, dict):
            return _entry(value)
        return {name: listed(field, value[name]) for name in predictor.names if name in value}

    def listed(field: str, value: Any) -> Any:
        if not isinstance(value, list):
            return _entry(value)
        return [_entry(each) for each in value[: lengths.get(field, 0)]]

    return {field: named(field, account[field]) for field in predictor.fields if field in account}


def _entry(value: Any) -> Any:
    """Return a number, a boolean or null as it is, and anything else as a short text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float) and abs(value) < 1e300:  # false for NaN
        return value
    return value[:LONGEST] if isinstance(value, str) else shortened(value)


def _redacted(value: Any) -> Any:
    """Redact each text in `value`. If the whole line were redacted, a PEM key without an end would hide the
    order."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {name: _redacted(each) for name, each in value.items()}
    return [_redacted(each) for each in value] if isinstance(value, list) else value
