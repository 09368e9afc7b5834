"""The local Snowflake, through the real connector."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from local.cloud import LocalCloud
from tooling import envs

CONNECT = """
import json, pathlib, sys
import snowflake.connector
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
given = json.loads(pathlib.Path(sys.argv[1]).read_text())
def der(key):
    return key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8,
                             serialization.NoEncryption())
def connect(**proof):
    known = {key: value for key, value in given.items() if key not in ("private_key", "password")}
    return snowflake.connector.connect(**known, **proof)
def own_key():
    return der(serialization.load_pem_private_key(given["private_key"].encode(), None))
def other_key():
    return der(rsa.generate_private_key(public_exponent=65537, key_size=2048))
def asked(sql, **proof):
    with connect(**(proof or {"private_key": own_key()})) as connection:
        return connection.cursor().execute(sql).fetchall()
"""


@pytest.fixture
def connector(cloud: LocalCloud) -> Callable[..., str]:
    """Return a function that runs a program in the environment that contains the connector, and returns the
    program's output."""

    def run(program: str, cloud: LocalCloud = cloud) -> str:
        done = subprocess.run(
            [str(envs.environment("snowflake")), "-c", CONNECT + program, str(cloud.snowflake)],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


def test_login_needs_the_users_key_or_password(connector: Callable[..., str]) -> None:
    assert connector("print(asked('SELECT 1', private_key=own_key()))") == "[(1,)]"
    assert connector("print(asked('SELECT 1', password=given['password']))") == "[(1,)]"
    refused = """
for proof in ({"private_key": other_key()}, {"password": "guessed"}):
    try:
        connect(**proof)
    except snowflake.connector.errors.DatabaseError as error:
        print(error.errno)
"""
    assert connector(refused).split() == ["394304", "390100"]


def test_large_result_comes_in_batches_that_workers_can_share(connector: Callable[..., str]) -> None:
    # given a result with more rows than one batch
    program = """
import pickle
with connect(private_key=own_key()) as connection:
    cursor = connection.cursor()
    cursor.execute("SELECT seq4() AS n FROM table(generator(rowcount => 50000))")
    batches = [pickle.loads(pickle.dumps(batch)) for batch in cursor.get_result_batches()]
    numbers = [number for batch in batches for number in batch.to_arrow()["N"].to_pylist()]
    print(len(batches) > 2, sum(batch.rowcount for batch in batches), numbers == list(range(50000)))
"""
    # then each batch can be sent to another process separately, and together the batches are the whole result
    assert connector(program) == "True 50000 True"


def test_tables_survive_a_crash(tmp_path: Path, connector: Callable[..., str]) -> None:
    with LocalCloud(tmp_path / "cloud") as own:
        connector("asked('CREATE TABLE kept (n INT)'); asked('INSERT INTO kept VALUES (1), (2)')", own)
        before = json.loads(own.snowflake.read_text())
        own.kill()
        own.start()
        assert connector("print(asked('SELECT n FROM kept ORDER BY n'))", own) == "[(1,), (2,)]"
        assert json.loads(own.snowflake.read_text()) == before
