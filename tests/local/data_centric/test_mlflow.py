"""MLflow apps: a real server, called by AWS's plugin and by signed requests, under enforced policies."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from data_centric.aws.mlflow_app import MlflowApp, MlflowError
from local.cloud import LocalCloud
from tests.support.clouds import own_keys
from tests.support.deployments import assumed, role
from tests.support.waiting import until
from tooling import envs

PATIENT = {"Delay": 1, "MaxAttempts": 400}
CALL = "sagemaker:CallMlflowAppApi"
PROGRAM = """
import sys, mlflow
mlflow.set_tracking_uri(sys.argv[1])
mlflow.set_experiment("from the plugin")
with mlflow.start_run(run_name="one"):
    mlflow.log_param("fraction", 0.5)
    for step in range(3):
        mlflow.log_metric("loss", 1 / (1 + step), step=step)
(run,) = mlflow.search_runs(experiment_names=["from the plugin"], output_format="list")
print(run.data.params["fraction"], run.data.metrics["loss"])
"""


@pytest.fixture(scope="module")
def app(aws: Callable, cloud: LocalCloud) -> Iterator[str]:
    """The ARN of an MLflow app."""
    sagemaker = aws("sagemaker")
    made = sagemaker.create_mlflow_app(
        Name="tests",
        ArtifactStoreUri="s3://artifacts/mlflow",
        RoleArn=role(aws, "sagemaker.amazonaws.com"),
        Tags=[{"Key": "team", "Value": "a"}],
    )

    def created() -> bool:
        return sagemaker.describe_mlflow_app(Arn=made["Arn"])["Status"] == "Created"

    until(created, "the creation of the app", 400)
    yield made["Arn"]
    sagemaker.delete_mlflow_app(Arn=made["Arn"])


@pytest.fixture
def connect(cloud: LocalCloud, app: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., MlflowApp]:
    """`connect(arn, **credentials)` returns a client of the app, by default with the cloud's root access
    key."""
    for name, value in cloud.env().items():
        monkeypatch.setenv(name, value)

    def client(arn: str = app, **credentials: Any) -> MlflowApp:
        keys: dict[str, Any] = credentials or own_keys(cloud)
        return MlflowApp(boto3.Session(region_name=cloud.region, **keys), arn)

    return client


def test_aws_plugin_logs_runs_with_an_app(cloud: LocalCloud, app: str) -> None:
    done = subprocess.run(
        [envs.environment("mlflow"), "-c", PROGRAM, app],
        env=cloud.env() | {"PATH": "/usr/bin:/bin", "MLFLOW_DISABLE_TELEMETRY": "true"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "0.5 0.3333333333333333"


def test_only_a_role_with_the_permission_calls_an_app(
    aws: Callable, app: str, connect: Callable[..., MlflowApp], enforced: None
) -> None:
    # given a role that may call this app, and a role that may call only another app
    allowed = assumed(aws, (CALL, app))
    elsewhere = assumed(aws, (CALL, f"{app[:-1]}_"))
    # when the first role calls this app, then the app answers
    made = connect(**allowed).post("experiments/create", {"name": "allowed"})
    assert connect(**allowed).find_experiment("allowed") == made["experiment_id"]
    # when the second role calls this app, then the call is refused
    with pytest.raises(MlflowError, match=f"not authorized to perform: {CALL}"):
        connect(**elsewhere).find_experiment("allowed")


def test_request_without_a_signature_is_refused(cloud: LocalCloud, app: str) -> None:
    url = f"{cloud.endpoint_url}/api/2.0/mlflow/experiments/get-by-name?experiment_name=Default"
    asked = urllib.request.Request(url, headers={"x-sm-mlflow-app-arn": app})  # noqa: S310 - a local URL
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(asked, timeout=60)  # noqa: S310 - a local URL
    assert refused.value.code in (401, 403, 404)


def test_server_listens_on_no_port_and_its_socket_is_private(
    cloud: LocalCloud, app: str, connect: Callable[..., MlflowApp]
) -> None:
    connect().find_experiment("Default")
    (folder,) = (cloud.home / "mlflow").iterdir()
    assert oct(folder.stat().st_mode & 0o777) == "0o700"
    assert (folder / "socket").is_socket()
    assert "http://" not in (folder / "log").read_text()


def test_app_is_described_listed_and_tagged(aws: Callable, app: str) -> None:
    sagemaker = aws("sagemaker")
    found = sagemaker.describe_mlflow_app(Arn=app)
    assert (found["Name"], found["Status"]) == ("tests", "Created")
    # and the app's version is that of the MLflow server
    lock = (envs.ROOT / "local/sagemaker/mlflow/requirements.txt").read_text()
    assert f"\nmlflow=={found['MlflowVersion']}\n" in lock
    assert [each["Arn"] for each in sagemaker.list_mlflow_apps()["Summaries"]] == [app]
    assert sagemaker.list_tags(ResourceArn=app)["Tags"] == [{"Key": "team", "Value": "a"}]
    with pytest.raises(ClientError, match="ConflictException"):
        sagemaker.create_mlflow_app(
            Name="tests", ArtifactStoreUri="s3://a/b", RoleArn=role(aws, "sagemaker.amazonaws.com")
        )
    with pytest.raises(ClientError, match="ResourceNotFound"):
        sagemaker.describe_mlflow_app(Arn=f"{app}x")


def test_stack_creates_changes_and_deletes_an_app(aws: Callable) -> None:
    formation, sagemaker = aws("cloudformation"), aws("sagemaker")
    arn = role(aws, "sagemaker.amazonaws.com")

    def template(prefix: str) -> str:
        properties = {"Name": "stacked", "ArtifactStoreUri": f"s3://a/{prefix}", "RoleArn": arn}
        resource: dict[str, Any] = {"Type": "AWS::SageMaker::MlflowApp", "Properties": properties}
        output = {"Arn": {"Value": {"Fn::GetAtt": ["App", "Arn"]}}, "Ref": {"Value": {"Ref": "App"}}}
        return json.dumps({"Resources": {"App": resource}, "Outputs": output})

    formation.create_stack(StackName="mlflow", TemplateBody=template("one"))
    formation.get_waiter("stack_create_complete").wait(StackName="mlflow", WaiterConfig=PATIENT)
    (stack,) = formation.describe_stacks(StackName="mlflow")["Stacks"]
    outputs = {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}
    assert outputs["Arn"] == outputs["Ref"]
    formation.update_stack(StackName="mlflow", TemplateBody=template("two"))
    formation.get_waiter("stack_update_complete").wait(StackName="mlflow", WaiterConfig=PATIENT)
    assert sagemaker.describe_mlflow_app(Arn=outputs["Arn"])["ArtifactStoreUri"] == "s3://a/two"
    formation.delete_stack(StackName="mlflow")
    formation.get_waiter("stack_delete_complete").wait(StackName="mlflow", WaiterConfig=PATIENT)
    with pytest.raises(ClientError, match="ResourceNotFound"):
        sagemaker.describe_mlflow_app(Arn=outputs["Arn"])
