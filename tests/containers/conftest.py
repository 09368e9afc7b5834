"""The image as SageMaker runs it, without SageMaker: its package in its own environment, one process per
host at a loopback address of its own, `/opt/ml` in a folder, Snowflake and Secrets Manager on this machine.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
import snowflake.connector
from cryptography.hazmat.primitives import serialization
from snowflake.connector import SnowflakeConnection

from tooling import envs

IMAGE = envs.ROOT / "containers" / "snowflake_xgboost"
REGION = "eu-west-1"
PATIENCE = 120
"""Seconds after which a container that does not end is taken to hang."""

QUICK = {"rounds": "12", "max_depth": "3", "early_stopping_rounds": "0", "nthread": "1", "timeout": "60"}

sys.path.insert(0, str(IMAGE))  # what needs no XGBoost is tested in this process

_networks = itertools.count(random.randrange(1 << 14))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def addresses(count: int) -> list[str]:
    """Loopback addresses that no other job of this session has, in the order of their ranks."""
    network = next(_networks) % (1 << 14)
    return sorted(f"127.{64 + (network >> 8)}.{network & 255}.{host + 1}" for host in range(count))


def wait_until(ready: Any, process: subprocess.Popen, what: str) -> None:
    until = time.monotonic() + PATIENCE
    while not ready():
        assert process.poll() is None, f"{what} ended with {process.returncode}"
        assert time.monotonic() < until, f"{what} did not start"
        time.sleep(0.05)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="session")
def image_python() -> Path:
    """The Python of an environment that holds what the image's requirements say, and nothing else."""
    return envs.build(envs.home() / "envs" / "snowflake_xgboost", IMAGE / "requirements.txt")


