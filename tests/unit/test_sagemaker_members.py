"""Every member of a request is read, refused by name, or has no effect for a stated reason."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local.sagemaker import api, http, members
from local.sagemaker.api import ApiError
from local.sagemaker.store import Store

ROOT = Path(http.__file__).parent


def _written() -> set[str]:
    """Return all strings in the code of the operations, except the tables of `members.py`. The result also
    has the names of time filters, which the code composes from two parts.
    """
    found: set[str] = set()
    for file in ROOT.rglob("*.py"):
        if file.name != "members.py":
            constants = (n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Constant))
            found |= {each.value for each in constants if isinstance(each.value, str)}
    times = ("CreationTime", "LastModifiedTime")
    return found | {f"{time}{side}" for time in times for side in ("After", "Before")}


WRITTEN = _written()


def unaccounted(
    operation: str, shape: Any, path: str = "", seen: frozenset[str] = frozenset()
) -> Iterator[str]:
    """Return the paths of members that the code does not read and that are in no table."""
    if shape.type_name == "list":
        yield from unaccounted(operation, shape.member, f"{path}[]", seen)
    elif shape.type_name == "structure" and shape.name not in seen:
        tables = (members.UNBUILT, members.UNBUILT_VALUES, members.NO_EFFECT)
        listed = {each for table in tables for each in table.get(operation, ())}
        for name, member in shape.members.items():
            where = f"{path}.{name}" if path else name
            if where in listed:
                continue
            if name in WRITTEN or any(each.startswith(f"{where}.") for each in listed):
                yield from unaccounted(operation, member, where, seen | {shape.name})
            else:
                yield where


def input_of(operation: str) -> Any:
    return api.service_model().operation_model(operation).input_shape


REFUSED_WHOLE = {
    "CreateEndpoint": ("DeploymentConfig.RollingUpdatePolicy", "DeploymentConfig.AutoRollbackConfiguration"),
    "UpdateEndpoint": ("DeploymentConfig.RollingUpdatePolicy", "DeploymentConfig.AutoRollbackConfiguration"),
    "CreateEndpointConfig": (
        *("AsyncInferenceConfig", "ExplainerConfig", "ShadowProductionVariants"),
        *("ProductionVariants[].InstancePools", "ProductionVariants[].ManagedInstanceScaling"),
    ),
    "CreateModelPackage": ("ValidationSpecification", "SourceAlgorithmSpecification"),
    "CreateTrainingJob": (
        *("DebugRuleConfigurations", "ProfilerRuleConfigurations", "ServerlessJobConfig", "MlflowConfig"),
        *("ModelPackageConfig", "InputDataConfig[].ShuffleConfig"),
        *(f"InputDataConfig[].DataSource.{kind}" for kind in ("FileSystemDataSource", "DatasetSource")),
    ),
    "CreateHyperParameterTuningJob": (
        *("TrainingJobDefinitions", "WarmStartConfig", "HyperParameterTuningJobConfig.StrategyConfig"),
        "HyperParameterTuningJobConfig.ParameterRanges.AutoParameters",
        "HyperParameterTuningJobConfig.TuningJobCompletionCriteria.ConvergenceDetected",
        *(
            f"TrainingJobDefinition.{each}"
            for each in (
                *("HyperParameterRanges", "HyperParameterTuningResourceConfig", "RetryStrategy"),
                *("InputDataConfig[].ShuffleConfig", "InputDataConfig[].DataSource.FileSystemDataSource"),
                "InputDataConfig[].DataSource.DatasetSource",
            )
        ),
    ),
    "CreateLabelingJob": ("HumanTaskConfig.PublicWorkforceTaskPrice",),
    "UpdateTrainingJob": ("ProfilerConfig", "ProfilerRuleConfigurations", "RemoteDebugConfig"),
}
"""Members that an operation's code refuses as a whole, so that no code reads their contents."""


@pytest.mark.parametrize("operation", sorted(api.OPERATIONS))
def test_every_input_member_is_used_or_refused(operation: str) -> None:
    whole = REFUSED_WHOLE.get(operation, ())
    inside = tuple(f"{path}{end}" for path in whole for end in (".", "["))
    found = [
        path
        for path in unaccounted(operation, input_of(operation))
        if path not in whole and not path.startswith(inside)
    ]
    assert found == []


