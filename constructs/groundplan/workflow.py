"""The workflow of `TrainAndDeploy`, as Amazon States Language with JSONata.

    Accept -> Train -> what serves? -> Evaluate both -> Register -> better? -> deploy -> Approve -> Report
                                 \\________ nothing _______/             \\-> not better: Reject -> Report

Whatever fails leads to `Caught`: throttling goes back to where it was after a pause, everything else undoes
what was begun and ends in `Failed` with the reason in one sentence. Step Functions' own `Retry` cannot do
that: SageMaker's throttling reaches it under the same name as a request that is simply wrong.

Everything is kept in variables; what a state passes on is never read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CALL_SECONDS = 60
"""How long one API call may take."""
LOOK_SECONDS = 5
"""The pause between two looks at an endpoint."""
START_SECONDS = 3600
"""How long a job may wait for its instances, beyond the time it may run."""
THROTTLES = 8
"""How often an execution may be throttled, with pauses that double from 2 s: about 8 minutes in all."""

_UNIQUE = 12
LONGEST_SUFFIX = len("-") + _UNIQUE + len("-evaluate")
"""Characters behind the endpoint's name in the name of a training job."""

THROTTLING = "/throttl|rate exceeded|too many requests/i"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that the definition is made of. ARNs and names may be CDK tokens, except `endpoint`."""

    endpoint: str
    group: str
    image: str
    training_role: str
    serving_role: str
    bucket: str
    key: str | None
    volume_key: str | None
    vpc_config: Mapping[str, Sequence[str]] | None
    hosts: int
    instance_type: str
    volume_gb: int
    max_runtime_seconds: int
    inputs: Mapping[str, str]
    hyperparameters: Mapping[str, str]
    fixed: Mapping[str, str]
    metric: str
    minimum_improvement: float
    higher_is_better: bool
    memory_mb: int
    concurrency: int
    deployment_seconds: int
    tags: Mapping[str, str]
    partition: str


def definition(plan: Plan) -> dict[str, Any]:
    """The state machine's definition."""
    job_seconds = plan.max_runtime_seconds + START_SECONDS
    states = {
        **_accept(plan),
        **_train(plan, job_seconds),
        **_find_champion(plan),
        **_evaluate(plan, job_seconds),
        **_register(plan),
        **_deploy(plan),
    }
    tasks = [name for name, state in states.items() if state["Type"] == "Task"]
    return {
        "QueryLanguage": "JSONata",
        "StartAt": "Accept",
        "TimeoutSeconds": 2 * job_seconds + 2 * plan.deployment_seconds + 3600,
        "States": {**states, **_failures(plan, tasks)},
    }


def _task(
    plan: Plan,
    name: str,
    action: str,
    arguments: Mapping[str, Any],
    then: str,
    *,
    assign: Mapping[str, Any] | None = None,
    seconds: int = CALL_SECONDS,
) -> dict[str, Any]:
    """A state that calls SageMaker, keeps what it needs of the answer, and hands failures to `Caught`."""
    return {
        name: {
            "Type": "Task",
            "Resource": f"arn:{plan.partition}:states:::{action}",
            "Arguments": dict(arguments),
            "TimeoutSeconds": seconds,
            **({"Assign": dict(assign)} if assign else {}),
            "Output": {},
            "Catch": [
                {
                    "ErrorEquals": ["States.ALL"],
                    "Assign": {"at": name, "reason": _reason(name, seconds), "throttled": _throttled()},
                    "Output": {},
                    "Next": "Caught",
                }
            ],
            "Next": then,
        }
    }  # fmt: skip


