"""A separate cloud for the tests of processing jobs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from local.cloud import LocalCloud
from tests.support.jobs import client, configured, push
from tests.support.processing_jobs import BUCKET, DOCKERFILE, IMAGE, PACES


@pytest.fixture(scope="package")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    with LocalCloud(tmp_path_factory.mktemp("cloud")) as cloud:
        context = tmp_path_factory.mktemp("image")
        (context / "Dockerfile").write_text(DOCKERFILE)
        push(cloud, context, IMAGE)
        yield cloud


@pytest.fixture
def cloud(running: LocalCloud) -> Iterator[LocalCloud]:
    with configured(running, PACES, "Processing"):
        yield running


@pytest.fixture
def sagemaker(cloud: LocalCloud) -> Any:
    return client(cloud, "sagemaker")


@pytest.fixture
def s3(cloud: LocalCloud) -> Any:
    s3 = client(cloud, "s3")
    with contextlib.suppress(s3.exceptions.BucketAlreadyOwnedByYou):
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    return s3
