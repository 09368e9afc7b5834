"""Pipeline definitions for the tests of SageMaker pipelines."""

from __future__ import annotations

import json
from typing import Any

ARN = "arn:aws:lambda:eu-west-1:000000000000:function:f"
QUEUE = "https://sqs.eu-west-1.amazonaws.com/000000000000/q"
ROLE = "arn:aws:iam::000000000000:role/pipeline"
IMAGE = "000000000000.dkr.ecr.eu-west-1.amazonaws.com/i:1"


def get(reference: str) -> dict[str, str]:
    return {"Get": reference}


def join(*values: Any, on: str = "") -> dict[str, Any]:
    return {"Std:Join": {"On": on, "Values": list(values)}}


def training(name: str = "Train", **members: Any) -> dict[str, Any]:
    """Return a training step. `arguments` are added to the arguments that every training job needs."""
    arguments = {
        "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        "RoleArn": ROLE,
        "OutputDataConfig": {"S3OutputPath": "s3://bucket/out"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
    } | members.pop("arguments", {})
    return {"Name": name, "Type": "Training", "Arguments": arguments} | members


def processing(name: str = "Process", **members: Any) -> dict[str, Any]:
    """Return a processing step with an output `report`; its `metrics.json` is the property file `Metrics`."""
    output = {
        "S3Uri": "s3://bucket/report",
        "LocalPath": "/opt/ml/processing/out",
        "S3UploadMode": "EndOfJob",
    }
    cluster = {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1}
    arguments = {
        "AppSpecification": {"ImageUri": IMAGE},
        "RoleArn": ROLE,
        "ProcessingResources": {"ClusterConfig": cluster},
        "ProcessingOutputConfig": {"Outputs": [{"OutputName": "report", "S3Output": output}]},
    } | members.pop("arguments", {})
    file = {"PropertyFileName": "Metrics", "OutputName": "report", "FilePath": "metrics.json"}
    return {"Name": name, "Type": "Processing", "Arguments": arguments, "PropertyFiles": [file]} | members


def metric(path: str, step: str = "Process", file: str = "Metrics") -> dict[str, Any]:
    """Return an expression for a value in a property file."""
    return {"Std:JsonGet": {"PropertyFile": get(f"Steps.{step}.PropertyFiles.{file}"), "Path": path}}


def fail(name: str = "Fail", message: Any = "it failed", **members: Any) -> dict[str, Any]:
    return {"Name": name, "Type": "Fail", "Arguments": {"ErrorMessage": message}} | members


def compare(kind: str, left: Any, right: Any) -> dict[str, Any]:
    return {"Type": kind, "LeftValue": left, "RightValue": right}


ALWAYS = compare("Equals", 1, 1)


def condition(
    name: str = "Check", *conditions: Any, then: Any = (), otherwise: Any = (), **members: Any
) -> dict[str, Any]:
    arguments = {
        "Conditions": list(conditions) or [ALWAYS],
        "IfSteps": list(then),
        "ElseSteps": list(otherwise),
    }
    return {"Name": name, "Type": "Condition", "Arguments": arguments} | members


def function(arn: str, name: str = "Call", outputs: Any = (), **members: Any) -> dict[str, Any]:
    """Return a Lambda step. `outputs` are names of outputs, or pairs of a name and a type."""
    return {
        "Name": name,
        "Type": "Lambda",
        "FunctionArn": arn,
        "OutputParameters": _outputs(outputs),
    } | members


def callback(url: str, name: str = "Ask", outputs: Any = (), **members: Any) -> dict[str, Any]:
    return {
        "Name": name,
        "Type": "Callback",
        "SqsQueueUrl": url,
        "OutputParameters": _outputs(outputs),
    } | members


def _outputs(outputs: Any) -> list[dict[str, str]]:
    pairs = [(each, "String") if isinstance(each, str) else each for each in outputs]
    return [{"OutputName": name, "OutputType": kind} for name, kind in pairs]


def parameter(name: str, kind: str = "String", **members: Any) -> dict[str, Any]:
    return {"Name": name, "Type": kind} | members


def defined(*steps: Any, parameters: Any = (), **members: Any) -> str:
    """Return the JSON text of a pipeline definition."""
    document = {"Version": "2020-12-01", "Metadata": {}, "Parameters": list(parameters), "Steps": list(steps)}
    return json.dumps(document | members)