def _reason(name: str, seconds: int) -> str:
    """Why a task failed: a job's own FailureReason where there is one, else the error and its cause."""
    return (
        "{% ($caught := $states.errorOutput; $cause := $string($caught.Cause);"
        " $job := $substring($cause, 0, 1) = '{' ? $parse($cause) : {};"
        f" '{name}: ' & ($exists($job.FailureReason) ? $job.FailureReason"
        " : $exists($job.TrainingJobStatus) ? 'training job ' & $job.TrainingJobName & ' ended as '"
        " & $job.TrainingJobStatus & ' (' & $job.SecondaryStatus & ')'"
        f" : $caught.Error = 'States.Timeout' ? 'no end after {seconds} seconds'"
        " : $caught.Error & ' ' & $cause)) %}"
    )


def _throttled() -> str:
    """A failed job's reason may say anything; only a refused call can be throttled."""
    return (
        "{% $states.errorOutput.Error != 'States.TaskFailed' and"
        f" $contains($states.errorOutput.Error & ' ' & $states.errorOutput.Cause, {THROTTLING}) %}}"
    )


def _accept(plan: Plan) -> dict[str, Any]:
    """Take the settings, and over them what the execution's input says; refuse what is not understood."""
    fields = [*plan.inputs, "hosts", "hyperparameters"]
    texts = "".join(
        f", $exists($in.{name}) ? ($type($in.{name}) != 'string' ? '{name} must be a text'"
        f" : $length($in.{name}) = 0 ? '{name} must not be empty')"
        for name in plan.inputs
    )
    problems = (
        "{% ($in := $states.input;"
        f" $fields := {fields};"
        f" $names := {list(plan.hyperparameters)};"
        " $type($in) != 'object' ? ['the input must be an object'] : ("
        " $h := $in.hyperparameters;"
        " $okay := $type($h) = 'object';"
        " ["
        " $keys($in)[$not($ in $fields)].('unknown field ' & $ & ', allowed are ' & $join($fields, ', '))"
        f"{texts}"
        ", $exists($in.hosts) ? ($type($in.hosts) != 'number' ? 'hosts must be a whole number from 1 to 64'"
        " : $in.hosts < 1 or $in.hosts > 64 or $floor($in.hosts) != $in.hosts"
        " ? 'hosts must be a whole number from 1 to 64')"
        ", $exists($h) ? ($okay ? ("
        " $keys($h)[$not($ in $names)]"
        ".('unknown hyperparameter ' & $ & ', allowed are ' & $join($names, ', '))"
        ") : 'hyperparameters must be an object')"
        ", $okay ? $each($h, function($v, $k) { $type($v) in ['string', 'number', 'boolean'] ? null"
        " : 'hyperparameter ' & $k & ' must be a text, a number, true or false' })[$ != null]"
        " ])) %}"
    )
    return {
        "Accept": {
            "Type": "Pass",
            "Assign": {
                "problems": problems,
                "defaults": {
                    "hosts": plan.hosts,
                    "inputs": dict(plan.inputs),
                    "hyperparameters": dict(plan.hyperparameters),
                },
                # Unique per execution, the same whenever it asks again, and short enough for any suffix
                "name": f"{{% '{plan.endpoint}-' & $substring($hash($states.context.Execution.Id"
                f" & $states.context.Execution.StartTime, 'SHA-256'), 0, {_UNIQUE}) %}}",
                "endpoint": plan.endpoint,
                "at": "Accept",
                "reason": "",
                "throttled": False,
                "throttles": 0,
                "looks": 0,
                "package": "",
                "created": False,
                "deployed": False,
                "candidate": None,
                "champion": None,
            },
            "Next": "IsAccepted",
        },
        "IsAccepted": {
            "Type": "Choice",
            "Choices": [
                {
                    "Condition": "{% $count($problems) > 0 %}",
                    "Assign": {"reason": "{% 'Accept: ' & $join($problems, '; ') %}"},
                    "Next": "Failed",
                }
            ],
            "Default": "Settle",
        },
        "Settle": {
            "Type": "Pass",
            "Assign": {
                "hosts": "{% $exists($states.input.hosts) ? $states.input.hosts : $defaults.hosts %}",
                "hyperparameters": "{% $merge($each($merge(["
                " $defaults.hyperparameters, $states.input.hyperparameters, $defaults.inputs,"
                f" $sift($states.input, function($v, $k) {{ $k in {list(plan.inputs)} }})"
                " ]), function($v, $k) { { $k: $string($v) } })) %}",
            },
            "Output": {},
            "Next": "Train",
        },
    }


