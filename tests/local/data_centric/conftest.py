"""The stack of data_centric, deployed once for all tests. `inside/` has tests of benchmarks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from local.cloud import LocalCloud
from tests.support.data_centric.deployed import Deployed, deploy

collect_ignore = ["inside"]  # test_bench_inside.py runs `inside/` with the packages of the benchmarks


@pytest.fixture(scope="session")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    with LocalCloud(tmp_path_factory.mktemp("data-centric")) as cloud:
        yield deploy(cloud)
