"""Validation of CreateHyperParameterTuningJob: values, and features that the local cloud does not have."""

from __future__ import annotations

from typing import Any

from local.sagemaker import api
from local.sagemaker.api import Context, invalid
from local.sagemaker.jobs.containers import pull_image
from local.sagemaker.jobs.kinds import TRAINING
from local.sagemaker.records import refuse_unbuilt
from local.sagemaker.training import validation as training
from local.sagemaker.training.job import OBJECTIVE
from local.sagemaker.tuning.ranges import Range, ranges_of

MOST_JOBS = 750
MOST_PARALLEL = 100
MOST_RANGES = 30
"""Limits of the service: https://docs.aws.amazon.com/sagemaker/latest/dg/automatic-model-tuning-limits.html"""
COPIED = (
    *("AlgorithmSpecification", "RoleArn", "InputDataConfig", "VpcConfig", "OutputDataConfig"),
    *("ResourceConfig", "StoppingCondition", "EnableNetworkIsolation", "EnableManagedSpotTraining"),
    *("EnableInterContainerTrafficEncryption", "Environment"),
)
"""Members of a TrainingJobDefinition that are copied to the requests of its training jobs."""
NAME = "{name}-{number:03d}-{unique}"


def check(context: Context, params: dict[str, Any]) -> None:
    """Raise ApiError for requests that AWS or the local cloud refuses."""
    operation = "CreateHyperParameterTuningJob"
    refuse_unbuilt(operation, params, "TrainingJobDefinitions", "WarmStartConfig", "Autotune")
    config = params["HyperParameterTuningJobConfig"]
    definition = params.get("TrainingJobDefinition")
    if not definition:
        raise invalid("TrainingJobDefinition is required.")
    refuse_unbuilt(
        operation,
        definition,
        *("TuningObjective", "HyperParameterRanges", "HyperParameterTuningResourceConfig", "RetryStrategy"),
        "CheckpointConfig",
    )
    strategy = config["Strategy"]
    if strategy == "Hyperband":
        raise api.unbuilt(f"{operation} with Strategy Hyperband")
    refuse_unbuilt(operation, config, "StrategyConfig")
    refuse_unbuilt(operation, config.get("ParameterRanges", {}), "AutoParameters")
    refuse_unbuilt(operation, config.get("TuningJobCompletionCriteria", {}), "ConvergenceDetected")
    ranges = _ranges(config)
    _check_limits(config, ranges)
    _check_objective(config, definition)
    fixed = definition.get("StaticHyperParameters", {})
    if both := sorted(each.name for each in ranges if each.name in fixed):
        raise invalid(f"Hyperparameters must be either static or have a range, got both: {', '.join(both)}")
    middle = {each.name: each.text(0.5) for each in ranges}
    request = training_job(params, "x", middle)
    api.validate(api.service_model().operation_model("CreateTrainingJob").input_shape, request)
    training.check(request)
    pull_image(context, TRAINING, request["AlgorithmSpecification"]["TrainingImage"], request["RoleArn"])


def training_job(params: dict[str, Any], name: str, tuned: dict[str, str]) -> dict[str, Any]:
    """Return the request of a training job with these hyperparameters."""
    definition, config = params["TrainingJobDefinition"], params["HyperParameterTuningJobConfig"]
    objective = config["HyperParameterTuningJobObjective"]["MetricName"]
    return {
        "TrainingJobName": name,
        "HyperParameters": definition.get("StaticHyperParameters", {}) | tuned | {OBJECTIVE: objective},
        **{member: definition[member] for member in COPIED if member in definition},
    }


def _ranges(config: dict[str, Any]) -> list[Range]:
    try:
        found = ranges_of(config.get("ParameterRanges", {}))
    except ValueError as error:
        raise invalid(str(error)) from None
    if len(found) > MOST_RANGES:
        raise invalid(f"A tuning job must have at most {MOST_RANGES} ranges, got {len(found)}")
    return found


def _check_limits(config: dict[str, Any], ranges: list[Range]) -> None:
    limits = config["ResourceLimits"]
    count = limits.get("MaxNumberOfTrainingJobs")
    if config["Strategy"] == "Grid":
        if numeric := [each.name for each in ranges if not each.choices]:
            raise invalid(f"Strategy Grid takes categorical ranges only, got {', '.join(numeric)}")
        if count is not None:
            raise invalid(
                "MaxNumberOfTrainingJobs must be left out with Strategy Grid, which tries every combination"
            )
    elif count is None:
        raise invalid("MaxNumberOfTrainingJobs is required for Strategy Bayesian and Random.")
    elif count > MOST_JOBS:
        raise invalid(f"MaxNumberOfTrainingJobs must be at most {MOST_JOBS}, got {count}")
    if limits["MaxParallelTrainingJobs"] > min(MOST_PARALLEL, count or MOST_PARALLEL):
        raise invalid(
            f"MaxParallelTrainingJobs must be at most {min(MOST_PARALLEL, count or MOST_PARALLEL)},"
            f" got {limits['MaxParallelTrainingJobs']}"
        )


def _check_objective(config: dict[str, Any], definition: dict[str, Any]) -> None:
    objective = config.get("HyperParameterTuningJobObjective")
    if not objective:
        raise invalid("HyperParameterTuningJobObjective is required.")
    metrics = [each["Name"] for each in definition["AlgorithmSpecification"].get("MetricDefinitions", [])]
    if objective["MetricName"] not in metrics:
        raise invalid(
            f"The objective metric {objective['MetricName']} must be one of MetricDefinitions,"
            f" got {', '.join(metrics) or 'none'}"
        )
