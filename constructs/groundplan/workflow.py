"""Properties of `TrainAndDeploy`, and its state machine.

    Accept -> Train -> what serves? -> Evaluate both -> Register -> better? -> deploy -> Approve -> Report
                                 \\________ nothing _______/             \\-> not better: Reject -> Report
                                                                         \\-> not comparable -> Report

An execution with the input `{"version": 3}` deploys that version of the registry without training: a
rollback. After a failure, `Undo` and the states that follow it run: see `groundplan.states.Flow`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aws_cdk import Duration

from groundplan.artifact_bucket import ArtifactBucket
from groundplan.image import ContainerImage
from groundplan.instance_types import has_local_disks
from groundplan.model_registry import ModelRegistry
from groundplan.network import Network
from groundplan.sagemaker_role import SageMakerRole
from groundplan.states import EXECUTION_HASH, UNIQUE, Flow, Rule, jsonata_object

LOOK_SECONDS = 5
"""Seconds between two polls of an endpoint's status, except for the first polls of a deployment."""
START_SECONDS = 3600
"""Seconds that a job may wait for its instances, in addition to the job's maximum runtime."""

LONGEST_SUFFIX = len("-") + UNIQUE + len("-evaluate")
"""Length of the longest suffix that follows the endpoint's name in a training job's name."""
EXECUTION_SUFFIX = rf"[0-9a-f]{{{UNIQUE}}}(-train|-evaluate)?"
"""Regular expression for the part that follows the endpoint's name and a hyphen in the names of an
execution's jobs, model and endpoint configuration."""


@dataclass(frozen=True, kw_only=True)
class TrainingJobs:
    """Image and settings of the training and evaluation jobs.

    The container gets `inputs`, `hyperparameters` and `fixed` as hyperparameters, and the hyperparameter
    `mode`: `train` or `evaluate`.
    """

    image: ContainerImage
    """Image of the training and evaluation jobs."""
    role: SageMakerRole
    """Role of the jobs. Grant it access to the bucket's folders, the image's repository and the data."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Hyperparameters that an execution may override with a field of the same name in its input. Default:
    none."""
    hyperparameters: Mapping[str, str] = field(default_factory=dict)
    """Hyperparameters that an execution may override in the field `hyperparameters` of its input. Default:
    none."""
    fixed: Mapping[str, str] = field(default_factory=dict)
    """Hyperparameters that an execution cannot override. Default: none."""
    logged: Sequence[str] = ()
    """Further metrics that the training logs, such as `rows:read` for the line `rows:read=12`; SageMaker
    records them with the job. Default: none."""
    channels: Mapping[str, str] = field(default_factory=dict)
    """Folders of the bucket that training and evaluation jobs read, by channel name. Default: none."""
    isolated: bool = False
    """Whether the containers have no network access, except to the other hosts of their job. Default:
    False."""
    hosts: int = 1
    """Number of instances of a training job; an execution may override it. Default: 1."""
    instance_type: str = "ml.m5.xlarge"
    """Instance type of the jobs. Default: ml.m5.xlarge."""
    volume_gb: int = 30
    """Size of each instance's volume in GB. Default: 30."""
    max_runtime: Duration = field(default_factory=lambda: Duration.hours(1))
    """Time after which SageMaker stops a job. Default: 1 hour."""
    network: Network | None = None
    """VPC of the jobs. Default: none."""


