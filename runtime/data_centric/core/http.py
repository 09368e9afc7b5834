"""Requests and responses of the HTTP API as defined in `openapi.json`: routes, validation, errors."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypedDict

import fastjsonschema

DOCUMENT = Path(__file__).parents[1] / "openapi.json"
BODY_BYTES = 4_096


class GatewayEvent(TypedDict, total=False):
    """Event of an API Gateway HTTP API (payload 2.0), with only the fields that Groundplan reads."""

    routeKey: str
    pathParameters: Mapping[str, str] | None
    body: str | None
    isBase64Encoded: bool
    requestContext: Mapping[str, Any]


class GatewayResponse(TypedDict):
    statusCode: int
    headers: dict[str, str]
    body: str


@dataclass(frozen=True)
class Call:
    """One request of a signed-in user."""

    user: str
    """The token's claim `sub`"""
    groups: frozenset[str]
    path: Mapping[str, str]
    body: Any = None


@dataclass(frozen=True)
class Answer:
    status: int
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def to_gateway(self) -> GatewayResponse:
        headers = {"Cache-Control": "no-store", **self.headers}
        if self.body is None:
            return {"statusCode": self.status, "headers": headers, "body": ""}
        headers = {"Content-Type": "application/json", **headers}
        return {"statusCode": self.status, "headers": headers, "body": json.dumps(self.body)}


class HttpError(Exception):
    """An error response."""

    def __init__(self, status: int, code: str, message: str, field: str = "") -> None:
        super().__init__(f"{status} {code} {field}: {message}")
        self.status, self.code, self.field, self.message = status, code, field, message

    def answer(self) -> Answer:
        error = {"code": self.code, "field": self.field, "message": self.message}
        headers = {"Retry-After": "1"} if self.status == 503 else {}
        return Answer(self.status, {"error": error}, headers)


def not_found() -> HttpError:
    return HttpError(404, "not_found", "There is no open run of this name that you may label.")


def busy() -> HttpError:
    return HttpError(503, "busy", "Too many labelers saved answers at the same time. Try again.")


@dataclass(frozen=True)
class Operation:
    name: str
    """`operationId` in `openapi.json`"""
    check_body: Callable[[Any], Any] | None


@cache
def operations() -> dict[str, Operation]:
    """Return the operations of `openapi.json` by API Gateway's route key, such as `GET /api/runs`."""
    document = json.loads(DOCUMENT.read_text())
    found = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if method == "parameters":
                continue
            body = operation.get("requestBody", {}).get("content", {}).get("application/json")
            check = _validator(document, body["schema"]) if body else None
            found[f"{method.upper()} {path}"] = Operation(operation["operationId"], check)
    return found


def _validator(document: Mapping[str, Any], wanted: Mapping[str, Any]) -> Callable[[Any], Any]:
    schema = {"$schema": "http://json-schema.org/draft-07/schema#", "components": document["components"]}
    return fastjsonschema.compile(schema | {"allOf": [wanted]}, use_default=False)


def parse(event: GatewayEvent) -> tuple[Operation, Call]:
    """Return the operation and its call. Raises `HttpError`."""
    operation = operations().get(event.get("routeKey", ""))
    if operation is None:
        raise not_found()
    claims = event.get("requestContext", {}).get("authorizer", {}).get("jwt", {}).get("claims", {})
    user = claims.get("sub")
    if not user:
        raise HttpError(401, "unauthorized", "Sign in.")
    # API Gateway formats a list in a claim as `[first second]`
    groups = frozenset(str(claims.get("cognito:groups", "")).strip("[]").replace(",", " ").split())
    body = _body(event, operation.check_body) if operation.check_body else None
    return operation, Call(user, groups, event.get("pathParameters") or {}, body)


def _body(event: GatewayEvent, check: Callable[[Any], Any]) -> Any:
    content = event.get("body") or ""
    try:
        read = base64.b64decode(content, validate=True) if event.get("isBase64Encoded") else content.encode()
        if len(read) > BODY_BYTES:
            raise HttpError(413, "too_large", f"The body must have at most {BODY_BYTES} bytes.")
        body = json.loads(read.decode())
    except (ValueError, RecursionError):
        raise HttpError(400, "bad_request", "The body must be JSON.") from None
    try:
        return check(body)
    except fastjsonschema.JsonSchemaValueException as error:
        raise _invalid(error) from None


def _invalid(error: fastjsonschema.JsonSchemaValueException) -> HttpError:
    """Return an error that names the field and the allowed values, which `openapi.json` describes."""
    definition, path = error.definition or {}, [str(part) for part in error.path][1:]
    if error.rule == "required":
        name = next(name for name in definition["required"] if name not in (error.value or {}))
        allowed = definition["properties"][name]["description"]
        return invalid(name, f"{name} is missing; it must be {allowed}")
    if error.rule == "additionalProperties":
        known = definition["properties"]
        name = min(set(error.value) - set(known))[:80]
        return invalid(name, f"{name} is an unknown field, must be one of: {', '.join(known)}")
    name = ".".join(path) or "body"
    return invalid(name, f"{name} must be {definition.get('description', 'another value')}")


def invalid(field: str, message: str) -> HttpError:
    return HttpError(400, "invalid", message, field)
