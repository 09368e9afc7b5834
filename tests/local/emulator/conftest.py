"""An image, a bucket and roles in the session's cloud."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local.cloud import LocalCloud
from tests.support.deployments import ECR, PROGRAM, REGION, role
from tooling import envs


@pytest.fixture(scope="module")
def image(cloud: LocalCloud, aws: Callable, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address, in the cloud's ECR, of an image for training and serving. What a container does depends on
    its settings."""
    context = tmp_path_factory.mktemp("image")
    (context / "program.py").write_text(PROGRAM)
    (context / "Dockerfile").write_text(
        "FROM public.ecr.aws/docker/library/python:3.11-slim\nENV PYTHONUNBUFFERED=1\n"
        'COPY program.py /opt/program.py\nENTRYPOINT ["python", "/opt/program.py"]\n'
    )
    ecr = aws("ecr")
    with contextlib.suppress(ecr.exceptions.RepositoryAlreadyExistsException):  # made by another test file
        ecr.create_repository(repositoryName="hooks")
    docker, address = cloud.env()["CDK_DOCKER"], f"{ECR}/hooks:1"
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(Path.home())} | cloud.env()
    for command in (
        ["build", "--output=type=docker,oci-mediatypes=false", "--tag", address, str(context)],
        ["push", address],
    ):
        subprocess.run([docker, *command], check=True, env=environment, cwd=envs.ROOT)
    return address


@pytest.fixture(scope="module", autouse=True)
def unhurried(cloud: LocalCloud) -> Iterator[None]:
    """Allow a burst of training jobs and shorten the grace period of a stop, so that tests are not slowed
    down."""
    cloud.configure(create_training_job_burst=100, training_stop_grace=2.0)
    yield
    cloud.configure(create_training_job_burst=None, training_stop_grace=None)


@pytest.fixture(scope="module")
def bucket(aws: Callable) -> str:
    where = {"LocationConstraint": REGION}
    s3 = aws("s3")
    with contextlib.suppress(s3.exceptions.BucketAlreadyOwnedByYou):  # another test file has created it
        s3.create_bucket(Bucket="hooks-bucket", CreateBucketConfiguration=where)
    return "hooks-bucket"


@pytest.fixture(scope="module")
def execution_role(aws: Callable) -> str:
    """Return the ARN of the role of training jobs and endpoints in these tests."""
    return role(
        aws,
        "sagemaker.amazonaws.com",
        ("s3:*", "*"),
        ("logs:*", "*"),
        ("cloudwatch:PutMetricData", "*"),
        ("ecr:*", "*"),
    )
