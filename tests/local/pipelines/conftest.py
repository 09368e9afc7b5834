"""A separate cloud for the tests of pipelines, with the image of the tests of training jobs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from local.cloud import LocalCloud
from tests.support.pipeline_runs import PipelineRuns
from tests.support.training_jobs import BUCKET, DOCKERFILE, IMAGE, PACES, PROGRAM


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    with LocalCloud(tmp_path_factory.mktemp("cloud")) as cloud:
        yield cloud


@pytest.fixture(scope="module")
def runs(running: LocalCloud, tmp_path_factory: pytest.TempPathFactory) -> PipelineRuns:
    found = PipelineRuns(running)
    where = {"LocationConstraint": running.region}
    found.aws("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration=where)
    found.aws("ecr").create_repository(repositoryName="training-tests")
    context = tmp_path_factory.mktemp("image")
    (context / "Dockerfile").write_text(DOCKERFILE)
    (context / "train.py").write_text(PROGRAM)
    docker, env = running.env()["CDK_DOCKER"], os.environ | running.env()
    build = ["build", "--output=type=docker,oci-mediatypes=false", "--tag", IMAGE, "."]
    for command in (build, ["push", IMAGE]):
        subprocess.run([docker, *command], check=True, cwd=context, env=env, capture_output=True)
    return found


@pytest.fixture(autouse=True)
def unhurried(running: LocalCloud) -> Iterator[None]:
    """Shorten the cloud's waits during a test. Afterwards, turn IAM off and reset the settings."""
    running.configure(**PACES | {"pipeline_poll": 0.05})
    yield
    running.enforce_iam(False)
    running.configure(**dict.fromkeys([*running.configure(), "faults_injected"]))
