"""Run the image as SageMaker does, without SageMaker: one process per host, each at its own loopback address,
a folder in place of `/opt/ml`, and Snowflake and Secrets Manager on this machine.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from snowflake.connector import SnowflakeConnection

from tests.support.image_jobs import addresses
from tooling.containers import CONTAINERS, import_path

IMAGE = CONTAINERS / "snowflake_training" / "train_and_serve"
REGION = "eu-west-1"
PATIENCE = 120
"""Seconds after which a container is considered stuck."""

QUICK = {"rounds": "12", "max_depth": "3", "early_stopping_rounds": "0", "nthread": "1", "timeout": "60"}


@dataclass
class Warehouse:
    """The local Snowflake: credentials, and a session to create tables with."""

    credentials: dict[str, Any]
    session: SnowflakeConnection

    def run(self, statement: str, *values: Any) -> list[Any]:
        with self.session.cursor() as cursor:
            return list(cursor.execute(statement, values or None) or [])

    def numbers(self, name: str, rows: int, seed: int = 0, **more: str) -> str:
        """Create a table of `rows` rows, with the features A and B, and with a target Y that depends on these
        features.

        `more` are further columns, as SQL expressions over ID.
        """
        columns = "".join(f", {expression} AS {column}" for column, expression in more.items())
        self.run(
            f"CREATE OR REPLACE TABLE {name} AS SELECT A, B, 3 * A - B * B + A * B AS Y{columns} FROM ("
            f"SELECT SEQ4() AS ID, ((SEQ4() * 7919 + {seed}) % 1009) / 1009::FLOAT AS A, "
            f"((SEQ4() * 104729 + {seed}) % 997) / 997::FLOAT AS B FROM TABLE(GENERATOR(ROWCOUNT => {rows})))"
        )
        return name


@dataclass
class Host:
    """One container: its process, its `/opt/ml` and its log."""

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
        """Return the failure reason, which must be the same on all hosts."""
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
    """Starts containers, and kills those that still run at the end of the test."""

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
                | {"PYTHONPATH": import_path(IMAGE), "PYTHONUNBUFFERED": "1", "SAGEMAKER_BASE_DIR": str(base)}
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
        """Start a job; `bases` are the `/opt/ml` folders of an earlier job, to resume it."""
        names = addresses(hosts)
        number = next(self._count)
        started = []
        for rank, name in enumerate(names):
            base = bases[rank] if bases else self.folder / f"job-{number}" / str(rank)
            config = base / "input" / "config"
            config.mkdir(parents=True, exist_ok=True)
            (config / "hyperparameters.json").write_text(json.dumps(hyperparameters))
            # reversed, because SageMaker does not guarantee the order of the hosts
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
