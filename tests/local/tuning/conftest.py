"""A separate cloud for the tests of tuning jobs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from local.cloud import LocalCloud
from tests.support.jobs import BUCKET, client, configured, push
from tests.support.training_jobs import DOCKERFILE, IMAGE, PACES, PROGRAM


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    """One cloud for all tests of tuning jobs, with their image in its registry."""
    with LocalCloud(tmp_path_factory.mktemp("cloud")) as cloud:
        context = tmp_path_factory.mktemp("image")
        (context / "Dockerfile").write_text(DOCKERFILE)
        (context / "train.py").write_text(PROGRAM)
        push(cloud, context, IMAGE)
        s3 = client(cloud, "s3")
        with contextlib.suppress(s3.exceptions.BucketAlreadyOwnedByYou):
            s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        yield cloud


@pytest.fixture
def cloud(running: LocalCloud) -> Iterator[LocalCloud]:
    with configured(running, PACES, "Training"):
        yield running


@pytest.fixture
def sagemaker(cloud: LocalCloud) -> Any:
    return client(cloud, "sagemaker")