def _job(plan: Plan, mode: str, hosts: Any) -> dict[str, Any]:
    """What the training and the evaluation job have in common."""
    return {
        "AlgorithmSpecification": {"TrainingImage": plan.image, "TrainingInputMode": "File"},
        "HyperParameters": f"{{% $merge([$hyperparameters, {_object(plan.fixed)}, {{'mode': '{mode}'}}]) %}}",
        "RoleArn": plan.training_role,
        "ResourceConfig": {
            "InstanceCount": hosts,
            "InstanceType": plan.instance_type,
            "VolumeSizeInGB": plan.volume_gb,
            **({"VolumeKmsKeyId": plan.volume_key} if plan.volume_key else {}),
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": plan.max_runtime_seconds},
        # The container reads its data from outside AWS: an isolated one could not.
        "EnableNetworkIsolation": False,
        "EnableInterContainerTrafficEncryption": True,
        **({"VpcConfig": dict(plan.vpc_config)} if plan.vpc_config else {}),
        "Tags": _tags(plan),
    }


def _output(plan: Plan, folder: str) -> dict[str, Any]:
    return {
        "S3OutputPath": f"s3://{plan.bucket}/{folder}",
        **({"KmsKeyId": plan.key} if plan.key else {}),
    }


def _object(values: Mapping[str, str]) -> str:
    """A JSONata object of plain texts."""
    return "{" + ", ".join(f"'{key}': '{value}'" for key, value in values.items()) + "}"


def _tags(plan: Plan) -> list[dict[str, str]]:
    """Tags that say whose these are, and which execution made them."""
    return [
        *({"Key": key, "Value": value} for key, value in plan.tags.items()),
        {"Key": "groundplan:execution", "Value": "{% $states.context.Execution.Name %}"},
    ]


def _metrics(names: Sequence[str]) -> list[dict[str, str]]:
    return [{"Name": name, "Regex": f"{name}=([0-9.eE+-]+)"} for name in names]


def _metric(name: str) -> str:
    """The last value that a job logged of a metric."""
    return (
        f"{{% ($value := $states.result.FinalMetricDataList[MetricName = '{name}'].Value;"
        f" $exists($value) ? $value"
        f" : $error('training job ' & $states.result.TrainingJobName & ' logged no {name}')) %}}"
    )


def _train(plan: Plan, seconds: int) -> dict[str, Any]:
    job = _job(plan, "train", "{% $hosts %}")
    job["AlgorithmSpecification"]["MetricDefinitions"] = _metrics(
        [f"train:{plan.metric}", f"validation:{plan.metric}", "rows:pulled", "rows:blank"]
    )
    job["CheckpointConfig"] = {
        "S3Uri": f"{{% 's3://{plan.bucket}/checkpoints/' & $name %}}",
        "LocalPath": "/opt/ml/checkpoints",
    }
    return _task(
        plan,
        "Train",
        "sagemaker:createTrainingJob.sync",
        {"TrainingJobName": "{% $name & '-train' %}", "OutputDataConfig": _output(plan, "training"), **job},
        "FindEndpoint",
        assign={
            "training_job": "{% $states.result.TrainingJobName %}",
            "model_data": "{% $states.result.ModelArtifacts.S3ModelArtifacts %}",
            "validation": _metric(f"validation:{plan.metric}"),
        },
        seconds=seconds,
    )


def _find_champion(plan: Plan) -> dict[str, Any]:
    """Which model serves now? Asked after training, which may take hours."""
    status = "$states.result.Endpoints[EndpointName = $endpoint].EndpointStatus"
    patience = plan.deployment_seconds // LOOK_SECONDS
    return {
        **_task(
            plan,
            "FindEndpoint",
            "aws-sdk:sagemaker:listEndpoints",
            {"NameContains": "{% $endpoint %}", "MaxResults": 100},
            "WhatServes",
            assign={
                "serving": f"{{% $exists({status}) ? {status} : 'None' %}}",
                "looks": "{% $looks + 1 %}",
            },
        ),
        "WhatServes": {
            "Type": "Choice",
            "Choices": [
                {"Condition": "{% $serving = 'None' %}", "Next": "Register"},
                {"Condition": "{% $serving = 'InService' %}", "Next": "DescribeEndpoint"},
                {
                    "Condition": f"{{% $looks > {patience} %}}",
                    "Assign": {
                        "at": "FindEndpoint",
                        "reason": "{% 'FindEndpoint: endpoint ' & $endpoint & ' is still ' & $serving %}",
                    },
                    "Next": "Failed",
                },
                # All that SageMaker lets one do with a failed endpoint is to delete it
                {
                    "Condition": "{% $serving in ['Failed', 'UpdateRollbackFailed'] %}",
                    "Next": "ClearEndpoint",
                },
            ],
            "Default": "WaitToFind",
        },
        **_task(
            plan,
            "ClearEndpoint",
            "aws-sdk:sagemaker:deleteEndpoint",
            {"EndpointName": "{% $endpoint %}"},
            "WaitToFind",
        ),
        "WaitToFind": {"Type": "Wait", "Seconds": LOOK_SECONDS, "Next": "FindEndpoint"},
        **_task(
            plan,
            "DescribeEndpoint",
            "aws-sdk:sagemaker:describeEndpoint",
            {"EndpointName": "{% $endpoint %}"},
            "DescribeEndpointConfig",
            assign={"champion_config": "{% $states.result.EndpointConfigName %}"},
        ),
        **_task(
            plan,
            "DescribeEndpointConfig",
            "aws-sdk:sagemaker:describeEndpointConfig",
            {"EndpointConfigName": "{% $champion_config %}"},
            "DescribeModel",
            assign={"champion_model": "{% $states.result.ProductionVariants[0].ModelName %}"},
        ),
        **_task(
            plan,
            "DescribeModel",
            "aws-sdk:sagemaker:describeModel",
            {"ModelName": "{% $champion_model %}"},
            "Evaluate",
            assign={"champion_data": "{% $states.result.PrimaryContainer.ModelDataUrl %}"},
        ),
    }


def _evaluate(plan: Plan, seconds: int) -> dict[str, Any]:
    """Both models on the same held-out rows, by the same container."""
    job = _job(plan, "evaluate", 1)
    names = [f"candidate:{plan.metric}", f"champion:{plan.metric}"]
    job["AlgorithmSpecification"]["MetricDefinitions"] = _metrics(names)
    job["InputDataConfig"] = [
        {
            "ChannelName": channel,
            "DataSource": {
                "S3DataSource": {
                    "S3DataType": "S3Prefix",
                    "S3Uri": f"{{% ${variable} %}}",
                    "S3DataDistributionType": "FullyReplicated",
                }
            },
        }
        for channel, variable in (("candidate", "model_data"), ("champion", "champion_data"))
    ]
    return _task(
        plan,
        "Evaluate",
        "sagemaker:createTrainingJob.sync",
        {
            "TrainingJobName": "{% $name & '-evaluate' %}",
            "OutputDataConfig": _output(plan, "evaluation"),
            **job,
        },
        "Register",
        assign={"candidate": _metric(names[0]), "champion": _metric(names[1])},
        seconds=seconds,
    )


def _register(plan: Plan) -> dict[str, Any]:
    if plan.higher_is_better:
        better = f"$candidate > $champion * {1 + plan.minimum_improvement}"
    else:
        better = f"$candidate < $champion * {1 - plan.minimum_improvement}"
    return {
        **_task(
            plan,
            "Register",
            "aws-sdk:sagemaker:createModelPackage",
            {
                "ModelPackageGroupName": plan.group,
                "ModelPackageDescription": "{% 'Trained by ' & $training_job %}",
                "ModelApprovalStatus": "PendingManualApproval",
                "InferenceSpecification": {
                    "Containers": [{"Image": plan.image, "ModelDataUrl": "{% $model_data %}"}],
                    "SupportedContentTypes": ["text/csv", "application/json"],
                    "SupportedResponseMIMETypes": ["text/csv", "application/json"],
                },
                "CustomerMetadataProperties": f"{{% $merge([{{'training_job': $training_job,"
                f" 'validation_{plan.metric}': $string($validation)}},"
                f" $champion = null ? {{}} : {{'candidate_{plan.metric}': $string($candidate),"
                f" 'champion_{plan.metric}': $string($champion)}}]) %}}",
                "ClientToken": "{% $substring($hash($name, 'SHA-256'), 0, 32) %}",
            },
            "IsBetter",
            assign={"package": "{% $states.result.ModelPackageArn %}"},
        ),
        "IsBetter": {
            "Type": "Choice",
            "Choices": [
                {"Condition": "{% $champion = null %}", "Next": "CreateModel"},
                {"Condition": f"{{% {better} %}}", "Next": "CreateModel"},
            ],
            "Default": "NotBetter",
        },
        **_judge(plan, "NotBetter", "Rejected", "{% 'Not better than the model in service' %}", "Report"),
    }


def _judge(plan: Plan, name: str, status: str, why: str, then: str) -> dict[str, Any]:
    return _task(
        plan,
        name,
        "aws-sdk:sagemaker:updateModelPackage",
        {
            "ModelPackageArn": "{% $package %}",
            "ModelApprovalStatus": status,
            "ApprovalDescription": why,
        },
        then,
    )


def _deploy(plan: Plan) -> dict[str, Any]:
    patience = plan.deployment_seconds // LOOK_SECONDS
    place = {"EndpointName": "{% $endpoint %}", "EndpointConfigName": "{% $name %}"}
    return {
        **_task(
            plan,
            "CreateModel",
            "aws-sdk:sagemaker:createModel",
            {
                "ModelName": "{% $name %}",
                "ExecutionRoleArn": plan.serving_role,
                "PrimaryContainer": {"Image": plan.image, "ModelDataUrl": "{% $model_data %}"},
                "Tags": _tags(plan),
            },
            "CreateEndpointConfig",
            assign={"looks": 0},
        ),
        **_task(
            plan,
            "CreateEndpointConfig",
            "aws-sdk:sagemaker:createEndpointConfig",
            {
                "EndpointConfigName": "{% $name %}",
                "ProductionVariants": [
                    {
                        "VariantName": "AllTraffic",
                        "ModelName": "{% $name %}",
                        "ServerlessConfig": {
                            "MemorySizeInMB": plan.memory_mb,
                            "MaxConcurrency": plan.concurrency,
                        },
                    }
                ],
                "Tags": _tags(plan),
            },
            "IsThere",
        ),
        "IsThere": {
            "Type": "Choice",
            "Choices": [{"Condition": "{% $serving = 'None' %}", "Next": "CreateEndpoint"}],
            "Default": "UpdateEndpoint",
        },
        **_task(
            plan,
            "CreateEndpoint",
            "aws-sdk:sagemaker:createEndpoint",
            {**place, "Tags": _tags(plan)},
            "LookAtEndpoint",
            assign={"created": True},
        ),
        **_task(plan, "UpdateEndpoint", "aws-sdk:sagemaker:updateEndpoint", place, "LookAtEndpoint"),
        **_task(
            plan,
            "LookAtEndpoint",
            "aws-sdk:sagemaker:describeEndpoint",
            {"EndpointName": "{% $endpoint %}"},
            "IsDeployed",
            assign={
                "looks": "{% $looks + 1 %}",
                "status": "{% $states.result.EndpointStatus %}",
                "config": "{% $states.result.EndpointConfigName %}",
                "why": "{% $exists($states.result.FailureReason)"
                " ? $states.result.FailureReason : 'no reason given' %}",
            },
        ),
        "IsDeployed": {
            "Type": "Choice",
            "Choices": [
                {
                    "Condition": "{% $status = 'InService' and $config = $name %}",
                    "Assign": {"deployed": True},
                    "Next": "Approve",
                },
                {
                    "Condition": "{% $status in ['Creating', 'Updating', 'SystemUpdating', 'RollingBack']"
                    f" and $looks <= {patience} %}}",
                    "Next": "WaitToLook",
                },
            ],
            # In service with another configuration: SageMaker went back to the model from before
            "Default": "Undo",
            "Assign": {
                "at": "Deploy",
                "reason": "{% 'Deploy: endpoint ' & $endpoint & ' is ' & $status"
                " & ' and did not take the new model: ' & $why %}",
            },
        },
        # Every second at first: a small container is up in a few
        "WaitToLook": {
            "Type": "Wait",
            "Seconds": f"{{% $looks < {LOOK_SECONDS} ? 1 : {LOOK_SECONDS} %}}",
            "Next": "LookAtEndpoint",
        },
        **_judge(plan, "Approve", "Approved", "{% 'In service at ' & $endpoint %}", "Report"),
        "Report": {
            "Type": "Pass",
            "Output": {
                "training_job": "{% $training_job %}",
                "model_data": "{% $model_data %}",
                "hosts": "{% $hosts %}",
                f"validation_{plan.metric}": "{% $validation %}",
                f"candidate_{plan.metric}": "{% $candidate %}",
                f"champion_{plan.metric}": "{% $champion %}",
                "model_package_arn": "{% $package %}",
                "deployed": "{% $deployed %}",
                "endpoint": "{% $endpoint %}",
            },
            "End": True,
        },
    }


def _failures(plan: Plan, tasks: Sequence[str]) -> dict[str, Any]:
    """Where every failed one of `tasks` ends up, with `$at` and `$reason` set."""
    best_effort = {
        **_task(
            plan,
            "RemoveEndpoint",
            "aws-sdk:sagemaker:deleteEndpoint",
            {"EndpointName": "{% $endpoint %}"},
            "Reject",
        ),
        **_judge(
            plan,
            "Reject",
            "Rejected",
            "{% $substring($replace($reason, /[\\r\\n]+/, ' '), 0, 1024) %}",
            "Failed",
        ),
    }
    for name, then in (("RemoveEndpoint", "Reject"), ("Reject", "Failed")):
        # The reason that counts is the first one
        best_effort[name]["Catch"] = [{"ErrorEquals": ["States.ALL"], "Output": {}, "Next": then}]
    return {
        "Caught": {
            "Type": "Choice",
            "Choices": [
                {
                    "Condition": f"{{% $throttled and $throttles < {THROTTLES} %}}",
                    "Assign": {"throttles": "{% $throttles + 1 %}"},
                    "Next": "BackOff",
                }
            ],
            "Default": "Undo",
        },
        "BackOff": {
            "Type": "Wait",
            # With chance in it: those who were throttled together should not come back together
            "Seconds": "{% $ceil($power(2, $throttles) * (0.5 + $random())) %}",
            "Next": "Again",
        },
        "Again": {
            "Type": "Choice",
            "Choices": [{"Condition": f"{{% $at = '{name}' %}}", "Next": name} for name in tasks],
            "Default": "Undo",
        },
        "Undo": {
            "Type": "Choice",
            "Choices": [
                # The model serves already: only its record is wrong
                {"Condition": "{% $deployed or $package = '' %}", "Next": "Failed"},
                # An endpoint that this execution made and that never served; one from before keeps its model
                {"Condition": "{% $created %}", "Next": "RemoveEndpoint"},
            ],
            "Default": "Reject",
        },
        **best_effort,
        "Failed": {"Type": "Fail", "Error": "{% $at & 'Failed' %}", "Cause": "{% $reason %}"},
    }
