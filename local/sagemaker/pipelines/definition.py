"""A pipeline's definition (schema version 2020-12-01): parsing of its JSON, with AWS's validation."""

from __future__ import annotations

import graphlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from local.sagemaker import api
from local.sagemaker.api import unbuilt
from local.sagemaker.pipelines import arguments, caching, conditions, retries, step_types
from local.sagemaker.pipelines.expressions import (
    BOOLEAN,
    INTEGER,
    STRING,
    TYPES,
    UNKNOWN,
    Path,
    References,
    check_members,
    function_of,
    malformed,
    steps_in,
    type_of,
)
from local.sagemaker.pipelines.retries import RetryPolicy

VERSION = "2020-12-01"
COMPLETED, FAILED, STOPPED, ANY = TRIGGERS = ("Completed", "Failed", "Stopped", "Any")
"""Outcomes of a step for which a dependent step can wait."""

_MEMBERS = ("Version", "Metadata", "Parameters", "PipelineExperimentConfig", "MlflowConfig", "Steps")
_NAME = re.compile(r"[A-Za-z0-9\-_]{1,64}")
"""Pattern of the names of steps and parameters."""
_ADDRESSES = {
    "FunctionArn": re.compile(r"arn:aws[a-z\-]*:lambda:[a-z0-9\-]+:\d{12}:function:[\w\-]+(:[\w\-$]+)?"),
    "SqsQueueUrl": re.compile(r"https?://\S+"),
}
"""Patterns of those members of a step that contain an ARN or an address."""
_LONGEST_DESCRIPTION = 3_072
_LONGEST_DISPLAY_NAME = 256


@dataclass(frozen=True)
class ParameterDefinition:
    """A parameter of a pipeline."""

    name: str
    type: str
    default: Any = None
    """None: a value must be given at the start of an execution"""
    choices: tuple[str, ...] = ()
    """Allowed values; empty: any value"""


@dataclass(frozen=True)
class Dependency:
    """The outcome of another step that a step waits for."""

    step: str
    trigger: str = COMPLETED


@dataclass(frozen=True)
class StepDefinition:
    """A step of a pipeline. The steps in a condition step's branches are in the same list as other steps."""

    name: str
    type: str
    body: Mapping[str, Any]
    """The step's JSON"""
    branch: tuple[str, bool] | None = None
    """Name of the condition step that contains this step, and the outcome for which this step runs"""
    dependencies: tuple[Dependency, ...] = ()
    policies: tuple[RetryPolicy, ...] = ()
    cached_for: int | None = None
    """Maximum age in seconds of a result to reuse; None: no caching"""
    outputs: Mapping[str, str] = field(default_factory=dict)
    """Type of each output parameter of a Lambda or callback step"""
    property_files: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Output name and file path of each property file of a processing step"""

    @property
    def arguments(self) -> Any:
        return self.body.get("Arguments") or {}


@dataclass(frozen=True)
class PipelineDefinition:
    """A validated definition."""

    parameters: Mapping[str, ParameterDefinition]
    steps: Mapping[str, StepDefinition]
    """Steps by name, in the order of the definition. A condition step is followed by its branches' steps"""
    experiment: Mapping[str, Any]
    """Values for the names of the experiment and the trial, not yet evaluated; empty if there are none"""

    def handlers(self, step: str, outcome: str) -> list[str]:
        """Return the steps that depend on this outcome of `step`: Failed or Stopped."""
        return [
            each.name
            for each in self.steps.values()
            if any(wait.step == step and wait.trigger in (outcome, ANY) for wait in each.dependencies)
        ]


def parse(text: str) -> PipelineDefinition:
    """Parse a definition. Raises ApiError naming what is invalid, unknown or not supported."""
    try:
        document = json.loads(text)
    except ValueError as error:
        raise malformed(f"{error}") from None
    document = api.without_nulls(document)
    check_members(document, _MEMBERS, ("Steps",))
    if document.get("Version", VERSION) != VERSION:
        raise malformed(f"Version must be {VERSION}, got {document['Version']!r}")
    if not isinstance(document.get("Metadata", {}), dict):
        raise malformed("Expecting start of Json Object.")
    if document.get("MlflowConfig"):
        raise unbuilt("CreatePipeline with MlflowConfig")
    parameters = _parameters(document.get("Parameters", []))
    steps = {step.name: step for step in _unique(_steps(document["Steps"], None))}
    known = References(
        {name: each.type for name, each in parameters.items()},
        lambda step, path: _property_type(steps, step, path),
        lambda step, file: _check_property_file(steps, step, file),
    )
    for step in steps.values():
        _check_arguments(step, known)
    experiment = document.get("PipelineExperimentConfig", {})
    check_members(experiment, ("ExperimentName", "TrialName"))
    for name in experiment.values():
        if type_of(name, known) != STRING:
            raise malformed("The names in PipelineExperimentConfig must be strings")
    if step := next(steps_in(experiment), None):
        raise malformed(f"PipelineExperimentConfig cannot refer to the step '{step}'")
    _check_order(steps)
    return PipelineDefinition(parameters, steps, experiment)


