"""The construct library works in another project that has only installed its wheel."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tooling import envs

APP = """
from pathlib import Path

import json

from aws_cdk import App, Stack
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_s3_assets as s3_assets
from aws_cdk import aws_stepfunctions as sfn

from groundplan import (
    ArtifactBucket, CleanUp, LabelingJob, LabelingTask, Metric, ModelRegistry, Network, RepositoryImage,
    SageMakerNotebook, SageMakerRole, ServerlessEndpoint, SiteFiles, StaticSite, TrainAndDeploy, TrainingJobs,
    UserApi, Users,
)
from groundplan.instance_types import device
from groundplan.states import Flow

app = App()
stack = Stack(app, "shop")
bucket = ArtifactBucket(stack, "Data")
registry = ModelRegistry(stack, "Models", name="shop", description="What sells")
CleanUp(stack, "CleanUp", endpoint_name="shop", bucket=bucket, registry=registry)
api = UserApi(stack, "Api", document=Path("openapi.json"), users=Users(stack, "Users"))
site = StaticSite(stack, "Site", api=api)
page = s3_assets.Asset(stack, "Page", path="page")
SiteFiles(stack, "Files", site=site, source=page, config={}, storage=bucket.bucket)
SageMakerNotebook(stack, "Notebook", name="shop", packages=["pandas"])
shown = "arn:aws:lambda:eu-west-1:123456789012:function:show"
show = lambda_.Function.from_function_arn(stack, "Show", shown)
task = LabelingTask(
    workteam_arn="arn:aws:sagemaker:eu-west-1:123456789012:workteam/private-crowd/us",
    title="What is it?",
    classes=["shoe", "hat"],
    instructions="Choose one.",
)
LabelingJob(
    stack, "Label", name="shop", task=task, bucket=bucket, pre_annotation=show, post_annotation=show
)
assert device("ml.g5.xlarge") == "cuda"

flow = Flow()
flow.settle("Begin", {**Flow.UNFAILED, "at": "Begin"}, "List")
flow.call("List", "aws-sdk:sagemaker:listEndpoints", {}, "Report", assign={"found": "{% $states.result %}"})
flow.report("Report", "{% $found %}")
definition = sfn.DefinitionBody.from_string(json.dumps(flow.definition("Begin", seconds=60)))
sfn.StateMachine(stack, "Machine", definition_body=definition)

# What exists already
theirs = Stack(app, "theirs")
vpc = ec2.Vpc.from_vpc_attributes(
    theirs, "Vpc", vpc_id="vpc-1", availability_zones=["eu-west-1a"], private_subnet_ids=["subnet-1"]
)
group = ec2.SecurityGroup.from_security_group_id(theirs, "Group", "sg-1")
role = iam.Role.from_role_arn(theirs, "TheirRole", "arn:aws:iam::123456789012:role/theirs")
key = kms.Key.from_key_arn(theirs, "Key", "arn:aws:kms:eu-west-1:123456789012:key/1")
data = ArtifactBucket(theirs, "Data", bucket=s3.Bucket.from_bucket_name(theirs, "Bucket", "theirs"), key=key)
jobs = SageMakerRole(theirs, "Jobs", log_group="/aws/sagemaker/TrainingJobs", role=role)
image = RepositoryImage(repository=ecr.Repository.from_repository_name(theirs, "Images", "train"), tag="7")
data.grant_read(role, "training").assert_success()
data.grant_write(iam.Role.from_role_name(theirs, "Other", "other"), "training").assert_success()
TrainAndDeploy(
    theirs,
    "Train",
    training=TrainingJobs(image=image, role=jobs, network=Network.of(vpc, [group])),
    endpoint=ServerlessEndpoint(name="shop", role=jobs, content_types=["text/csv"]),
    metric=Metric(name="rmse"),
    bucket=data,
    registry=ModelRegistry(theirs, "Models", name="shop", description="What sells"),
)
app.synth()
"""
DOCUMENT = {
    "openapi": "3.0.3",
    "info": {"title": "shop", "version": "1"},
    "paths": {"/api/orders": {"get": {"responses": {"200": {"description": "the orders"}}}}},
}


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment with the wheel and its dependencies."""
    folder = tmp_path_factory.mktemp("library")
    settings = os.environ | envs.pip_settings()
    leave_out = shutil.ignore_patterns("__pycache__", "build", "*.egg-info")
    source = shutil.copytree(envs.ROOT / "constructs", folder / "source", ignore=leave_out)
    for command in (
        ["build", "--wheel", "--quiet", "--out-dir", str(folder / "dist"), str(source)],
        ["venv", "--quiet", "--python", str(envs.MACHINE_PYTHON), str(folder / "env")],
    ):
        subprocess.run([str(envs.uv()), *command], check=True, env=settings, cwd=folder)
    (wheel,) = (folder / "dist").glob("*.whl")
    python = envs.python_of(folder / "env")
    # The dependencies have the versions that this project locks
    lock = (envs.ROOT / "requirements.txt").read_text().splitlines()
    (folder / "locked.txt").write_text("\n".join(line for line in lock if not line.startswith("-e ")))
    install = ["pip", "install", "--quiet", "--python", str(python), "--constraint", "locked.txt", str(wheel)]
    subprocess.run([str(envs.uv()), *install], check=True, env=settings, cwd=folder)
    return python


