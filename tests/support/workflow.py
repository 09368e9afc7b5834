"""Run the training workflow's state machine against a simulated SageMaker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from groundplan import asl, workflow
from tests.synth.machine import Run, TaskError

ENDPOINT = "groundplan-dev-snowflake-training"


def plan(**changes: Any) -> workflow.Plan:
    settings: dict[str, Any] = {
        "endpoint": ENDPOINT,
        "group": "models",
        "image": "image:1",
        "training_role": "training-role",
        "serving_role": "serving-role",
        "bucket": "bucket",
        "key": None,
        "volume_key": None,
        "vpc_config": None,
        "hosts": 2,
        "instance_type": "ml.m5.xlarge",
        "volume_gb": 30,
        "max_runtime_seconds": 3600,
        "inputs": {"table": "HOUSES", "target": "VALUE"},
        "hyperparameters": {"eta": "0.05", "rounds": "800", "record_rows": "false"},
        "fixed": {"secret": "snowflake_credentials"},
        "metric": "rmse",
        "minimum_improvement": 0.0,
        "higher_is_better": False,
        "memory_mb": 2048,
        "concurrency": 5,
        "deployment_seconds": 60,
        "tags": {"team": "a"},
        "partition": "aws",
    }
    return workflow.Plan(**(settings | changes))


class SageMaker:
    """SageMaker as the workflow sees it.

    `candidate` and `champion` are what the evaluation says; `fail` maps an action to what it raises, one
    after the other; `statuses` are what the endpoint shows, one look after the other, the last for ever.
    """

    def __init__(self, serving: str | None = None, candidate: float = 0.40, champion: float = 0.50):
        self.endpoint = {"EndpointStatus": serving, "EndpointConfigName": "old"} if serving else None
        self.figures = {"candidate": candidate, "champion": champion, "validation": 0.45, "train": 0.3}
        self.fail: dict[str, list[TaskError]] = {}
        self.statuses: list[dict[str, str]] = []
        self.packages: dict[str, str] = {}

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
    definition = workflow.definition(plan(**changes))
    assert asl.problems(definition) == []
    return Run(definition, {} if given is None else given, sagemaker)


def arguments(run: Run, verb: str) -> list[dict[str, Any]]:
    return [given for action, given in run.calls if action.removesuffix(".sync").rpartition(":")[2] == verb]
