"""Requests and answers of the HTTP API as defined in `openapi.json`: routes, validation, errors."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypedDict

import fastjsonschema

DOCUMENT = Path(__file__).parents[1] / "openapi.json"
BODY_BYTES = 65_536
"""Maximum size of a body in bytes. A prompt of 2,000 characters, each written as two \\u escapes, has
24,000 bytes."""
JSON = "application/json"
LONGEST_INTEGER = 400
"""Maximum number of digits that are read as an integer, because Python rejects more than 4,300 digits."""


class GatewayEvent(TypedDict, total=False):
    """Event of an HTTP API (payload 2.0), with the fields that are read."""

    routeKey: str
    pathParameters: Mapping[str, str] | None
    queryStringParameters: Mapping[str, str] | None
    headers: Mapping[str, str] | None
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
    """The token's claim `sub`. It alone identifies the user."""
    path: Mapping[str, str]
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None


@dataclass(frozen=True)
class Answer:
    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)

    def to_gateway(self) -> GatewayResponse:
        headers = {"Content-Type": "application/json", "Cache-Control": "no-store", **self.headers}
        return {"statusCode": self.status, "headers": headers, "body": json.dumps(self.body)}


class HttpError(Exception):
    """An error of a request, with the fields of the API's error answers."""

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


def not_found() -> HttpError:
    """Return the same error for objects that never existed, were deleted, or belong to another user."""
    return HttpError(404, "not_found", "Nothing of yours exists at this address.")


def invalid(field: str, message: str) -> HttpError:
    return HttpError(422, "invalid", message, field)


@dataclass(frozen=True)
class Parameter:
    """A query parameter or a header."""

    name: str
    place: str
    """`query` or `header`."""
    allowed: str
    check: Callable[[Any], Any]


@dataclass(frozen=True)
class Operation:
    name: str
    """`operationId` in `openapi.json`."""
    check_body: Callable[[Any], Any] | None
    parameters: tuple[Parameter, ...] = ()
    """Query parameters and headers. Ids in paths are not checked: an invalid id is answered with 404."""


@cache
def operations() -> dict[str, Operation]:
    """Return the operations of `openapi.json` by API Gateway's route key.

    A route key is a text such as `GET /api/models/{model}`.
    """
    document = json.loads(DOCUMENT.read_text())
    found = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if method == "parameters":
                continue
            body = operation.get("requestBody", {}).get("content", {}).get("application/json")
            check = _validator(document, body["schema"]) if body else None
            parameters = tuple(
                Parameter(
                    given["name"],
                    given["in"],
                    _allowed(given["schema"]),
                    _validator(document, given["schema"]),
                )
                for given in operation.get("parameters", [])
            )
            found[f"{method.upper()} {path}"] = Operation(operation["operationId"], check, parameters)
    return found


def _validator(document: Mapping[str, Any], wanted: Mapping[str, Any]) -> Callable[[Any], Any]:
    schema = {"$schema": "http://json-schema.org/draft-07/schema#", "components": document["components"]}
    return fastjsonschema.compile(schema | {"allOf": [wanted]}, use_default=False)


def parse(event: GatewayEvent) -> tuple[Operation, Call]:
    """Return the operation and the call of an API Gateway event (payload 2.0). Raises `HttpError`."""
    operation = operations().get(event.get("routeKey", ""))
    if operation is None:
        raise not_found()
    claims = event.get("requestContext", {}).get("authorizer", {}).get("jwt", {}).get("claims", {})
    user = claims.get("sub")
    if not user:
        raise HttpError(401, "unauthorized", "Sign in.")
    headers = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
    query = event.get("queryStringParameters") or {}
    for parameter in operation.parameters:
        given = (
            query.get(parameter.name) if parameter.place == "query" else headers.get(parameter.name.lower())
        )
        if given is not None:
            _check(parameter, given)
    return operation, Call(
        user=user,
        path=event.get("pathParameters") or {},
        query=query,
        headers=headers,
        body=_body(event, headers, operation.check_body) if operation.check_body else None,
    )


def _check(parameter: Parameter, given: str) -> None:
    try:
        parameter.check(given)
    except fastjsonschema.JsonSchemaValueException:
        raise invalid(parameter.name, f"must be {parameter.allowed}") from None


def _body(event: GatewayEvent, headers: Mapping[str, str], check: Callable[[Any], Any]) -> Any:
    kind = headers.get("content-type", JSON).partition(";")[0].strip().lower()
    if kind != JSON:
        raise HttpError(
            415, "unsupported_type", f"The body's content type must be {JSON}, got {kind[:80]!r}."
        )
    content = event.get("body") or ""
    try:
        read = base64.b64decode(content, validate=True) if event.get("isBase64Encoded") else content.encode()
    except ValueError:  # no base64, or a lone surrogate
        raise _not_json("it is not UTF-8") from None
    if len(read) > BODY_BYTES:
        raise HttpError(413, "too_large", f"The body is larger than {BODY_BYTES} bytes.")
    try:
        body = decode(read)
    except UnicodeError:
        raise _not_json("it is not UTF-8") from None
    except RecursionError:
        raise _not_json("it is nested too deeply") from None
    except ValueError as error:
        raise _not_json(str(error)) from None
    try:
        return check(body)
    except fastjsonschema.JsonSchemaValueException as error:
        raise _told(error) from None


def _not_json(why: str) -> HttpError:
    return HttpError(400, "bad_request", f"The body is not JSON as RFC 7493 defines it: {why}.")


def decode(content: bytes) -> Any:
    """Read JSON as RFC 7493 (I-JSON) defines it: UTF-8, no lone surrogate, no name twice in an object.

    1000.0 is the integer 1000, as in JSON Schema. A number beyond a double's range becomes an infinity, which
    no schema here allows. Raises `ValueError` (`UnicodeError` is a subclass), `RecursionError`.
    """
    body = json.loads(
        content.decode(),
        parse_constant=_no_constant,
        parse_float=_number,
        parse_int=lambda digits: int(digits) if len(digits) <= LONGEST_INTEGER else float(digits),
        object_pairs_hook=_object,
    )
    json.dumps(body, ensure_ascii=False).encode()  # raises for lone surrogates in any string
    return body


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _number(text: str) -> float | int:
    value = float(text)
    return int(value) if value.is_integer() else value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has a name twice")
    return found


def _told(error: fastjsonschema.JsonSchemaValueException) -> HttpError:
    """Return the API's error, with the field's name and what the OpenAPI document allows for the field."""
    definition, path = error.definition or {}, [str(part) for part in error.path][1:]
    if error.rule == "required":
        missing = [name for name in definition["required"] if name not in (error.value or {})]
        properties = definition["properties"][missing[0]]
        return invalid(_named([*path, missing[0]]), f"is missing, must be {_allowed(properties)}")
    if error.rule == "additionalProperties":
        known = definition["properties"]
        unknown = sorted(set(error.value) - set(known))[0]
        return invalid(_named([*path, unknown[:80]]), f"is unknown, must be one of: {', '.join(known)}")
    return invalid(_named(path), f"must be {_allowed(definition)}")


@cache
def _schemas() -> dict[str, Any]:
    return json.loads(DOCUMENT.read_text())["components"]["schemas"]


def _allowed(definition: Mapping[str, Any]) -> str:
    if "$ref" in definition:
        definition = _schemas()[definition["$ref"].rpartition("/")[2]]
    return definition.get("description", "another value")


def _named(path: list[str]) -> str:
    """Return a field's name such as `images[2].bytes`."""
    name = ""
    for part in path:
        name += f"[{part}]" if part.isdigit() else f".{part}" if name else part
    return name