@pytest.mark.parametrize("table", ["UNBUILT", "UNBUILT_VALUES", "NO_EFFECT"])
def test_tables_name_existing_members(table: str) -> None:
    for operation, paths in getattr(members, table).items():
        for path in paths:
            shape = input_of(operation)
            for part in path.split("."):
                name, listed, _ = part.partition("[]")
                assert name in shape.members, f"{operation}: {path}"
                shape = shape.members[name].member if listed else shape.members[name]
    assert all(len(reason) > 20 for paths in members.NO_EFFECT.values() for reason in paths.values())


def filled(path: str, value: Any) -> dict[str, Any]:
    """Return a request with only this value at the path."""
    for part in reversed(path.split(".")):
        name, listed, _ = part.partition("[]")
        value = {name: [value] if listed else value}
    return value


@pytest.mark.parametrize(
    ("operation", "path"), [(name, path) for name, paths in members.UNBUILT.items() for path in paths]
)
def test_member_that_is_not_built_is_refused_by_name(operation: str, path: str) -> None:
    assert members.unbuilt(operation, filled(path, {"given": True})) == path
    # and an empty or false value of the member has no effect
    for empty in ({}, [], False):
        assert members.unbuilt(operation, filled(path, empty)) is None


def test_value_that_is_not_served_is_refused() -> None:
    path = "ProductionVariants[].RoutingConfig.RoutingStrategy"
    assert members.unbuilt("CreateEndpointConfig", filled(path, "RANDOM")) is None
    said = members.unbuilt("CreateEndpointConfig", filled(path, "PREFIX_AWARE"))
    assert said == f"{path} PREFIX_AWARE"


def test_operation_refuses_before_any_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    # given an operation that fails the test if it runs
    def reached(context: Any, params: Any) -> None:
        raise AssertionError("The operation was reached")

    monkeypatch.setitem(api.OPERATIONS, "CreateModel", api.Operation(reached, None, ()))
    params = {"ModelName": "m", "InferenceExecutionConfig": {"Mode": "Serial"}}
    with pytest.raises(
        ApiError, match="CreateModel with InferenceExecutionConfig is not implemented"
    ) as refused:
        api.call(api.Context(None, None), "CreateModel", params)  # type: ignore[arg-type]
    assert (refused.value.code, refused.value.status) == ("NotImplementedByLocalCloud", 501)


# Answers ----------------------------------------------------------------------------------------------


class Cloud:
    """The part of a local cloud that operations use: every call is allowed, and events are dropped."""

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {}

    def authorize(self, *asked: Any) -> None: ...

    def publish(self, *event: Any) -> None: ...

    def manifest_type(self, uri: str) -> str | None: ...


