"""A separate cloud for the tests of transform jobs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from local.cloud import LocalCloud
from tests.support.jobs import configured
from tests.support.transform_jobs import PACES, Transforms


@pytest.fixture(scope="package")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Transforms]:
    with LocalCloud(tmp_path_factory.mktemp("cloud")) as cloud:
        yield Transforms(cloud)


@pytest.fixture
def bench(running: Transforms) -> Iterator[Transforms]:
    with configured(running.cloud, PACES, "Transform"):
        yield running
