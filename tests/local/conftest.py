"""One local cloud for the whole session, and clients of it."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from local.cloud import LocalCloud
from tests.local.personalization_world import make_world, personalization_cloud  # noqa: F401 - fixtures


def until(condition: Callable[[], Any], what: str) -> Any:
    """What `condition` answers as soon as that is something. Generous: the machine may be busy."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen")


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    """A running cloud in a folder of its own, on a free port. Environments and images are shared."""
    with LocalCloud(tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest.fixture(scope="session")
def aws(cloud: LocalCloud) -> Callable[..., Any]:
    """`aws("s3")` is a client with the person's own keys; `aws("s3", **credentials)` one with others."""
    return functools.cache(functools.partial(client, cloud))


def client(cloud: LocalCloud, service: str, **credentials: str) -> Any:
    """A client whose mistakes show at once: it does not try again."""
    keys = credentials or {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    return boto3.client(
        service,
        endpoint_url=cloud.endpoint_url,
        region_name=cloud.region,
        config=Config(retries={"total_max_attempts": 1}),
        **keys,
    )


@pytest.fixture
def enforced(cloud: LocalCloud) -> Iterator[None]:
    """IAM is enforced while the test runs."""
    cloud.enforce_iam(True)
    yield
    cloud.enforce_iam(False)


@pytest.fixture(scope="session")
def in_the_clouds_environment() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a Python program in the server's own environment; returns what it printed."""
    from tooling import envs

    def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(envs.environment("cloud")), "-c", program, *arguments],
            cwd=Path(__file__).resolve().parents[2],
            env={"PATH": os.environ["PATH"]},
            stdout=subprocess.PIPE,
            stderr=sys.stderr,
            text=True,
            timeout=120,
            check=False,
        )

    return run
