"""A cloud of their own for the tests of transform jobs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from local.cloud import LocalCloud
from tests.support.transform_jobs import PACES, Transforms


@pytest.fixture(scope="package")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Transforms]:
    with LocalCloud(tmp_path_factory.mktemp("cloud")) as cloud:
        yield Transforms(cloud)


@pytest.fixture
def bench(running: Transforms) -> Iterator[Transforms]:
    cloud = running.cloud
    cloud.configure(**PACES)
    yield running
    cloud.enforce_iam(False)
    for name in cloud.status()["transform_jobs_running"]:
        running.sagemaker.stop_transform_job(TransformJobName=name)
        running.ended(name)
    cloud.configure(**dict.fromkeys([*cloud.configure(), "faults_injected"]))
    assert list((cloud.home / "instances").glob("transform/*")) == [], "a job left files behind"
