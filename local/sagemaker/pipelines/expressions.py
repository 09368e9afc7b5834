"""Values of a pipeline definition: literals, references (`Get`) and functions (`Std:Join`, `Std:JsonGet`).

Values are kept as JSON. `type_of` checks a value when a pipeline is created; `Evaluator` evaluates it when a
step runs.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from local.sagemaker.api import ApiError, invalid, unbuilt

GET, JOIN, JSON_GET = "Get", "Std:Join", "Std:JsonGet"
STRING, INTEGER, FLOAT, BOOLEAN = TYPES = ("String", "Integer", "Float", "Boolean")
UNKNOWN = ""
"""Type of the result of `Std:JsonGet`, which is known only when the step runs."""

VARIABLES = (
    *("PipelineName", "PipelineArn", "PipelineExecutionId", "PipelineExecutionArn"),
    *("StartDateTime", "CurrentDateTime", "TrainingJobName", "ProcessingJobName"),
)
"""Names that can follow `Execution.`. The last two refer to the job that the step itself starts."""

Path = tuple[str | int, ...]
"""Path to a value: member names, map keys and list positions. A list's item can also be given by its name."""

_STEP = re.compile(r"Steps\.([A-Za-z0-9\-_]{1,64})((?:\.|\[).+)")
_PART = re.compile(r"\.?([A-Za-z_][\w\-]*)|\[(\d+)\]|\['([^']+)'\]|\[\"([^\"]+)\"\]")
_FILES = "PropertyFiles"
_ELSEWHERE = ("ForEach.", "IterationOutput.")
"""Prefixes of references to types of steps that the local cloud does not have."""


def malformed(problem: str) -> ApiError:
    """Return the error for an invalid definition, with the first words of AWS's message."""
    return invalid(f"Unable to parse pipeline definition. {problem}")


class NoValueError(ValueError):
    """A reference or function has no value in this execution."""


def function_of(value: Any) -> str | None:
    """Return the only key of a value that is a function or a reference; None for a literal."""
    if isinstance(value, dict) and len(value) == 1:
        (key,) = value
        if key.startswith("Std:") or (key == GET and isinstance(value[key], str)):
            return key
    return None


def parse_path(text: str) -> Path | None:
    """Return the parts of a path such as `a.b[0]['c']`; None if the text is not a path."""
    parts: list[str | int] = []
    at = 0
    while at < len(text):
        found = _PART.match(text, at)
        if found is None:
            return None
        member, index, single, double = found.groups()
        if member is not None and at and text[at] != ".":
            return None
        parts.append(int(index) if index is not None else member or single or double)
        at = found.end()
    return tuple(parts)


def step_reference(text: str) -> tuple[str, Path] | None:
    """Return the step and the path of `Steps.NAME.path`; None for other references.

    Raises ApiError for a malformed reference to a step.
    """
    if not text.startswith("Steps."):
        return None
    found = _STEP.fullmatch(text)
    path = parse_path(found[2]) if found else None
    if not found or not path:
        raise malformed(f"Invalid property reference '{text}'")
    return found[1], path


def steps_in(value: Any) -> Iterator[str]:
    """Yield the names of the steps that a value refers to, at any depth."""
    if isinstance(value, list):
        for item in value:
            yield from steps_in(item)
    elif isinstance(value, dict):
        if function_of(value) == GET and (reference := step_reference(value[GET])):
            yield reference[0]
        for item in value.values():
            yield from steps_in(item)


@dataclass(frozen=True)
class References:
    """Targets of the references in a definition."""

    parameters: Mapping[str, str]
    """Type of each parameter"""
    property_type: Callable[[str, Path], str]
    """`(step, path)`: returns the type of a step's property. Raises ApiError if there is none"""
    check_property_file: Callable[[str, str], None]
    """`(step, file)`: raises ApiError if the step does not have the property file"""


def type_of(value: Any, known: References) -> str:
    """Check a value and return its type. Raises ApiError if it is not a literal, reference or function."""
    if isinstance(value, bool):
        return BOOLEAN
    if isinstance(value, int):
        return INTEGER
    if isinstance(value, float):
        return FLOAT
    if isinstance(value, str):
        return STRING
    function = function_of(value)
    if function == GET:
        return _reference_type(value[GET], known)
    if function == JOIN:
        _check_join(value[JOIN], known)
        return STRING
    if function == JSON_GET:
        _check_json_get(value[JSON_GET], known)
        return UNKNOWN
    if function:
        raise malformed(f"Unknown function '{function}'")
    raise malformed(f"Expecting a value, a reference or a function, got {json.dumps(value)}")


def _reference_type(text: str, known: References) -> str:
    if text.startswith(_ELSEWHERE):
        raise unbuilt(f"CreatePipeline with the reference {text}")
    if step := step_reference(text):
        if step[1][0] == _FILES:
            raise malformed(f"The property file '{text}' can be given to {JSON_GET} only")
        return known.property_type(*step)
    kind, _, name = text.partition(".")
    if kind == "Parameters":
        if name not in known.parameters:
            raise malformed(f"Unknown parameter '{name}' in the reference '{text}'")
        return known.parameters[name]
    if kind == "Execution":
        if name not in VARIABLES:
            raise malformed(f"Unknown execution variable '{name}' in the reference '{text}'")
        return STRING
    raise malformed(f"Invalid reference '{text}'")