@dataclass(frozen=True, kw_only=True)
class ServerlessEndpoint:
    """The serverless endpoint that serves the better model."""

    name: str
    """Name of the endpoint and of the state machine, and prefix of the names of all jobs, models and
    configurations; at most 41 letters, digits and hyphens."""
    role: SageMakerRole
    """Role of the endpoint's container. Grant it access to the image's repository and to the bucket's folder
    `training`."""
    content_types: Sequence[str]
    """MIME types that the container accepts and returns, such as `text/csv`."""
    image: ContainerImage | None = None
    """Image of the endpoint's container. Default: the image of the training jobs."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of the endpoint's container. Default: none."""
    memory_mb: int = 2048
    """Memory of the endpoint in MB. Default: 2048."""
    concurrency: int = 5
    """Maximum number of concurrent invocations. Default: 5."""
    deployment: Duration = field(default_factory=lambda: Duration.minutes(30))
    """Time that a deployment of the endpoint may take. Default: 30 minutes."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """The metric by which the candidate, the new model, is compared with the champion, the model in service.

    The training job logs `validation:NAME`, the evaluation job `candidate:NAME` and `champion:NAME`.
    """

    name: str
    """Name of the metric in the jobs' logs."""
    minimum_improvement: float = 0.0
    """Improvement that a candidate needs, as a share of the champion's value. Default: 0, any improvement."""
    higher_is_better: bool = False
    """Whether a higher value is better. Default: False."""
    incomparable: str = "It cannot be compared with the model in service"
    """Reason in the execution's output if the evaluation job logs that the two models cannot be compared.
    Default: "It cannot be compared with the model in service"."""

    @property
    def better(self) -> str:
        """Return the JSONata condition under which `$candidate` replaces `$champion`."""
        if self.higher_is_better:
            return f"$candidate > $champion * {1 + self.minimum_improvement}"
        return f"$candidate < $champion * {1 - self.minimum_improvement}"


def volume_key(training: TrainingJobs, bucket: ArtifactBucket) -> str | None:
    """Return the ARN of the key for the jobs' volumes; None if there is no key or SageMaker accepts none."""
    # SageMaker accepts no key for instances with local disks, which are always encrypted
    encrypted = bucket.key and not has_local_disks(training.instance_type)
    return bucket.key.key_arn if bucket.key and encrypted else None