@pytest.fixture(scope="module")
def synthesized(python: Path, cut_off: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthesize an app in a new folder; return the folder of the templates."""
    folder = tmp_path_factory.mktemp("app")
    (folder / "app.py").write_text(APP)
    (folder / "openapi.json").write_text(json.dumps(DOCUMENT))
    (folder / "page").mkdir()
    (folder / "page" / "index.html").write_text("<!doctype html><title>shop</title>")
    done = subprocess.run(
        [str(python), "app.py"],
        cwd=folder,
        env=cut_off | {"CDK_OUTDIR": str(folder / "out")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "out"


def test_stack_of_another_project_needs_the_wheel_only(synthesized: Path) -> None:
    # then each custom resource has a function with its code
    template = json.loads((synthesized / "shop.template.json").read_text())
    kinds = Counter(resource["Type"] for resource in template["Resources"].values())
    assert kinds["Custom::SageMakerCleanUp"] == kinds["Custom::SiteFiles"] == 1
    assert kinds["AWS::Lambda::Function"] == 2
    code = [path for path in synthesized.rglob("handler.py") if "def handler(" in path.read_text()]
    assert len(code) == 2
    for path in code:
        assert (path.parent / "groundplan" / "lambdas" / "custom_resource.py").is_file()
    # and the labeling job has a page for labelers
    assert any("crowd-image-classifier" in path.read_text() for path in synthesized.glob("asset.*.html"))
    # and the notebook instance has a start script
    assert kinds["AWS::SageMaker::NotebookInstanceLifecycleConfig"] == 1


def test_stack_with_existing_resources_does_not_create_them(
    synthesized: Path,
) -> None:
    template = json.loads((synthesized / "theirs.template.json").read_text())
    kinds = Counter(resource["Type"] for resource in template["Resources"].values())
    # then the only role in the template is the workflow's, and there are policies for the existing roles
    assert kinds["AWS::IAM::Role"] == 1
    assert not kinds.keys() & {"AWS::S3::Bucket", "AWS::KMS::Key", "AWS::EC2::VPC", "AWS::ECR::Repository"}
    policies = [each for each in template["Resources"].values() if each["Type"] == "AWS::IAM::Policy"]
    assert {"theirs", "other"} <= {
        name for each in policies for name in each["Properties"]["Roles"] if isinstance(name, str)
    }
    # and the workflow's jobs use the existing roles
    (machine,) = [
        e for e in template["Resources"].values() if e["Type"] == "AWS::StepFunctions::StateMachine"
    ]
    text = json.dumps(machine["Properties"]["DefinitionString"])
    for each in ("subnet-1", "sg-1", "role/theirs", "s3://theirs/training", "key/1", "/train:7"):
        assert each in text, each