def check_members(value: Any, allowed: tuple[str, ...], required: tuple[str, ...] = ()) -> None:
    """Raise ApiError unless a value is an object with only allowed members and all required ones."""
    if not isinstance(value, dict):
        raise malformed("Expecting start of Json Object.")
    for name in value:
        if name not in allowed:
            raise malformed(f"Cannot parse object, unknown property '{name}'.")
    for name in required:
        if name not in value:
            raise malformed(f"Missing required property '{name}'.")


def _check_join(join: Any, known: References) -> None:
    check_members(join, ("On", "Values"), ("Values",))
    if not isinstance(join.get("On", ""), str):
        raise malformed(f"The member On of {JOIN} must be a string")
    if not isinstance(join["Values"], list):
        raise malformed("Expecting start of Json Array.")
    for value in join["Values"]:
        type_of(value, known)


def _check_json_get(get: Any, known: References) -> None:
    check_members(get, ("PropertyFile", "S3Uri", "Path"), ("Path",))
    if ("PropertyFile" in get) == ("S3Uri" in get):
        raise malformed(f"{JSON_GET} must have either a PropertyFile or an S3Uri")
    json_path(get["Path"])
    if "S3Uri" in get:
        if type_of(get["S3Uri"], known) not in (STRING, UNKNOWN):
            raise malformed(f"S3Uri of {JSON_GET} must be a string")
        return
    known.check_property_file(*_property_file(get["PropertyFile"]))


def _property_file(value: Any) -> tuple[str, str]:
    """Return the step and the name of the property file in `Std:JsonGet`. Raises ApiError."""
    step = step_reference(value[GET]) if function_of(value) == GET else None
    if step is None or len(step[1]) != 2 or step[1][0] != _FILES:
        raise malformed(f"PropertyFile of {JSON_GET} must be a reference such as Steps.NAME.{_FILES}.FILE")
    return step[0], str(step[1][1])


def json_path(text: Any) -> Path:
    """Return the parts of a JsonPath to a single value. Raises ApiError for any other text."""
    if not isinstance(text, str) or not text:
        raise malformed(f"Path of {JSON_GET} must be a JsonPath, got {json.dumps(text)}")
    if any(part in text for part in ("..", "*", "?", "@", "[:", ":]", ",")):
        raise unbuilt(f"CreatePipeline with the JsonPath {text}, which may name several values,")
    path = parse_path(text.removeprefix("$"))
    if path is None:
        raise malformed(f"Path of {JSON_GET} must be a JsonPath, got '{text}'")
    return path


# Evaluation


def find(value: Any, path: Path) -> Any:
    """Return the value at a path. Raises NoValueError if there is none.

    A part of the path can select a list's item by name: the value of the item's member whose key ends with
    `Name`, such as `OutputName`."""
    for part in path:
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list):
            value = _item(value, part)
        else:
            raise NoValueError(f"there is no {part!r}")
    return value


def _item(items: list[Any], which: str | int) -> Any:
    if isinstance(which, int) and which < len(items):
        return items[which]
    for item in items:
        if isinstance(item, dict) and any(key.endswith("Name") and item[key] == which for key in item):
            return item
    raise NoValueError(f"there is no {which!r}")


def as_text(value: Any) -> str:
    """Return a value as text, as in `Std:Join`."""
    return value if isinstance(value, str) else json.dumps(value)


def iso_time(seconds: float) -> str:
    """Return a time in ISO 8601 in UTC, with milliseconds."""
    whole = round(seconds * 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole // 1000))}.{whole % 1000:03d}Z"


@dataclass(frozen=True)
class Evaluator:
    """Evaluation of the values of one step in one execution."""

    parameters: Mapping[str, Any]
    variables: Mapping[str, str]
    """Execution variables, without CurrentDateTime"""
    properties: Callable[[str], Mapping[str, Any]]
    """`(step)`: returns the properties of a step that has ended"""
    property_file: Callable[[str, str], str]
    """`(step, file)`: returns the S3 URI of a step's property file"""
    read: Callable[[str], Any]
    """`(uri)`: returns the parsed JSON at an S3 URI. Raises NoValueError if it cannot be read"""

    def value(self, value: Any) -> Any:
        """Evaluate a value, including the values in objects and arrays. Raises NoValueError."""
        function = function_of(value)
        if function == GET:
            return self._reference(value[GET])
        if function == JOIN:
            join = value[JOIN]
            return join.get("On", "").join(as_text(self.value(each)) for each in join["Values"])
        if function == JSON_GET:
            return self._json(value[JSON_GET])
        if isinstance(value, dict):
            return {key: self.value(item) for key, item in value.items()}
        return [self.value(item) for item in value] if isinstance(value, list) else value

    def _reference(self, text: str) -> Any:
        try:
            if step := step_reference(text):
                return find(self.properties(step[0]), step[1])
            kind, _, name = text.partition(".")
            if name == "CurrentDateTime":
                return iso_time(time.time())
            return (self.parameters if kind == "Parameters" else self.variables)[name]
        except (NoValueError, KeyError) as error:
            raise NoValueError(f"The reference {text} has no value: {error}") from None

    def _json(self, get: Mapping[str, Any]) -> Any:
        if "S3Uri" in get:
            uri = str(self.value(get["S3Uri"]))
        else:
            uri = self.property_file(*_property_file(get["PropertyFile"]))
        document = self.read(uri)
        try:
            return find(document, json_path(get["Path"]))
        except NoValueError as error:
            raise NoValueError(f"{get['Path']} does not exist in {uri}: {error}") from None
