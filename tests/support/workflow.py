"""Run the training workflow's state machine against a simulated SageMaker."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aws_cdk import App, Duration, Environment, Stack
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3

from groundplan import (
    ArtifactBucket,
    Metric,
    ModelRegistry,
    Network,
    SageMakerRole,
    ServerlessEndpoint,
    TrainingJobs,
)
from groundplan.workflow import Workflow
from tests.synth.machine import Run, TaskError

ENDPOINT = "groundplan-dev-houses"

REGION, ACCOUNT = "eu-west-1", "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/training"
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1234abcd-12ab-34cd-56ef-1234567890ab"


class Image:
    """An image whose address is known before the deployment."""

    image_uri = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/image:1"
    repository: Any = None


def network(stack: Stack, subnets: Sequence[str], groups: Sequence[str]) -> Network:
    """Return a network of existing subnets and security groups."""
    return Network(
        subnets=[ec2.Subnet.from_subnet_id(stack, each, each) for each in subnets],
        security_groups=[ec2.SecurityGroup.from_security_group_id(stack, each, each) for each in groups],
    )


def workflow(
    *,
    training: Mapping[str, Any] | None = None,
    endpoint: Mapping[str, Any] | None = None,
    metric: Mapping[str, Any] | None = None,
    subnets: Sequence[str] = (),
    groups: Sequence[str] = (),
    encrypted: bool = False,
) -> Workflow:
    """Return a workflow with an existing bucket and existing roles. `training`, `endpoint` and `metric`
    change fields of these parts."""
    stack = Stack(App(), "Stack", env=Environment(account=ACCOUNT, region=REGION))
    key = kms.Key.from_key_arn(stack, "Key", KEY) if encrypted else None
    bucket = s3.Bucket.from_bucket_name(stack, "Existing", "bucket")
    role = SageMakerRole(
        stack, "Role", log_group="/jobs", role=iam.Role.from_role_arn(stack, "ExistingRole", ROLE)
    )
    jobs: dict[str, Any] = {
        "hosts": 2,
        "inputs": {"table": "HOUSES", "target": "VALUE"},
        "hyperparameters": {"eta": "0.05", "rounds": "800", "record_rows": "false"},
        "fixed": {"secret": "warehouse_credentials"},
        "network": network(stack, subnets, groups) if subnets else None,
    }
    judged: dict[str, Any] = {"name": "rmse", **(metric or {})}
    serving: dict[str, Any] = {"name": ENDPOINT, "deployment": Duration.seconds(60)}
    return Workflow(
        training=TrainingJobs(**{"image": Image(), "role": role} | jobs | dict(training or {})),
        endpoint=ServerlessEndpoint(
            **{"role": role, "content_types": ["text/csv"]} | serving | dict(endpoint or {})
        ),
        metric=Metric(**judged),
        bucket=ArtifactBucket(stack, "Bucket", bucket=bucket, key=key),
        registry=ModelRegistry(stack, "Models", name="models", description="models"),
        tags={"team": "a"},
    )


class SageMaker:
    """A simulated SageMaker.

    `candidate` and `champion`: metrics of the evaluation. `fail`: for each action, the errors that it raises,
    in order. `statuses`: the endpoint's successive descriptions, of which the last is repeated. `variables`:
    the environment variables in the model packages of earlier runs.
    """

    def __init__(self, serving: str | None = None, candidate: float = 0.40, champion: float = 0.50):
        self.endpoint = {"EndpointStatus": serving, "EndpointConfigName": "old"} if serving else None
        self.figures = {"candidate": candidate, "champion": champion, "validation": 0.45, "train": 0.3}
        self.fail: dict[str, list[TaskError]] = {}
        self.statuses: list[dict[str, str]] = []
        self.packages: dict[str, str] = {}
        self.variables: dict[str, str] = {}

    def __call__(self, action: str, arguments: dict[str, Any]) -> dict[str, Any]:
        verb = action.removesuffix(".sync").rpartition(":")[2]
        if self.fail.get(verb):
            raise self.fail[verb].pop(0)
        return getattr(self, verb, lambda _: {})(arguments)

    def createTrainingJob(self, a: dict[str, Any]) -> dict[str, Any]:
        names = [definition["Name"] for definition in a["AlgorithmSpecification"]["MetricDefinitions"]]
        figures = [(name, self.figures.get(name.partition(":")[0])) for name in names]
        return {
            "TrainingJobName": a["TrainingJobName"],
            "ModelArtifacts": {
                "S3ModelArtifacts": f"s3://bucket/training/{a['TrainingJobName']}/model.tar.gz"
            },
            "FinalMetricDataList": [
                {"MetricName": name, "Value": value, "Timestamp": 1}
                for name, value in figures
                if value is not None
            ],
        }

    def listEndpoints(self, a: dict[str, Any]) -> dict[str, Any]:
        name = a["NameContains"]
        others = [{"EndpointName": f"{name}-other", "EndpointStatus": "InService"}]
        return {"Endpoints": others + ([{"EndpointName": name, **self.endpoint}] if self.endpoint else [])}

    def describeEndpoint(self, a: dict[str, Any]) -> dict[str, Any]:
        assert self.endpoint
        if self.statuses:
            self.endpoint |= self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        return dict(self.endpoint)

    def describeEndpointConfig(self, a: dict[str, Any]) -> dict[str, Any]:
        return {"ProductionVariants": [{"ModelName": "old-model"}]}

    def describeModel(self, a: dict[str, Any]) -> dict[str, Any]:
        return {"PrimaryContainer": {"ModelDataUrl": "s3://bucket/training/old/model.tar.gz"}}

    def createModelPackage(self, a: dict[str, Any]) -> dict[str, Any]:
        self.packages["arn:package/1"] = a["ModelApprovalStatus"]
        return {"ModelPackageArn": "arn:package/1"}

    def describeModelPackage(self, a: dict[str, Any]) -> dict[str, Any]:
        version = a["ModelPackageName"].rpartition("/")[2]
        arn = f"arn:package/{version}"
        container = {
            "Image": "image:old",
            "ModelDataUrl": f"s3://bucket/training/{version}/model.tar.gz",
            "ImageDigest": "sha256:0",
            **({"Environment": self.variables} if self.variables else {}),
        }
        return {
            "ModelPackageArn": arn,
            "ModelApprovalStatus": self.packages.get(arn, "Approved"),
            "InferenceSpecification": {"Containers": [container]},
        }

    def updateModelPackage(self, a: dict[str, Any]) -> dict[str, Any]:
        self.packages[a["ModelPackageArn"]] = a["ModelApprovalStatus"]
        return {}

    def createEndpoint(self, a: dict[str, Any]) -> dict[str, Any]:
        self.endpoint = {"EndpointStatus": "InService", "EndpointConfigName": a["EndpointConfigName"]}
        return {}

    updateEndpoint = createEndpoint

    def deleteEndpoint(self, a: dict[str, Any]) -> dict[str, Any]:
        self.endpoint = None
        return {}


def run(sagemaker: Callable[..., Any], given: Any = None, **changes: Any) -> Run:
    """Run the workflow with `changes` to its parts."""
    return Run(workflow(**changes).definition(), {} if given is None else given, sagemaker)


def arguments(run: Run, verb: str) -> list[dict[str, Any]]:
    return [given for action, given in run.calls if action.removesuffix(".sync").rpartition(":")[2] == verb]