@dataclass(frozen=True, kw_only=True)
class Workflow:
    """The state machine of `TrainAndDeploy`."""

    training: TrainingJobs
    endpoint: ServerlessEndpoint
    metric: Metric
    bucket: ArtifactBucket
    registry: ModelRegistry
    tags: Mapping[str, str] = field(default_factory=dict)

    def definition(self) -> dict[str, Any]:
        """Return the definition in Amazon States Language. Raises `ValueError` if it is invalid."""
        job_seconds = int(self.training.max_runtime.to_seconds()) + START_SECONDS
        flow = Flow(undo="Undo")
        self._accept(flow)
        self._find_version(flow)
        self._train(flow, job_seconds)
        self._find_champion(flow)
        self._evaluate(flow, job_seconds)
        self._register(flow)
        self._deploy(flow)
        self._undo(flow)
        return flow.definition("Accept", seconds=2 * job_seconds + 2 * self._deployment_seconds + 3600)

    @property
    def _deployment_seconds(self) -> int:
        return int(self.endpoint.deployment.to_seconds())

    # Stages, in their order

    def _accept(self, flow: Flow) -> None:
        """Merge the execution's input into the defaults. An invalid input fails the execution."""
        inputs, hyperparameters = self.training.inputs, self.training.hyperparameters
        flow.settle(
            "Accept",
            {
                **Flow.UNFAILED,
                "problems": _problems(list(inputs), list(hyperparameters)),
                "defaults": {
                    "hosts": self.training.hosts,
                    "inputs": dict(inputs),
                    "hyperparameters": dict(hyperparameters),
                },
                "name": f"{{% '{self.endpoint.name}-' & {EXECUTION_HASH} %}}",
                "endpoint": self.endpoint.name,
                "at": "Accept",
                "looks": 0,
                "container": self._container,
                "package": "",
                "registered": False,
                "created": False,
                "deployed": False,
                "comparable": True,
                "deploy_if_incomparable": False,
                **dict.fromkeys(
                    (
                        "not_deployed",
                        "version",
                        "training_job",
                        "hosts",
                        "validation",
                        "candidate",
                        "champion",
                    )
                ),
            },
            "IsAccepted",
            pass_on=True,
        )
        why = {"reason": "{% 'Accept: ' & $join($problems, '; ') %}"}
        flow.choose(
            "IsAccepted",
            Rule(when="{% $count($problems) > 0 %}", then="Failed", assign=why),
            Rule(
                when="{% $exists($states.input.version) %}",
                then="FindVersion",
                assign={"version": "{% $states.input.version %}"},
            ),
            otherwise="Settle",
        )
        flow.settle(
            "Settle",
            {
                "hosts": "{% $exists($states.input.hosts) ? $states.input.hosts : $defaults.hosts %}",
                "deploy_if_incomparable": "{% $exists($states.input.deploy_if_incomparable)"
                " ? $states.input.deploy_if_incomparable : false %}",
                "hyperparameters": "{% $merge($each($merge(["
                " $defaults.hyperparameters, $states.input.hyperparameters, $defaults.inputs,"
                f" $sift($states.input, function($v, $k) {{ $k in {list(inputs)} }})"
                " ]), function($v, $k) { { $k: $string($v) } })) %}",
            },
            "Train",
        )

    def _find_version(self, flow: Flow) -> None:
        """Find the model of the version in the input. It must be approved, as all deployed versions are.

        The endpoint's environment variables override the package's: a package that was registered by hand
        may lack them.
        """
        found = "$states.result.InferenceSpecification.Containers[0]"
        variables = f"$merge([{{}}, {found}.Environment, $container.Environment])"
        flow.call(
            "FindVersion",
            "aws-sdk:sagemaker:describeModelPackage",
            {"ModelPackageName": f"{{% $replace('{self.registry.package_arns}', '*', $string($version)) %}}"},
            "MayServe",
            assign={
                "package": "{% $states.result.ModelPackageArn %}",
                "approval": "{% $states.result.ModelApprovalStatus %}",
                "model_data": f"{{% {found}.ModelDataUrl %}}",
                "container": f"{{% {{'Image': {found}.Image, 'Environment': {variables}}} %}}",
            },
        )
        flow.choose(
            "MayServe",
            Rule(when="{% $approval = 'Approved' %}", then="FindEndpoint"),
            otherwise="Failed",
            assign={
                "at": "FindVersion",
                "reason": "{% 'FindVersion: version ' & $string($version) & ' is ' & $approval"
                " & ', approve it first' %}",
            },
        )

    def _train(self, flow: Flow, seconds: int) -> None:
        name = self.metric.name
        job = self._job("train", "training", "{% $hosts %}")
        job["AlgorithmSpecification"]["MetricDefinitions"] = _metrics(
            [f"train:{name}", f"validation:{name}", *self.training.logged]
        )
        if self.training.channels:
            job["InputDataConfig"] = self._channels()
        job["CheckpointConfig"] = {
            "S3Uri": f"{{% 's3://{self.bucket.bucket.bucket_name}/checkpoints/' & $name %}}",
            "LocalPath": "/opt/ml/checkpoints",
        }
        flow.call(
            "Train",
            "sagemaker:createTrainingJob.sync",
            job,
            "FindEndpoint",
            assign={
                "training_job": "{% $states.result.TrainingJobName %}",
                "model_data": "{% $states.result.ModelArtifacts.S3ModelArtifacts %}",
                "validation": _metric(f"validation:{name}"),
            },
            seconds=seconds,
        )

    def _find_champion(self, flow: Flow) -> None:
        """Find the model in service. This step follows the training, because another model may be deployed
        during the training."""
        status = "$states.result.Endpoints[EndpointName = $endpoint].EndpointStatus"
        patience = self._deployment_seconds // LOOK_SECONDS
        place = {"EndpointName": "{% $endpoint %}"}
        flow.call(
            "FindEndpoint",
            "aws-sdk:sagemaker:listEndpoints",
            {"NameContains": "{% $endpoint %}", "MaxResults": 100},
            "WhatServes",
            assign={
                "serving": f"{{% $exists({status}) ? {status} : 'None' %}}",
                "looks": "{% $looks + 1 %}",
            },
        )
        why = "{% 'FindEndpoint: endpoint ' & $endpoint & ' is still ' & $serving %}"
        flow.choose(
            "WhatServes",
            Rule(when="{% $version != null and $serving in ['None', 'InService'] %}", then="CreateModel"),
            Rule(when="{% $serving = 'None' %}", then="Register"),
            Rule(when="{% $serving = 'InService' %}", then="DescribeEndpoint"),
            Rule(
                when=f"{{% $looks > {patience} %}}",
                then="Failed",
                assign={"at": "FindEndpoint", "reason": why},
            ),
            # a failed endpoint can only be deleted
            Rule(when="{% $serving in ['Failed', 'UpdateRollbackFailed'] %}", then="ClearEndpoint"),
            otherwise="WaitToFind",
        )
        flow.call("ClearEndpoint", "aws-sdk:sagemaker:deleteEndpoint", place, "WaitToFind")
        flow.pause("WaitToFind", LOOK_SECONDS, "FindEndpoint")
        flow.call(
            "DescribeEndpoint",
            "aws-sdk:sagemaker:describeEndpoint",
            place,
            "DescribeEndpointConfig",
            assign={"champion_config": "{% $states.result.EndpointConfigName %}"},
        )
        flow.call(
            "DescribeEndpointConfig",
            "aws-sdk:sagemaker:describeEndpointConfig",
            {"EndpointConfigName": "{% $champion_config %}"},
            "DescribeModel",
            assign={"champion_model": "{% $states.result.ProductionVariants[0].ModelName %}"},
        )
        flow.call(
            "DescribeModel",
            "aws-sdk:sagemaker:describeModel",
            {"ModelName": "{% $champion_model %}"},
            "Evaluate",
            assign={"champion_data": "{% $states.result.PrimaryContainer.ModelDataUrl %}"},
        )

    def _evaluate(self, flow: Flow, seconds: int) -> None:
        """Evaluate both models in one container, on the same holdout."""
        job = self._job("evaluate", "evaluation", 1)
        names = [f"{side}:{self.metric.name}" for side in ("candidate", "champion", "comparable")]
        comparable = f"$not($states.result.FinalMetricDataList[MetricName = '{names[2]}'].Value = 0)"
        job["AlgorithmSpecification"]["MetricDefinitions"] = _metrics(names)
        job["InputDataConfig"] = [
            _channel("candidate", "{% $model_data %}"),
            _channel("champion", "{% $champion_data %}"),
            *self._channels(),
        ]
        flow.call(
            "Evaluate",
            "sagemaker:createTrainingJob.sync",
            job,
            "Register",
            assign={
                "candidate": _metric(names[0]),
                "champion": _metric(names[1], unless=f"$not({comparable})"),
                "comparable": f"{{% {comparable} %}}",
            },
            seconds=seconds,
        )

    def _register(self, flow: Flow) -> None:
        name, content_types = self.metric.name, list(self.endpoint.content_types)
        flow.call(
            "Register",
            "aws-sdk:sagemaker:createModelPackage",
            {
                "ModelPackageGroupName": self.registry.name,
                "ModelPackageDescription": "{% 'Trained by ' & $training_job %}",
                "ModelApprovalStatus": "PendingManualApproval",
                "InferenceSpecification": {
                    "Containers": [{**self._container, "ModelDataUrl": "{% $model_data %}"}],
                    "SupportedContentTypes": content_types,
                    "SupportedResponseMIMETypes": content_types,
                },
                "CustomerMetadataProperties": f"{{% $merge([{{'training_job': $training_job,"
                f" 'validation_{name}': $string($validation)}},"
                f" $champion = null ? {{}} : {{'candidate_{name}': $string($candidate),"
                f" 'champion_{name}': $string($champion)}}]) %}}",
                "ClientToken": "{% $substring($hash($name, 'SHA-256'), 0, 32) %}",
            },
            "IsBetter",
            assign={"package": "{% $states.result.ModelPackageArn %}", "registered": True},
        )
        flow.choose(
            "IsBetter",
            Rule(
                when="{% $not($comparable) and $not($deploy_if_incomparable) %}",
                then="NotCompared",
                assign={"not_deployed": self.metric.incomparable},
            ),
            Rule(when="{% $champion = null %}", then="CreateModel"),
            Rule(when=f"{{% {self.metric.better} %}}", then="CreateModel"),
            otherwise="NotBetter",
            assign={"not_deployed": "Not better than the model in service"},
        )
        for name, status in (("NotCompared", "PendingManualApproval"), ("NotBetter", "Rejected")):
            flow.call(name, UPDATE_PACKAGE, _judged(status, "{% $not_deployed %}"), "Report")

    def _deploy(self, flow: Flow) -> None:
        patience = self._deployment_seconds // LOOK_SECONDS
        place = {"EndpointName": "{% $endpoint %}", "EndpointConfigName": "{% $name %}"}
        flow.call(
            "CreateModel",
            "aws-sdk:sagemaker:createModel",
            {
                "ModelName": "{% $name %}",
                "ExecutionRoleArn": self.endpoint.role.role.role_arn,
                "PrimaryContainer": "{% $merge([$container, {'ModelDataUrl': $model_data}]) %}",
                "Tags": self._tags(),
            },
            "CreateEndpointConfig",
            assign={"looks": 0},
        )
        flow.call(
            "CreateEndpointConfig",
            "aws-sdk:sagemaker:createEndpointConfig",
            {
                "EndpointConfigName": "{% $name %}",
                "ProductionVariants": [
                    {
                        "VariantName": "AllTraffic",
                        "ModelName": "{% $name %}",
                        "ServerlessConfig": {
                            "MemorySizeInMB": self.endpoint.memory_mb,
                            "MaxConcurrency": self.endpoint.concurrency,
                        },
                    }
                ],
                "Tags": self._tags(),
            },
            "IsThere",
        )
        flow.choose(
            "IsThere",
            Rule(when="{% $serving = 'None' %}", then="CreateEndpoint"),
            # a model version given in the input is deployed without a comparison with the model in service
            Rule(when="{% $version != null %}", then="UpdateEndpoint"),
            otherwise="DescribeAgain",
        )
        # another execution may have deployed a model that the candidate was not compared with
        flow.call(
            "DescribeAgain",
            "aws-sdk:sagemaker:describeEndpoint",
            {"EndpointName": "{% $endpoint %}"},
            "IsUnchanged",
            assign={
                "status": "{% $states.result.EndpointStatus %}",
                "config": "{% $states.result.EndpointConfigName %}",
            },
        )
        flow.choose(
            "IsUnchanged",
            Rule(
                when="{% $status = 'InService' and $config = $champion_config %}",
                then="UpdateEndpoint",
            ),
            otherwise="Undo",
            assign={
                "at": "Deploy",
                "reason": "{% 'Deploy: endpoint ' & $endpoint & ' is ' & $status & ' with configuration '"
                " & $config & ', and the new model was compared with that of ' & $champion_config"
                " & ': another execution changed it, start again' %}",
            },
        )
        flow.call(
            "CreateEndpoint",
            "aws-sdk:sagemaker:createEndpoint",
            {**place, "Tags": self._tags()},
            "LookAtEndpoint",
            assign={"created": True},
        )
        flow.call("UpdateEndpoint", "aws-sdk:sagemaker:updateEndpoint", place, "LookAtEndpoint")
        flow.call(
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
        )
        changing = (
            "{% $status in ['Creating', 'Updating', 'SystemUpdating', 'RollingBack']"
            f" and $looks <= {patience} %}}"
        )
        flow.choose(
            "IsDeployed",
            Rule(
                when="{% $status = 'InService' and $config = $name %}",
                then="Approve",
                assign={"deployed": True},
            ),
            Rule(when=changing, then="WaitToLook"),
            # the endpoint has another configuration, because SageMaker rolled back to the previous model
            otherwise="Undo",
            assign={
                "at": "Deploy",
                "reason": "{% 'Deploy: endpoint ' & $endpoint & ' is ' & $status"
                " & ' and did not take the new model: ' & $why %}",
            },
        )
        # poll every second at first: a small container starts in a few seconds
        wait = f"{{% $looks < {LOOK_SECONDS} ? 1 : {LOOK_SECONDS} %}}"
        flow.pause("WaitToLook", wait, "LookAtEndpoint")
        approved = _judged("Approved", "{% 'In service at ' & $endpoint %}")
        flow.call("Approve", UPDATE_PACKAGE, approved, "Report")
        flow.report(
            "Report",
            {
                "training_job": "{% $training_job %}",
                "model_data": "{% $model_data %}",
                "hosts": "{% $hosts %}",
                f"validation_{self.metric.name}": "{% $validation %}",
                f"candidate_{self.metric.name}": "{% $candidate %}",
                f"champion_{self.metric.name}": "{% $champion %}",
                "model_package_arn": "{% $package %}",
                "deployed": "{% $deployed %}",
                "reason": "{% $not_deployed %}",
                "endpoint": "{% $endpoint %}",
            },
        )

    def _undo(self, flow: Flow) -> None:
        """Delete the endpoint that a failed execution created, and reject its model package."""
        flow.choose(
            "Undo",
            # the model stays in service, because only its approval failed
            Rule(when="{% $deployed %}", then="Failed"),
            # an endpoint that this execution created is deleted; an older endpoint keeps its model
            Rule(when="{% $created %}", then="RemoveEndpoint"),
            otherwise="IsRegistered",
        )
        place = {"EndpointName": "{% $endpoint %}"}
        flow.try_to("RemoveEndpoint", "aws-sdk:sagemaker:deleteEndpoint", place, "IsRegistered")
        # a version that was deployed before stays approved, even if this deployment fails
        flow.choose("IsRegistered", Rule(when="{% $registered %}", then="Reject"), otherwise="Failed")
        why = "{% $substring($replace($reason, /[\\r\\n]+/, ' '), 0, 1024) %}"
        flow.try_to("Reject", UPDATE_PACKAGE, _judged("Rejected", why), "Failed")

    # Arguments that several calls share

    @property
    def _container(self) -> dict[str, Any]:
        """Return the serving container without its model."""
        image = self.endpoint.image or self.training.image
        variables = dict(self.endpoint.environment)
        return {"Image": image.image_uri, **({"Environment": variables} if variables else {})}

    def _channels(self) -> list[dict[str, Any]]:
        return [_channel(name, self.bucket.url(folder)) for name, folder in self.training.channels.items()]

    def _job(self, mode: str, folder: str, hosts: Any) -> dict[str, Any]:
        """Return the arguments that the training and the evaluation job share."""
        training, bucket = self.training, self.bucket
        key = volume_key(training, bucket)
        fixed = jsonata_object(training.fixed)
        return {
            "TrainingJobName": f"{{% $name & '-{mode}' %}}",
            "AlgorithmSpecification": {
                "TrainingImage": training.image.image_uri,
                "TrainingInputMode": "File",
            },
            "HyperParameters": f"{{% $merge([$hyperparameters, {fixed}, {{'mode': '{mode}'}}]) %}}",
            "RoleArn": training.role.role.role_arn,
            "OutputDataConfig": {
                "S3OutputPath": bucket.url(folder),
                **({"KmsKeyId": bucket.key.key_arn} if bucket.key else {}),
            },
            "ResourceConfig": {
                "InstanceCount": hosts,
                "InstanceType": training.instance_type,
                "VolumeSizeInGB": training.volume_gb,
                **({"VolumeKmsKeyId": key} if key else {}),
            },
            "StoppingCondition": {"MaxRuntimeInSeconds": int(training.max_runtime.to_seconds())},
            "EnableNetworkIsolation": training.isolated,
            "EnableInterContainerTrafficEncryption": True,
            **({"VpcConfig": training.network.vpc_config} if training.network else {}),
            "Tags": self._tags(),
        }

    def _tags(self) -> list[dict[str, str]]:
        """Return the construct's tags, and one with the execution's name."""
        return [
            *({"Key": key, "Value": value} for key, value in self.tags.items()),
            {"Key": "groundplan:execution", "Value": "{% $states.context.Execution.Name %}"},
        ]