@dataclass
class Warehouse:
    """The local Snowflake: what to connect with, and a session to make tables by."""

    credentials: dict[str, Any]
    session: SnowflakeConnection

    def run(self, statement: str, *values: Any) -> list[Any]:
        with self.session.cursor() as cursor:
            return list(cursor.execute(statement, values or None) or [])

    def numbers(self, name: str, rows: int, seed: int = 0, **more: str) -> str:
        """A table of `rows` with features A and B, a target Y that depends on them, and `more` columns
        as SQL expressions over ID."""
        columns = "".join(f", {expression} AS {column}" for column, expression in more.items())
        self.run(
            f"CREATE OR REPLACE TABLE {name} AS SELECT A, B, 3 * A - B * B + A * B AS Y{columns} FROM ("
            f"SELECT SEQ4() AS ID, ((SEQ4() * 7919 + {seed}) % 1009) / 1009::FLOAT AS A, "
            f"((SEQ4() * 104729 + {seed}) % 997) / 997::FLOAT AS B FROM TABLE(GENERATOR(ROWCOUNT => {rows})))"
        )
        return name


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
    own = os.environ | {"TMPDIR": str(home)}  # it leaves the files of its stages there
    process = subprocess.Popen(command, cwd=envs.ROOT, env=own, stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: answers(port), process, "the local Snowflake")
        known = json.loads((home / "connection.json").read_text())
        login = {name: value for name, value in known.items() if name != "private_key"}
        with snowflake.connector.connect(**login) as session:
            yield Warehouse(known, session)
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a container that finds Secrets Manager on this machine."""
    port = free_port()
    settings = {
        "GATEWAY_PORT": str(port),
        "BIND_HOST": "127.0.0.1",
        "IOT_MTLS_ENABLED": "0",
        "STATE_DIR": str(tmp_path_factory.mktemp("ministack")),
    }
    process = subprocess.Popen(
        [str(envs.environment("cloud")), "-m", "ministack.app"],
        env=os.environ | settings,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: answers(port), process, "MiniStack")
        yield {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": REGION,
        }
    finally:
        process.terminate()
        process.wait(10)


@dataclass
class Host:
    """One container: its process, its `/opt/ml`, its log."""

    name: str
    base: Path
    process: subprocess.Popen[str]

    @property
    def log(self) -> str:
        return (self.base / "log").read_text()

    @property
    def failure(self) -> str | None:
        path = self.base / "output" / "failure"
        return path.read_text() if path.exists() else None

    def wait(self) -> int:
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            pytest.fail(f"host {self.name} hangs:\n{self.log[-3000:]}")

    def output(self, stem: str) -> dict[str, Any]:
        return json.loads((self.base / "output/data" / f"{stem}-{self.name}.json").read_text())

    @property
    def rows(self) -> np.ndarray:
        return np.load(self.base / "output/data" / f"rows-{self.name}.npy")


@dataclass
class Job:
    """The hosts of one training job, by rank."""

    hosts: list[Host]
    codes: list[int] = field(default_factory=list)

    @property
    def first(self) -> Host:
        return self.hosts[0]

    def wait(self) -> Job:
        self.codes = [host.wait() for host in self.hosts]
        return self

    def succeeded(self) -> Job:
        self.wait()
        for host, code in zip(self.hosts, self.codes, strict=True):
            assert code == 0, f"{host.failure}\n{host.log[-3000:]}"
            assert host.failure is None
        return self

    def reason(self) -> str:
        """The one reason that all hosts give for the failure of all."""
        self.wait()
        assert all(self.codes), [host.log[-2000:] for host in self.hosts]
        reasons = {host.failure for host in self.hosts}
        assert len(reasons) == 1, reasons
        (reason,) = reasons
        assert reason
        assert "\n" not in reason
        return reason

    def metrics(self) -> dict[str, Any]:
        return json.loads((self.first.base / "model/metrics.json").read_text())

    def preparation(self) -> dict[str, Any]:
        return json.loads((self.first.base / "model/preparation.json").read_text())


class Image:
    """Starts containers. Whatever still runs when the test is over is ended."""

    def __init__(self, python: Path, aws: dict[str, str], folder: Path):
        self.python, self.aws, self.folder = python, aws, folder
        self.processes: list[subprocess.Popen[str]] = []
        self._count = itertools.count()

    def start(self, command: str, base: Path, **env: str) -> subprocess.Popen[str]:
        system = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ}
        with (base / "log").open("a") as log:
            process = subprocess.Popen(
                [str(self.python), "-m", "snowflake_xgboost", command],
                env=system
                | self.aws
                | {"PYTHONPATH": str(IMAGE), "PYTHONUNBUFFERED": "1", "SAGEMAKER_BASE_DIR": str(base)}
                | env,
                cwd=base,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def train(
        self, hyperparameters: dict[str, str], hosts: int = 1, bases: list[Path] | None = None, **env: str
    ) -> Job:
        """Start a job; `bases` are the `/opt/ml` of an earlier one, to go on in."""
        names = addresses(hosts)
        number = next(self._count)
        started = []
        for rank, name in enumerate(names):
            base = bases[rank] if bases else self.folder / f"job-{number}" / str(rank)
            config = base / "input" / "config"
            config.mkdir(parents=True, exist_ok=True)
            (config / "hyperparameters.json").write_text(json.dumps(hyperparameters))
            # SageMaker promises no order
            (config / "resourceconfig.json").write_text(
                json.dumps({"current_host": name, "hosts": names[::-1]})
            )
            started.append(Host(name, base, self.start("train", base, **env)))
        return Job(started)

    def close(self) -> None:
        for process in self.processes:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            process.wait()


@pytest.fixture
def image(image_python: Path, aws: dict[str, str], tmp_path: Path) -> Iterator[Image]:
    made = Image(image_python, aws, tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="session")
def secret(aws: dict[str, str], warehouse: Warehouse) -> str:
    """The name of a secret with a key pair."""
    return keep(aws, "snowflake_credentials", {**warehouse.credentials, "password": ""})


def keep(aws: dict[str, str], name: str, value: Any) -> str:
    client = boto3.client(
        "secretsmanager",
        endpoint_url=aws["AWS_ENDPOINT_URL"],
        region_name=REGION,
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    client.create_secret(Name=name, SecretString=value if isinstance(value, str) else json.dumps(value))
    return name


def encrypted(pem: str, passphrase: str) -> str:
    key = serialization.load_pem_private_key(pem.encode(), None)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(passphrase.encode()),
    ).decode()
