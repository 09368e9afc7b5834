"""A separate cloud for the tests of labeling jobs, with IAM enforced."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from local.cloud import LocalCloud
from tests.support.data_centric.labeling_jobs import Labeling, deploy


@pytest.fixture(scope="module")
def job_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Labeling]:
    with LocalCloud(tmp_path_factory.mktemp("labeling")) as cloud:
        yield deploy(cloud)


@pytest.fixture
def labeling(job_stack: Labeling) -> Iterator[Labeling]:
    """The cloud; its settings are reset after each test."""
    job_stack.cloud.configure(labeling_log_interval=0.05)
    yield job_stack
    job_stack.cloud.configure(**dict.fromkeys(job_stack.cloud.configure()))
