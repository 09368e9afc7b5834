"""Step Functions' `aws-sdk:` tasks: results with the SDK's types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botocore.model import ListShape, MapShape, StructureShape

from local.emulator.reach import Cloud, hook, replace, touch
from local.emulator.stepfunctions import sdk_name

_WRAPPERS = ("Member", "Item", "Entry")


def typed(shape: Any, value: Any) -> Any:
    """Convert a value from XML to the types of the service's model.

    In XML, numbers, booleans, and lists of fewer than two elements have no distinct type. Members are named
    as in the results of Step Functions' AWS SDK integrations."""
    if isinstance(shape, StructureShape):
        if not isinstance(value, dict):
            return {} if value in ("", None) else value
        given: Any = shape.members
        members: dict[str, tuple[str, Any]] = {}
        for name, member in given.items():
            for each in (member.serialization.get("name"), name):
                members[sdk_name(each[:1].upper() + each[1:]) if each else name] = (sdk_name(name), member)
        shown: dict[str, tuple[str, Any]] = {key: members.get(key, (key, None)) for key in value}
        return {name: typed(member, value[key]) for key, (name, member) in shown.items()}
    if isinstance(shape, ListShape):
        element: Any = shape.member
        if isinstance(value, dict) and len(value) == 1:
            (key, inside) = next(iter(value.items()))
            named = str(element.serialization.get("name", "")).lower()
            value = inside if key in _WRAPPERS or key.lower() == named else value
        items = value if isinstance(value, list) else [] if value in ("", None) else [value]
        return [typed(element, item) for item in items]
    if isinstance(shape, MapShape):
        items = value.get("Entry", value) if isinstance(value, dict) else value
        if isinstance(items, dict) and items.keys() == {"Key", "Value"}:
            items = [items]
        if isinstance(items, list):
            items = {each.get("Key") or each.get("Name"): each.get("Value") for each in items}
        return {key: typed(shape.value, each) for key, each in items.items()} if items else {}
    if shape is None or not isinstance(value, str):
        return value
    if shape.type_name in ("integer", "long"):
        return int(value)
    if shape.type_name in ("float", "double"):
        return float(value)
    return value == "true" if shape.type_name == "boolean" else value


@hook
def sdk_tasks_have_types(cloud: Cloud) -> None:
    """In MiniStack, results of services with XML protocols have numbers and booleans as text."""
    model_of = touch("services.stepfunctions._service_model", "service")

    for protocol in ("query", "rest_xml"):

        @replace(
            f"services.stepfunctions._dispatch_aws_sdk_{protocol}",
            "service_info", "service_name", "action", "input_data",
        )  # fmt: skip
        def dispatch(original: Callable, info: dict, service: str, action: str, arguments: Any) -> Any:
            result = original(info, service, action, arguments)
            model, name = model_of(info.get("service_key", service)), action[:1].upper() + action[1:]
            if model is None or name not in model.operation_names:
                return result
            return typed(model.operation_model(name).output_shape, result)
