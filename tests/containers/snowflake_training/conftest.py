"""The package of the image in its own environment, with a local Snowflake and a local Secrets Manager."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import snowflake.connector

from local.images.build import build
from tests.support.processes import answers, free_port
from tests.support.snowflake_training.image import IMAGE, Image, Warehouse, keep
from tests.support.waiting import until
from tooling import envs
from tooling.containers import CONTAINERS


@pytest.fixture(scope="session")
def image_python() -> Path:
    """Path of the image's Python interpreter. The image is built as by `cdk deploy`."""
    return build(CONTAINERS, IMAGE / "Dockerfile").folder / "env" / "bin" / "python"


@pytest.fixture(scope="session")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    home = tmp_path_factory.mktemp("snowflake")
    command = [
        str(envs.environment("snowflake")),
        "-m",
        "local.snowflake.server",
        "--home",
        str(home / "data"),
    ]
    port = free_port()
    command += ["--credentials", str(home / "connection.json"), "--port", str(port)]
    own = os.environ | {"TMPDIR": str(home)}  # the local Snowflake writes the files of its stages to TMPDIR
    process = subprocess.Popen(command, cwd=envs.ROOT, env=own, stdout=subprocess.DEVNULL)
    try:
        until(lambda: answers(port), "the start of the local Snowflake", process=process)
        known = json.loads((home / "connection.json").read_text())
        login = {name: value for name, value in known.items() if name != "private_key"}
        with snowflake.connector.connect(**login) as session:
            yield Warehouse(known, session)
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def image(image_python: Path, aws: dict[str, str], tmp_path: Path) -> Iterator[Image]:
    made = Image(image_python, aws, tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="session")
def secret(aws: dict[str, str], warehouse: Warehouse) -> str:
    """The name of a secret with Snowflake credentials that have a private key and no password."""
    return keep(aws, "snowflake_credentials", {**warehouse.credentials, "password": ""})
