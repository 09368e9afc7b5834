"""One local cloud for the whole test session, and clients of it."""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from documentation import fidelity
from local import record
from local.cloud import LocalCloud
from tests.support.clouds import client
from tests.support.waiting import until
from tooling import envs


@pytest.fixture(scope="session", autouse=True)
def record_of_calls(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[Path]:
    """The file in which all local clouds of this session record what they answer (`local/record.py`).

    At the end, `local/fidelity.toml` must describe everything that is recorded.
    """
    folder = os.environ.get(fidelity.FOLDER) or tmp_path_factory.mktemp("record")
    path = Path(folder, worker_id)
    path.touch()
    os.environ[record.VARIABLE] = str(path)
    yield path
    del os.environ[record.VARIABLE]
    if fidelity.FOLDER not in os.environ:
        found = fidelity.unexpected(fidelity.observed([path.read_text()]), fidelity.read())
        assert not found, (
            f"{fidelity.FILE.name} must describe what the local cloud answers, and lacks or refuses"
            f" {', '.join(found)}: run `{fidelity.UPDATE}` with the tests' paths"
        )


@pytest.fixture(scope="module", autouse=True)
def file_in_the_record(record_of_calls: Path, request: pytest.FixtureRequest) -> None:
    """Write the test file's name into the record, before the calls of its tests."""
    with record_of_calls.open("a") as file:
        file.write(f"{request.path.relative_to(envs.ROOT)}\n")


@pytest.fixture(scope="module", autouse=True)
def no_session_of_another_cloud() -> None:
    """Drop boto3's default session, which may have the keys of another test file's cloud."""
    boto3.DEFAULT_SESSION = None


@pytest.fixture(scope="session")
def shared_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    """A running cloud in a separate folder, on a free port. All clouds share Python environments and
    images."""
    with LocalCloud(tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest.fixture(scope="module")
def cloud(shared_cloud: LocalCloud) -> Iterator[LocalCloud]:
    """The session's cloud. After each test file, the cloud's settings are reset and all endpoints are
    deleted, because the endpoints of an account share its quotas."""
    yield shared_cloud
    shared_cloud.configure(**dict.fromkeys(shared_cloud.configure()))
    sagemaker = client(shared_cloud, "sagemaker")

    def none_left() -> bool:
        left = sagemaker.list_endpoints(MaxResults=100)["Endpoints"]
        for endpoint in left:
            with contextlib.suppress(ClientError):  # an endpoint that is being changed cannot be deleted yet
                sagemaker.delete_endpoint(EndpointName=endpoint["EndpointName"])
        return not left

    until(none_left, "deletion of all endpoints")


@pytest.fixture(scope="module")
def aws(cloud: LocalCloud) -> Callable[..., Any]:
    """`aws("s3")` returns a client with the cloud's own key, `aws("s3", **credentials)` a client with these
    credentials."""
    return functools.cache(functools.partial(client, cloud))


@pytest.fixture
def enforced(cloud: LocalCloud) -> Iterator[None]:
    """IAM is enforced while the test runs."""
    cloud.enforce_iam(True)
    yield
    cloud.enforce_iam(False)


@pytest.fixture(scope="session")
def in_the_clouds_environment() -> Callable[..., subprocess.CompletedProcess[str]]:
    """A function that runs a program with the Python environment of the local cloud's server."""

    def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(envs.environment("cloud")), "-c", program, *arguments],
            cwd=Path(__file__).resolve().parents[2],
            env={"PATH": os.environ["PATH"], "GROUNDPLAN_HOME": str(envs.home())},
            stdout=subprocess.PIPE,
            stderr=sys.stderr,
            text=True,
            timeout=120,
            check=False,
        )

    return run