def _array(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise malformed("Expecting start of Json Array.")
    return value


# Parameters


def _parameters(given: Any) -> dict[str, ParameterDefinition]:
    found: dict[str, ParameterDefinition] = {}
    for each in _array(given):
        check_members(each, ("Name", "Type", "DefaultValue", "EnumValues", "Description"), ("Name",))
        name, kind = each["Name"], each.get("Type", STRING)
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise malformed(f"The name of a parameter must match {_NAME.pattern}, got {name!r}")
        if name in found:
            raise malformed(f"Duplicate parameter name '{name}'")
        if kind not in TYPES:
            raise malformed(f"Type of parameter '{name}' must be one of {', '.join(TYPES)}, got {kind!r}")
        default = each.get("DefaultValue")
        if default is not None and not is_of(default, kind):
            raise malformed(f"DefaultValue of parameter '{name}' must be of type {kind}, got {default!r}")
        choices = tuple(_array(each.get("EnumValues", [])))
        if choices and (kind != STRING or not all(isinstance(choice, str) for choice in choices)):
            raise malformed(f"EnumValues of parameter '{name}' must be strings of a parameter of type String")
        if choices and default is not None and default not in choices:
            raise malformed(f"DefaultValue of parameter '{name}' must be one of {', '.join(choices)}")
        found[name] = ParameterDefinition(name, kind, default, choices)
    return found


def is_of(value: Any, kind: str) -> bool:
    """Return whether a literal has a parameter's type."""
    if kind == STRING:
        return isinstance(value, str)
    if kind == BOOLEAN or isinstance(value, bool):
        return kind == BOOLEAN and isinstance(value, bool)
    return isinstance(value, int) or (kind != INTEGER and isinstance(value, float))


# Steps


def _steps(given: Any, branch: tuple[str, bool] | None) -> Iterator[StepDefinition]:
    for body in _array(given):
        step = _step(body, branch)
        yield step
        if step.type == "Condition":
            check_members(step.arguments, ("Conditions", "IfSteps", "ElseSteps"), ("Conditions",))
            for member, outcome in (("IfSteps", True), ("ElseSteps", False)):
                yield from _steps(step.arguments.get(member, []), (step.name, outcome))


def _unique(steps: Iterator[StepDefinition]) -> Iterator[StepDefinition]:
    names: set[str] = set()
    for step in steps:
        if step.name in names:
            raise malformed(f"Duplicate step name '{step.name}': names must be unique in a definition")
        names.add(step.name)
        yield step


def _step(body: Any, branch: tuple[str, bool] | None) -> StepDefinition:
    kind = body.get("Type") if isinstance(body, dict) else None
    if kind in step_types.UNBUILT:
        raise unbuilt(f"CreatePipeline with a step of type {kind}")
    step_type = step_types.TYPES.get(str(kind))
    if step_type is None:
        raise malformed(f"Unknown step type {kind!r}")
    if step_type.operation and step_type.operation not in api.OPERATIONS:
        raise unbuilt(f"CreatePipeline with a step of type {kind}")
    required = ("Name", "Type", *step_type.required)
    check_members(body, (*step_types.COMMON, *step_type.members), required)
    name = body["Name"]
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise malformed(f"The name of a step must match {_NAME.pattern}, got {name!r}")
    for member, longest in (("DisplayName", _LONGEST_DISPLAY_NAME), ("Description", _LONGEST_DESCRIPTION)):
        if not isinstance(body.get(member, ""), str) or len(body.get(member, "")) > longest:
            raise malformed(f"{member} of step '{name}' must be a string of at most {longest} characters")
    if branch and kind == "Condition":
        raise malformed(f"Condition step '{name}' is in another condition step: they cannot be nested")
    for member, pattern in _ADDRESSES.items():
        if member in body and not pattern.fullmatch(str(body[member])):
            raise malformed(f"{member} of step '{name}' must match {pattern.pattern}, got {body[member]!r}")
    return StepDefinition(
        name,
        str(kind),
        body,
        branch,
        _dependencies(body),
        retries.parse(body.get("RetryPolicies", []), jobs=kind in step_types.JOBS),
        caching.parse(body.get("CacheConfig", {})),
        _outputs(body),
        _property_files(body),
    )


def _dependencies(body: Mapping[str, Any]) -> tuple[Dependency, ...]:
    """Return a step's dependencies: the steps in `DependsOn`, and those that its arguments refer to."""
    explicit = {}
    for entry in _array(body.get("DependsOn", [])):
        if isinstance(entry, dict):
            check_members(entry, ("Step", "Trigger"), ("Step", "Trigger"))
            step, trigger = entry["Step"], entry["Trigger"]
            if trigger not in TRIGGERS:
                raise malformed(f"Trigger in DependsOn must be one of {', '.join(TRIGGERS)}, got {trigger!r}")
        else:
            step, trigger = entry, COMPLETED
        if not isinstance(step, str):
            raise malformed(f"DependsOn must name steps, got {step!r}")
        explicit[step] = Dependency(step, trigger)
    found = body.get("Arguments", {})
    if body["Type"] == "Condition" and isinstance(found, dict):
        found = found.get("Conditions")
    implied = {step: Dependency(step) for step in steps_in(found)}
    return tuple((implied | explicit).values())


def _outputs(body: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for output in _array(body.get("OutputParameters", [])):
        check_members(output, ("OutputName", "OutputType"), ("OutputName",))
        name, kind = output["OutputName"], output.get("OutputType", STRING)
        if not isinstance(name, str) or not name or name in found:
            raise malformed(f"The names of output parameters must be different strings, got {name!r}")
        if kind not in TYPES:
            raise malformed(f"OutputType must be one of {', '.join(TYPES)}, got {kind!r}")
        found[name] = kind
    return found


def _property_files(body: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    members = ("PropertyFileName", "OutputName", "FilePath")
    found: dict[str, tuple[str, str]] = {}
    for file in _array(body.get("PropertyFiles", [])):
        check_members(file, members, members)
        name, output, path = file["PropertyFileName"], file["OutputName"], file["FilePath"]
        if not all(isinstance(each, str) for each in (name, output, path)) or name in found:
            raise malformed("Property files must have different names, an OutputName and a FilePath")
        if output not in _processing_outputs(body["Arguments"]):
            raise malformed(
                f"Property file '{name}' names the output '{output}', which its step does not have"
            )
        found[name] = output, path
    return found


def _processing_outputs(request: Any) -> list[Any]:
    """Return the output names in a processing step's arguments, without malformed outputs."""
    config = request.get("ProcessingOutputConfig") if isinstance(request, dict) else None
    outputs = config.get("Outputs") if isinstance(config, dict) else None
    listed = outputs if isinstance(outputs, list) else []
    return [each.get("OutputName") for each in listed if isinstance(each, dict)]


# References


def _step_named(steps: Mapping[str, StepDefinition], name: str) -> StepDefinition:
    if name not in steps:
        raise malformed(f"Unknown step '{name}' in a reference or DependsOn")
    return steps[name]


def _property_type(steps: Mapping[str, StepDefinition], name: str, path: Path) -> str:
    """Return the type of a step's property. Raises ApiError if the step has no such scalar property."""
    step = _step_named(steps, name)
    reference = f"Steps.{name}." + ".".join(map(str, path))
    if step.type == "Fail":
        raise malformed(f"Steps cannot refer to the Fail step '{name}'")
    if step.type == "Condition":
        found = BOOLEAN if path == ("Outcome",) else None
    elif step.type in ("Lambda", "Callback"):
        found = step.outputs.get(str(path[1])) if path[0] == "OutputParameters" and len(path) == 2 else None
    else:
        found = arguments.property_type(step_types.TYPES[step.type], path)
    if found is None:
        raise malformed(f"Invalid property reference '{reference}': {step.type} steps have no such value")
    return found


def _check_property_file(steps: Mapping[str, StepDefinition], name: str, file: str) -> None:
    if file not in _step_named(steps, name).property_files:
        raise malformed(f"Step '{name}' has no property file '{file}'")


def _check_arguments(step: StepDefinition, known: References) -> None:
    step_type = step_types.TYPES[step.type]
    if step_type.operation:
        arguments.check(step.type, step_type, step.arguments, known)
    elif step.type == "Condition":
        for condition in _array(step.arguments["Conditions"]):
            conditions.check(condition, known)
    elif step.type == "Fail":
        check_members(step.arguments, ("ErrorMessage",))
        if type_of(step.arguments.get("ErrorMessage", ""), known) not in (STRING, UNKNOWN):
            raise malformed(f"ErrorMessage of Fail step '{step.name}' must be a string")
    else:
        if not isinstance(step.arguments, dict) or function_of(step.arguments):
            raise malformed("Expecting start of Json Object.")
        for value in step.arguments.values():
            if step.type == "Lambda":
                type_of(value, known)  # objects and arrays are not allowed
            else:
                _check_nested(value, known)


def _check_nested(value: Any, known: References) -> None:
    if isinstance(value, dict | list) and not function_of(value):
        for item in value.values() if isinstance(value, dict) else value:
            _check_nested(item, known)
    else:
        type_of(value, known)


def _check_order(steps: Mapping[str, StepDefinition]) -> None:
    """Raise ApiError for dependencies on missing steps or Fail steps, and for cycles."""
    order: graphlib.TopologicalSorter[str] = graphlib.TopologicalSorter()
    for step in steps.values():
        for dependency in step.dependencies:
            if _step_named(steps, dependency.step).type == "Fail":
                raise malformed(f"{step.name} can not depends on {dependency.step}")
            order.add(step.name, dependency.step)
        if step.branch:
            order.add(step.name, step.branch[0])
    try:
        order.prepare()
    except graphlib.CycleError as error:
        circle = " -> ".join(error.args[1])
        raise malformed(f"The dependencies of the steps form a cycle: {circle}") from None
