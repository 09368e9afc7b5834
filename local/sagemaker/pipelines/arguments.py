"""Validation of a step's arguments against botocore's model of the request, when a pipeline is created."""

from __future__ import annotations

from typing import Any

from local.sagemaker import members
from local.sagemaker.api import service_model, unbuilt
from local.sagemaker.pipelines.expressions import (
    BOOLEAN,
    FLOAT,
    INTEGER,
    STRING,
    UNKNOWN,
    Path,
    References,
    function_of,
    malformed,
    type_of,
)
from local.sagemaker.pipelines.step_types import StepType

_SCALARS = {
    "string": STRING,
    "timestamp": STRING,
    "integer": INTEGER,
    "long": INTEGER,
    "float": FLOAT,
    "double": FLOAT,
    "boolean": BOOLEAN,
}
"""Types of pipeline values, by scalar type in botocore's service models."""


def check(kind: str, step_type: StepType, arguments: Any, known: References) -> None:
    """Raise ApiError naming an unknown or unsupported member, a wrong type, or an invalid reference.

    Properties of evaluated values, such as lengths and patterns, are checked when the step runs, as on AWS.
    """
    operation = str(step_type.operation)
    if not isinstance(arguments, dict):
        raise malformed("Expecting start of Json Object.")
    for name in step_type.excluded:
        if name in arguments:
            raise malformed(f"Unknown Argument member '{name}'.")
    _check(service_model().operation_model(operation).input_shape, arguments, known)
    if member := members.unbuilt(operation, arguments):
        raise unbuilt(f"CreatePipeline with a {kind} step whose arguments have {member}")


def _check(shape: Any, value: Any, known: References) -> None:
    if shape.type_name == "structure":
        if not isinstance(value, dict) or function_of(value):
            raise malformed("Expecting start of Json Object.")
        for name, member in value.items():
            if name not in shape.members:
                raise malformed(f"Unknown Argument member '{name}'.")
            _check(shape.members[name], member, known)
    elif shape.type_name == "list":
        if not isinstance(value, list):
            raise malformed("Expecting start of Json Array.")
        for item in value:
            _check(shape.member, item, known)
    elif shape.type_name == "map":
        if not isinstance(value, dict) or function_of(value):
            raise malformed("Expecting start of Json Object.")
        for item in value.values():
            _check(shape.value, item, known)
    else:
        _check_scalar(shape, value, known)


def _check_scalar(shape: Any, value: Any, known: References) -> None:
    found, wanted = type_of(value, known), _SCALARS.get(shape.type_name, STRING)
    if found != wanted and found != UNKNOWN and (found, wanted) != (INTEGER, FLOAT):
        what = f"property reference [{value['Get']}]" if function_of(value) == "Get" else f"{value!r}"
        raise malformed(f"Cannot assign {what} to argument of type [{wanted}]")
    if shape.type_name == "string" and shape.enum and isinstance(value, str) and value not in shape.enum:
        raise malformed(
            f"Model Validation failed: Value '{value}' for '{shape.name}' failed to satisfy enum value set: "
            f"[{', '.join(shape.enum)}]"
        )


def property_type(step_type: StepType, path: Path) -> str | None:
    """Return the type of a property of a step; None if it does not exist or is not a scalar."""
    shape: Any = service_model().operation_model(str(step_type.describe)).output_shape
    for part in path:
        kind = shape.type_name
        if kind == "structure" and part in shape.members:
            shape = shape.members[part]
        elif kind == "list" and (isinstance(part, int) or _has_name(shape.member)):
            shape = shape.member
        elif kind == "map" and isinstance(part, str):
            shape = shape.value
        else:
            return None
    return _SCALARS.get(shape.type_name)


def _has_name(item: Any) -> bool:
    return item.type_name == "structure" and any(name.endswith("Name") for name in item.members)