UPDATE_PACKAGE = "aws-sdk:sagemaker:updateModelPackage"


def _judged(status: str, why: str) -> dict[str, str]:
    """Return the arguments that set the approval status of the execution's model package."""
    return {
        "ModelPackageArn": "{% $package %}",
        "ModelApprovalStatus": status,
        "ApprovalDescription": why,
    }


def _problems(inputs: Sequence[str], hyperparameters: Sequence[str]) -> str:
    """Return the JSONata that lists the errors in an execution's input."""
    fields = [*inputs, "hosts", "hyperparameters", "deploy_if_incomparable", "version"]
    texts = "".join(
        f", $exists($in.{name}) ? ($type($in.{name}) != 'string' ? '{name} must be a text'"
        f" : $length($in.{name}) = 0 ? '{name} must not be empty')"
        for name in inputs
    )
    return (
        "{% ($in := $states.input;"
        f" $fields := {fields};"
        f" $names := {list(hyperparameters)};"
        " $type($in) != 'object' ? ['the input must be an object'] : ("
        " $h := $in.hyperparameters;"
        " $okay := $type($h) = 'object';"
        " ["
        " $keys($in)[$not($ in $fields)].('unknown field ' & $ & ', must be one of ' & $join($fields, ', '))"
        f"{texts}"
        ", $exists($in.hosts) ? ($type($in.hosts) != 'number' ? 'hosts must be a whole number from 1 to 64'"
        " : $in.hosts < 1 or $in.hosts > 64 or $floor($in.hosts) != $in.hosts"
        " ? 'hosts must be a whole number from 1 to 64')"
        ", $exists($in.deploy_if_incomparable) ? ($type($in.deploy_if_incomparable) != 'boolean'"
        " ? 'deploy_if_incomparable must be true or false')"
        ", $exists($in.version) ? ($count($keys($in)) > 1 ? 'version must be the only field'"
        " : $type($in.version) != 'number' ? 'version must be a whole number from 1'"
        " : $in.version < 1 or $floor($in.version) != $in.version ? 'version must be a whole number from 1')"
        ", $exists($h) ? ($okay ? ("
        " $keys($h)[$not($ in $names)]"
        ".('unknown hyperparameter ' & $ & ', must be one of ' & $join($names, ', '))"
        ") : 'hyperparameters must be an object')"
        ", $okay ? $each($h, function($v, $k) { $type($v) in ['string', 'number', 'boolean'] ? null"
        " : 'hyperparameter ' & $k & ' must be a text, a number, true or false' })[$ != null]"
        " ])) %}"
    )


def _channel(name: str, url: str) -> dict[str, Any]:
    return {
        "ChannelName": name,
        "DataSource": {
            "S3DataSource": {
                "S3DataType": "S3Prefix",
                "S3Uri": url,
                "S3DataDistributionType": "FullyReplicated",
            }
        },
    }


def _metrics(names: Sequence[str]) -> list[dict[str, str]]:
    return [{"Name": name, "Regex": f"{name}=([0-9.eE+-]+)"} for name in names]


def _metric(name: str, unless: str = "false") -> str:
    """Return the JSONata for the last value of a metric in a job's log; null where `unless` is true."""
    return (
        f"{{% {unless} ? null : ($value := $states.result.FinalMetricDataList[MetricName = '{name}'].Value;"
        f" $exists($value) ? $value"
        f" : $error('training job ' & $states.result.TrainingJobName & ' logged no {name}')) %}}"
    )