ROLE = "arn:aws:iam::000000000000:role/r"
IMAGE = {"Image": "000000000000.dkr.ecr.eu-west-1.amazonaws.com/i:1"}
VARIANT = {"VariantName": "v", "ModelName": "n", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
TRAINING = {
    "TrainingJobName": "n",
    "TrainingJobArn": "arn",
    "TrainingJobStatus": "InProgress",
    "SecondaryStatus": "Starting",
    "AlgorithmSpecification": {"TrainingInputMode": "File"},
    "OutputDataConfig": {"S3OutputPath": "s3://b/out/"},
    "StoppingCondition": {},
    "CreationTime": 1.0,
}
"""The record of a training job before it has results."""
PLACE = {"S3DataType": "S3Prefix", "S3Uri": "s3://b/in"}
JOBS = {
    "TrainingJob": TRAINING,
    "ProcessingJob": {
        "ProcessingJobName": "n",
        "ProcessingJobArn": "arn",
        "ProcessingJobStatus": "InProgress",
        "ProcessingResources": {
            "ClusterConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1}
        },
        "AppSpecification": {"ImageUri": IMAGE["Image"]},
        "CreationTime": 1.0,
    },
    "TransformJob": {
        "TransformJobName": "n",
        "TransformJobArn": "arn",
        "TransformJobStatus": "InProgress",
        "ModelName": "m",
        "TransformInput": {"DataSource": {"S3DataSource": PLACE}},
        "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
        "CreationTime": 1.0,
    },
    "LabelingJob": {
        "LabelingJobName": "n",
        "LabelingJobArn": "arn",
        "LabelingJobStatus": "Initializing",
        "LabelCounters": {},
        "JobReferenceCode": "0",
        "InputConfig": {"DataSource": {"S3DataSource": {"ManifestS3Uri": PLACE["S3Uri"]}}},
        "OutputConfig": {"S3OutputPath": "s3://b/out"},
        "RoleArn": ROLE,
        "HumanTaskConfig": {
            "WorkteamArn": "arn",
            "UiConfig": {},
            "TaskTitle": "t",
            "TaskDescription": "d",
            "NumberOfHumanWorkersPerDataObject": 1,
            "TaskTimeLimitInSeconds": 30,
        },
        "CreationTime": 1.0,
        "LastModifiedTime": 1.0,
    },
}
"""Records of jobs by kind."""
PREPARED: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "Model": [("CreateModel", {"ModelName": "n", "PrimaryContainer": IMAGE, "ExecutionRoleArn": ROLE})],
    "ModelPackageGroup": [("CreateModelPackageGroup", {"ModelPackageGroupName": "n"})],
    "NotebookInstance": [
        (
            "CreateNotebookInstance",
            {"NotebookInstanceName": "n", "InstanceType": "ml.t3.medium", "RoleArn": ROLE},
        )
    ],
    "NotebookInstanceLifecycleConfig": [
        ("CreateNotebookInstanceLifecycleConfig", {"NotebookInstanceLifecycleConfigName": "n"})
    ],
}
PREPARED["EndpointConfig"] = [
    *PREPARED["Model"],
    ("CreateEndpointConfig", {"EndpointConfigName": "n", "ProductionVariants": [VARIANT]}),
]
PREPARED["ModelPackage"] = [
    (
        "CreateModelPackage",
        {
            "ModelPackageName": "n",
            "InferenceSpecification": {
                "Containers": [IMAGE],
                "SupportedContentTypes": ["text/csv"],
                "SupportedResponseMIMETypes": ["text/csv"],
                "SupportedTransformInstanceTypes": ["ml.m5.large"],
                "SupportedRealtimeInferenceInstanceTypes": ["ml.m5.large"],
            },
        },
    )
]


def absent(shape: Any, value: Any, where: str = "") -> Iterator[str]:
    """Return the required members that a response lacks."""
    if shape.type_name == "structure":
        for name in shape.required_members:
            if name not in value:
                yield f"{where}.{name}"
        for name, member in value.items():
            yield from absent(shape.members[name], member, f"{where}.{name}")
    elif shape.type_name == "list":
        for each in value:
            yield from absent(shape.member, each, f"{where}[]")


@pytest.mark.parametrize("kind", [*PREPARED, *JOBS])
def test_describe_and_list_answer_every_required_member(kind: str, tmp_path: Path) -> None:
    # given a resource with the required fields only
    context = api.Context(Cloud(), Store(tmp_path / "records.sqlite").scoped("1", "r"))  # type: ignore[arg-type]
    for operation, params in PREPARED.get(kind, []):
        api.call(context, operation, params)
    if kind in JOBS:
        context.store.add(f"{kind.removesuffix('Job').lower()}-job", "n", JOBS[kind])
    # then the response has the members that the service model requires
    for operation, params in ((f"Describe{kind}", {f"{kind}Name": "n"}), (f"List{kind}s", {})):
        answer = api.call(context, operation, params)
        assert list(absent(api.service_model().operation_model(operation).output_shape, answer)) == []


@pytest.mark.parametrize(
    ("output", "place"),
    [({}, "s3://b/out/n/output/model.tar.gz"), ({"CompressionType": "NONE"}, "s3://b/out/n/output/model/")],
)
def test_training_job_has_the_members_that_sdks_require(
    output: dict[str, str], place: str, tmp_path: Path
) -> None:
    context = api.Context(Cloud(), Store(tmp_path / "records.sqlite").scoped("1", "r"))  # type: ignore[arg-type]
    given = TRAINING["OutputDataConfig"] | output
    context.store.add("training-job", "n", TRAINING | {"OutputDataConfig": given})
    job = api.call(context, "DescribeTrainingJob", {"TrainingJobName": "n"})
    assert job["OutputDataConfig"] == {"KmsKeyId": "", "CompressionType": "GZIP"} | given
    assert job["ModelArtifacts"] == {"S3ModelArtifacts": place}
