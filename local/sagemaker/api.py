"""Dispatch of SageMaker's operations: validation against botocore's service model, authorization, handlers.

A handler is a function `(context, params) -> response` with the decorator `@operation("CreateModel", ...)`.
HTTP requests, Step Functions and CloudFormation all use `call`.
"""

from __future__ import annotations

import base64
import functools
import json
import re
import time
import unicodedata
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from botocore.validate import ParamValidator

from local import record
from local.sagemaker import members
from local.sagemaker.platform import Platform
from local.sagemaker.service_models import service_model
from local.sagemaker.store import Scope, StorageError

NOT_BUILT = "NotImplementedByLocalCloud"
"""Error code for features of AWS that the local cloud does not have."""


class ApiError(Exception):
    """An error response of the service: the API's error code, a message, an HTTP status."""

    def __init__(self, code: str, message: str, status: int = 400):
        super().__init__(message)
        self.code, self.message, self.status = code, message, status


def invalid(message: str) -> ApiError:
    return ApiError("ValidationException", message)


def unbuilt(what: str) -> ApiError:
    """Return the error for an operation, or a feature of an operation, that the local cloud does not have."""
    return ApiError(NOT_BUILT, f"sagemaker:{what} is not implemented in the local cloud", 501)


@dataclass(frozen=True)
class Context:
    """Caller, account and Region of a request. `access_key` is None for requests of the cloud itself, which
    need no permissions."""

    platform: Platform
    store: Scope
    access_key: str | None = None

    @property
    def account(self) -> str:
        return self.store.account

    @property
    def region(self) -> str:
        return self.store.region

    def arn(self, kind: str, name: str) -> str:
        """Return the ARN of a SageMaker resource, such as `arn("training-job", name)`."""
        return f"arn:aws:sagemaker:{self.region}:{self.account}:{kind}/{name}"


Handler = Callable[[Context, dict[str, Any]], dict[str, Any] | None]


@dataclass(frozen=True)
class Operation:
    handler: Handler
    resource: Callable[[Context, dict], str | list[str]] | None
    roles: tuple[str, ...]


OPERATIONS: dict[str, Operation] = {}


def operation(
    name: str, resource: Callable[[Context, dict], str | list[str]] | None = None, roles: tuple[str, ...] = ()
) -> Callable[[Handler], Handler]:
    """Register the handler of an operation.

    :param resource: returns the ARN that IAM checks, or several ARNs; default: `*`, as for List operations
    :param roles: paths of the request's members with a role's ARN. The caller must be allowed to pass these
        roles
    """

    def register(handler: Handler) -> Handler:
        OPERATIONS[name] = Operation(handler, resource, roles)
        return handler

    return register


def call(context: Context, name: str, params: dict[str, Any]) -> dict[str, Any]:
    """Execute an operation and return its response.

    Raises `ApiError` with AWS's error code, or with `NOT_BUILT` for what the local cloud does not have.
    """
    if name not in service_model().operation_names:
        raise ApiError("UnknownOperationException", f"SageMaker has no operation {name}", 404)
    found = OPERATIONS.get(name)
    if found is None:
        raise unbuilt(name)
    params = without_nulls(params)
    model = service_model().operation_model(name)
    validate(model.input_shape, params)
    if context.access_key is not None:
        resource = found.resource(context, params) if found.resource else "*"
        resources = [resource] if isinstance(resource, str) else resource
        for each in resources:
            _authorize(context, f"sagemaker:{name}", each)
        if name.startswith("Create") and params.get("Tags"):
            _authorize(context, "sagemaker:AddTags", resources[0])
        for role in found.roles:
            for passed in members.at(params, role.split(".")):
                _authorize(context, "iam:PassRole", passed)
    if member := members.unbuilt(name, params):
        raise unbuilt(f"{name} with {member}")
    try:
        with context.store.store.answering():
            answer = shaped(model.output_shape, found.handler(context, params) or {})
    except StorageError as error:
        raise ApiError("InsufficientStorage", str(error), 507) from error
    record.answered(f"sagemaker:{name}")
    return answer


def with_tokens(operation: str, params: dict[str, Any]) -> dict[str, Any]:
    """Return a request's parameters with missing idempotency tokens added, as AWS SDKs do."""
    if operation not in service_model().operation_names:
        return params
    members = service_model().operation_model(operation).idempotent_members
    return {name: str(uuid.uuid4()) for name in members} | params


