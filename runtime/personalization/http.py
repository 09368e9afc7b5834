"""Requests and answers of the HTTP API, as `openapi.json` describes them: routes, validation, errors."""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import fastjsonschema

DOCUMENT = Path(__file__).with_name("openapi.json")
BODY_BYTES = 65_536
"""The largest body is a new model's list of a hundred pictures, a few kilobytes."""


@dataclass(frozen=True)
class Call:
    """One request of a signed-in user."""

    user: str
    """The token's `sub`: the one thing that says who asks."""
    path: Mapping[str, str]
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None


@dataclass(frozen=True)
class Answer:
    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)

    def to_gateway(self) -> dict[str, Any]:
        headers = {"Content-Type": "application/json", "Cache-Control": "no-store", **self.headers}
        return {"statusCode": self.status, "headers": headers, "body": json.dumps(self.body)}


class Problem(Exception):
    """What ends a request, in the one shape that errors have."""

    def __init__(
        self, status: int, code: str, message: str, field: str = "", retry_after: float | None = None
    ):
        super().__init__(f"{status} {code} {field}: {message}")
        self.status, self.code, self.field, self.message = status, code, field, message
        self.retry_after = retry_after

    def answer(self) -> Answer:
        error = {"code": self.code, "field": self.field, "message": self.message}
        headers = {"Retry-After": str(max(1, math.ceil(self.retry_after)))} if self.retry_after else {}
        return Answer(self.status, {"error": error}, headers)


def not_found() -> Problem:
    """The same for what never was, what is gone and what is somebody else's."""
    return Problem(404, "not_found", "There is nothing of yours at this address.")


def invalid(field: str, message: str) -> Problem:
    return Problem(422, "invalid", message, field)


@dataclass(frozen=True)
class Operation:
    name: str
    """Its `operationId`."""
    check_body: Callable[[Any], Any] | None


@cache
def operations() -> dict[str, Operation]:
    """The document's operations by API Gateway's route key, such as `GET /api/models/{model}`."""
    document = json.loads(DOCUMENT.read_text())
    found = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if method == "parameters":
                continue
            body = operation.get("requestBody", {}).get("content", {}).get("application/json")
            check = _validator(document, body["schema"]["$ref"]) if body else None
            found[f"{method.upper()} {path}"] = Operation(operation["operationId"], check)
    return found


def _validator(document: Mapping[str, Any], reference: str) -> Callable[[Any], Any]:
    schema = {"$schema": "http://json-schema.org/draft-07/schema#", "components": document["components"]}
    return fastjsonschema.compile(schema | {"allOf": [{"$ref": reference}]}, use_default=False)


def parse(event: Mapping[str, Any]) -> tuple[Operation, Call]:
    """API Gateway's event (payload 2.0). Raises `Problem`."""
    operation = operations().get(event.get("routeKey", ""))
    if operation is None:
        raise not_found()
    claims = event.get("requestContext", {}).get("authorizer", {}).get("jwt", {}).get("claims", {})
    user = claims.get("sub")
    if not user:
        raise Problem(401, "unauthorized", "Sign in.")
    return operation, Call(
        user=user,
        path=event.get("pathParameters") or {},
        query=event.get("queryStringParameters") or {},
        headers={name.lower(): value for name, value in (event.get("headers") or {}).items()},
        body=_body(event, operation.check_body) if operation.check_body else None,
    )


def _body(event: Mapping[str, Any], check: Callable[[Any], Any]) -> Any:
    content = event.get("body") or ""
    if len(content) > BODY_BYTES:
        raise Problem(413, "too_large", f"The body is larger than {BODY_BYTES} bytes.")
    try:
        text = base64.b64decode(content, validate=True) if event.get("isBase64Encoded") else content
        body = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError, binascii.Error):
        raise Problem(400, "bad_request", "The body is not JSON.") from None
    try:
        return check(body)
    except fastjsonschema.JsonSchemaValueException as error:
        raise _told(error) from None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _told(error: fastjsonschema.JsonSchemaValueException) -> Problem:
    """The field and what is allowed, in the document's own words."""
    definition, path = error.definition or {}, [str(part) for part in error.path][1:]
    if error.rule == "required":
        missing = [name for name in definition["required"] if name not in (error.value or {})]
        properties = definition["properties"][missing[0]]
        return invalid(_named([*path, missing[0]]), f"is missing, allowed is: {_allowed(properties)}")
    if error.rule == "additionalProperties":
        known = definition["properties"]
        unknown = sorted(set(error.value) - set(known))[0]
        return invalid(_named([*path, unknown[:80]]), f"is not known, allowed are: {', '.join(known)}")
    return invalid(_named(path), f"is not allowed, allowed is: {_allowed(definition)}")


@cache
def _schemas() -> dict[str, Any]:
    return json.loads(DOCUMENT.read_text())["components"]["schemas"]


def _allowed(definition: Mapping[str, Any]) -> str:
    if "$ref" in definition:
        definition = _schemas()[definition["$ref"].rpartition("/")[2]]
    return definition.get("description", "another value")


def _named(path: list[str]) -> str:
    """`images[2].bytes`"""
    name = ""
    for part in path:
        name += f"[{part}]" if part.isdigit() else f".{part}" if name else part
    return name
