"""Try each setting of an architecture at its bounds."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from typing import Any, get_args

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from local.sagemaker.api import service_model, validate
from settings import Settings, load

Texts = Mapping[str, list[str]]

SHARED: Texts = {
    "alarm_email": ["someone@example.com"],
    "subnet_ids": [",".join(f"subnet-{number:017x}" for number in range(16))],
    "security_group_ids": [",".join(f"sg-{number:017x}" for number in range(5))],
    "endpoint_name": ["a", "a" * 36],
}
"""Values of text fields that architectures share: shortest, longest and other allowed forms."""
NETWORK = {
    "subnet_ids": {"security_group_ids": "sg-0123abcd"},
    "security_group_ids": {"subnet_ids": "subnet-0123abcd"},
}
"""Other fields that must be set so that the bound of a shared field is valid."""


def bounds(name: str, info: FieldInfo, texts: Texts) -> list[Any]:
    """Return the values of a field to try: its texts in `texts`, both booleans, each literal, or its minimum
    and maximum."""
    if name in texts:
        return texts[name]
    if info.annotation is bool:
        return [True, False]
    if typing.get_origin(info.annotation) is typing.Literal:
        return list(get_args(info.annotation))
    step = 1 if info.annotation is int else 1e-6
    found: list[Any] = []
    for limit in info.metadata:
        match limit:
            case annotated_types.Ge():
                found.append(limit.ge)
            case annotated_types.Gt():
                found.append(typing.cast(Any, limit).gt + step)
            case annotated_types.Le():
                found.append(limit.le)
            case annotated_types.Lt():
                found.append(typing.cast(Any, limit).lt - step)
    assert len(found) == 2, f"{name} must have a lower and an upper bound, or an entry in texts"
    return found


def walk(model: type[BaseModel], path: str, texts: Texts) -> Iterator[tuple[str, Any]]:
    """Yield `(path, bound)` for each bound of each field of a model; `path` is the place in the settings."""
    for field, info in model.model_fields.items():
        name = info.alias or field
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from walk(info.annotation, f"{path}.{name}", texts)
            continue
        for value in bounds(name, info, texts):
            yield f"{path}.{name}", value


def untried(model: type[BaseModel], choices: list[tuple[str, Any]]) -> set[str]:
    """Return the fields of a model that none of the `(path, value)` choices sets."""
    tried = {part for path, _ in choices for part in path.split(".")}
    return {info.alias or name for name, info in model.model_fields.items()} - tried


def chosen(path: str, value: Any, together: Mapping[str, Mapping[str, str]]) -> Settings:
    """Return the settings with the setting at `path` set to `value`, a bound. The value is passed as text, as
    on the command line."""
    architecture, _, _ = path.partition(".")
    text = str(value).lower() if isinstance(value, bool) else str(value)
    others = together.get(path.rpartition(".")[2], {})
    return load({path: text, **{f"{architecture}.{name}": other for name, other in others.items()}})


def accepted(operation: str, request: dict[str, Any]) -> None:
    """Check types, required members, lengths and patterns of a request with botocore's model of SageMaker."""
    validate(service_model().operation_model(operation).input_shape, request)