def without_nulls(value: Any) -> Any:
    """Return a request without its null members, which count as absent."""
    if isinstance(value, dict):
        return {name: without_nulls(member) for name, member in value.items() if member is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def shaped(shape: Any, value: Any) -> Any:
    """Return `value` without members that the service's model lacks, such as a record's private members."""
    if shape is None:
        return {}
    if shape.type_name == "structure":
        return {
            name: shaped(shape.members[name], member)
            for name, member in value.items()
            if name in shape.members and member is not None
        }
    if shape.type_name == "list":
        return [shaped(shape.member, item) for item in value]
    if shape.type_name == "map":
        return {key: shaped(shape.value, item) for key, item in value.items()}
    return value


def _authorize(context: Context, action: str, resource: str) -> None:
    assert context.access_key is not None  # noqa: S101 - narrows the type
    context.platform.authorize(context.account, context.region, context.access_key, action, resource)


def validate(shape: Any, params: dict[str, Any]) -> None:
    """Check parameters against the service's model: types, required members, lengths, ranges, patterns and
    enumerations. Raises `ApiError("ValidationException")` naming the invalid members."""
    if shape is None:
        return
    report = ParamValidator().validate(params, shape)
    if report.has_errors():
        raise invalid(report.generate_report())
    problems = list(_constraints(shape, params, ""))
    if problems:
        count = "1 validation error" if len(problems) == 1 else f"{len(problems)} validation errors"
        raise invalid(f"{count} detected: " + "; ".join(problems))


def _constraints(shape: Any, value: Any, where: str) -> Iterator[str]:
    if shape.type_name == "structure":
        for name, member in shape.members.items():
            if value.get(name) is not None:
                yield from _constraints(member, value[name], f"{where}.{name}" if where else name)
    elif shape.type_name == "list":
        if "max" in shape.metadata and len(value) > shape.metadata["max"]:
            yield f"'{where}' has {len(value)} members, at most {shape.metadata['max']} are allowed"
        for index, item in enumerate(value):
            yield from _constraints(shape.member, item, f"{where}.{index + 1}.member")
    elif shape.type_name == "map":
        for key, item in value.items():
            yield from _constraints(shape.key, key, f"{where} key")
            yield from _constraints(shape.value, item, f"{where}.{key}")
    elif shape.type_name == "string":
        if shape.enum and value not in shape.enum:
            yield f"Value '{value}' at '{where}' must be one of [{', '.join(shape.enum)}]"
        if "max" in shape.metadata and len(value) > shape.metadata["max"]:
            yield f"Value at '{where}' must have at most {shape.metadata['max']} characters"
        wanted = shape.metadata.get("pattern")
        if wanted and (pattern := _pattern(wanted)) and not pattern.fullmatch(value):
            yield f"Value '{value}' at '{where}' must match the pattern {wanted}"
    elif shape.type_name in ("integer", "long", "float", "double") and value > shape.metadata.get(
        "max", value
    ):
        yield f"Value {value} at '{where}' must be at most {shape.metadata['max']}"


@functools.cache
def _pattern(java: str) -> re.Pattern[str] | None:
    """Translate a Java pattern of the model to Python. Return None if that is not possible."""
    text = re.sub(r"\\p\{(\w+)\}", lambda match: _characters(match[1]), java)
    text = re.sub(r"\$\{\d+,\d+\}$", "", text)  # an error in the model: `$` with a quantifier
    try:
        return re.compile(text, re.DOTALL)
    except re.error:
        return None


@functools.cache
def _characters(category: str) -> str:
    """Translate Java's `\\p{category}` to ranges for a Python character class, without the brackets."""
    if category == "Alnum":
        return "a-zA-Z0-9"
    member = [unicodedata.category(chr(code)).startswith(category) for code in range(0x20000)] + [False]
    starts = [code for code in range(0x20000) if member[code] and not (code and member[code - 1])]
    ends = [code for code in range(0x20000) if member[code] and not member[code + 1]]
    return "".join(f"\\U{start:08x}-\\U{end:08x}" for start, end in zip(starts, ends, strict=True))


def page(
    params: dict[str, Any], records: list[dict[str, Any]], key: str, default: str = "CreationTime"
) -> dict[str, Any]:
    """Return one page of a List operation's results.

    Applies SortBy, SortOrder, NameContains, StatusEquals, CreationTimeAfter/Before,
    LastModifiedTimeAfter/Before, MaxResults and NextToken.

    :param records: summaries of all resources
    :param key: member of the response that has the list
    :param default: default of SortBy
    """
    name_of = next((n for n in (records[0] if records else {}) if n.endswith("Name")), "")
    status_of = next((n for n in (records[0] if records else {}) if n.endswith("Status")), "")
    kept = [
        record
        for record in records
        if params.get("NameContains", "").lower() in str(record.get(name_of, "")).lower()
        and params.get("StatusEquals") in (None, record.get(status_of))
        and all(
            _seconds(record[of]) >= _seconds(params[f"{of}After"])
            for of in ("CreationTime", "LastModifiedTime")
            if f"{of}After" in params
        )
        and all(
            _seconds(record[of]) <= _seconds(params[f"{of}Before"])
            for of in ("CreationTime", "LastModifiedTime")
            if f"{of}Before" in params
        )
    ]
    by = str(params.get("SortBy", default))
    by = {"Name": name_of, "Status": status_of}.get(by, by)
    descending = params.get("SortOrder", "Descending") != "Ascending"

    def place(record: dict[str, Any]) -> list[Any]:
        """Return the sort key of a record. It is unique, and does not depend on other records."""
        name = next((str(record[n]) for n in record if n.endswith("Name")), record.get("Key", ""))
        value = record.get(by)
        return [value is not None, value or 0, record.get("ModelPackageVersion", 0), name]

    kept.sort(key=place, reverse=descending)
    if "NextToken" in params:
        last = _read_token(params["NextToken"], [key, by, descending])
        kept = [each for each in kept if (place(each) < last if descending else place(each) > last)]
    size = int(params.get("MaxResults", 10))  # the service's own default
    result: dict[str, Any] = {key: kept[:size]}
    if len(kept) > size:
        result["NextToken"] = _token([key, by, descending], place(kept[size - 1]))
    return result


def _token(listing: list[Any], place: list[Any]) -> str:
    """Return a token with the sort key of a page's last record. It stays valid when records are deleted."""
    return base64.urlsafe_b64encode(json.dumps([listing, place]).encode()).decode()


def _read_token(token: str, listing: list[Any]) -> list[Any]:
    try:
        of, place = json.loads(base64.urlsafe_b64decode(token.encode()))
    except (ValueError, TypeError):
        of, place = None, None
    if of != listing or not isinstance(place, list):
        raise invalid("NextToken must be a token that this operation returned")
    return place


def _seconds(moment: Any) -> float:
    return moment.timestamp() if hasattr(moment, "timestamp") else float(moment)


def now() -> float:
    return round(time.time(), 3)
