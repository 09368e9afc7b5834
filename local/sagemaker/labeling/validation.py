"""Validation of CreateLabelingJob."""

from __future__ import annotations

import re
from typing import Any

from local.sagemaker import artifacts, quotas
from local.sagemaker.api import Context, invalid, unbuilt
from local.sagemaker.labeling.manifest import METADATA, REFERENCE
from local.sagemaker.quotas import setting
from local.sagemaker.store import Record

LONGEST_TASK = 28_800
LONGEST_AVAILABILITY = 2_592_000
"""AWS's maximums in seconds: a labeler's time for a task, and a task's availability (also its default)."""
DEFAULT_CONCURRENCY = 1_000
"""Default of `MaxConcurrentTaskCount`."""
_BUILT_IN = re.compile(r"arn:aws[a-z-]*:lambda:[a-z0-9-]+:\d{12}:function:(PRE|ACS)-\w+")
"""ARNs of Ground Truth's functions for its built-in task types."""
_OPERATION = "CreateLabelingJob"


def completed(context: Context, params: dict[str, Any]) -> Record:
    """Return the members of a request that describe the job, with the service's defaults.

    Raises ApiError for values that botocore's service model allows, but AWS or the local cloud refuses."""
    record = {key: value for key, value in params.items() if key != "Tags"}
    record["HumanTaskConfig"] = {
        "TaskAvailabilityLifetimeInSeconds": LONGEST_AVAILABILITY,
        "MaxConcurrentTaskCount": DEFAULT_CONCURRENCY,
    } | params["HumanTaskConfig"]
    _check_attribute(params["LabelAttributeName"])
    _check_places(params)
    _check_team(context, record["HumanTaskConfig"])
    _check_limits(context, record["HumanTaskConfig"])
    for function in functions(record["HumanTaskConfig"]).values():
        if _BUILT_IN.fullmatch(function):
            raise unbuilt(f"{_OPERATION} with the built-in function {function.rpartition(':')[2]}")
    return record


def functions(task: dict[str, Any]) -> dict[str, str]:
    """Return the ARNs of the annotation functions, by the name of the member that contains each."""
    found = {
        "PreHumanTaskLambdaArn": task.get("PreHumanTaskLambdaArn"),
        **task.get("AnnotationConsolidationConfig", {}),
    }
    return {name: arn for name, arn in found.items() if arn}


def _check_attribute(name: str) -> None:
    for ending in (METADATA, REFERENCE.removeprefix("source")):
        if name.endswith(ending):
            raise invalid(f"LabelAttributeName must not end with {ending}, got {name}")


def _check_places(params: dict[str, Any]) -> None:
    places = {
        "InputConfig.DataSource.S3DataSource.ManifestS3Uri": params["InputConfig"]["DataSource"]
        .get("S3DataSource", {})
        .get("ManifestS3Uri"),
        "HumanTaskConfig.UiConfig.UiTemplateS3Uri": params["HumanTaskConfig"]["UiConfig"].get(
            "UiTemplateS3Uri"
        ),
        "OutputConfig.S3OutputPath": params["OutputConfig"]["S3OutputPath"],
    }
    for name, uri in places.items():
        if not uri:
            raise invalid(f"{name} is required.")
        _check_place(name, uri)
    name = "LabelCategoryConfigS3Uri"
    if name not in params:
        raise unbuilt(f"{_OPERATION} without {name}")
    _check_place(name, params[name])


def _check_place(name: str, uri: str) -> None:
    try:
        artifacts.split(uri)
    except ValueError as error:
        raise invalid(f"{name}: {error}") from None


def _check_team(context: Context, task: dict[str, Any]) -> None:
    arn = task["WorkteamArn"]
    if "/public-crowd/" in arn or task.get("PublicWorkforceTaskPrice"):
        raise invalid(
            "Amazon Mechanical Turk closed on 30 September 2026. WorkteamArn must be the ARN of a private"
            f" work team, without PublicWorkforceTaskPrice, got {arn}"
        )
    if "/vendor-crowd/" in arn:
        raise unbuilt(f"{_OPERATION} with a vendor's work team")
    own = context.arn("workteam", "private-crowd/")
    if not re.fullmatch(rf"{re.escape(own)}[a-zA-Z0-9](-*[a-zA-Z0-9]){{0,62}}", arn):
        raise invalid(f"WorkteamArn must be {own}NAME, got {arn}")


def _check_limits(context: Context, task: dict[str, Any]) -> None:
    for member, most in (
        ("TaskTimeLimitInSeconds", LONGEST_TASK),
        ("TaskAvailabilityLifetimeInSeconds", LONGEST_AVAILABILITY),
    ):
        if task[member] > most:
            raise invalid(f"{member} must be at most {most}, got {task[member]}")
    most = setting(context.platform, "labeling_tasks")
    asked = task["MaxConcurrentTaskCount"]
    if asked > most:
        raise quotas.limit_exceeded("Maximum number of concurrent labeling tasks", most, 0, asked, "Tasks")
