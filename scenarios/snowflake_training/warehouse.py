"""Snowflake: the user's connection, and the scenario's table."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import snowflake.connector
from cryptography.hazmat.primitives import serialization

from scenarios import ScenarioError
from scenarios.data import Table

REQUIRED = ("account", "user", "warehouse", "database", "schema")


def connection() -> dict[str, Any]:
    """Return the connection in the file named by `GROUNDPLAN_SNOWFLAKE`, in the format of the stack's secret.

    Raises `ScenarioError` if the file is missing or lacks a field. No message contains a value of the
    connection.
    """
    name = os.environ.get("GROUNDPLAN_SNOWFLAKE")
    if not name:
        raise ScenarioError("set GROUNDPLAN_SNOWFLAKE to a JSON file with the connection to Snowflake")
    try:
        found = json.loads(Path(name).read_text())
    except OSError:
        raise ScenarioError(f"the file named by GROUNDPLAN_SNOWFLAKE cannot be read: {name}") from None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ScenarioError(f"the file named by GROUNDPLAN_SNOWFLAKE is not a JSON object: {name}")
    missing = [field for field in REQUIRED if not found.get(field)]
    if not found.get("private_key") and not found.get("password"):
        missing.append("private_key")
    if missing:
        raise ScenarioError(f"the connection in {name} lacks {', '.join(missing)}")
    return found


def connect(values: dict[str, Any]) -> snowflake.connector.SnowflakeConnection:
    """Connect with the key pair, or with the password if there is no key."""
    values = dict(values)
    pem, passphrase = values.pop("private_key", None), values.pop("private_key_passphrase", None)
    if pem:
        key = serialization.load_pem_private_key(pem.encode(), passphrase.encode() if passphrase else None)
        values.pop("password", None)
        values["private_key"] = key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    return snowflake.connector.connect(**values)


def load(values: dict[str, Any], table: Table) -> int:
    """Replace the table in Snowflake by `table`'s rows. Return their number in Snowflake.

    The rows are loaded as one Parquet file through a stage into an auxiliary table, from which the table is
    then replaced in a single step, so that readers never see only a part of the rows. The stage has a random
    name, because concurrent loads must not read each other's file. Raises `ScenarioError` if the number of
    rows differs.
    """
    token = secrets.token_hex(6)
    name, fresh, stage = quoted(table.name), quoted(f"{table.name}_{token}"), f"groundplan_load_{token}"
    with connect(values) as session, session.cursor() as cursor, tempfile.TemporaryDirectory() as folder:
        cursor.execute(f"CREATE OR REPLACE TABLE {fresh} ({declaration(table.rows)})")
        cursor.execute(f"CREATE OR REPLACE TEMPORARY STAGE {stage}")
        path = Path(folder, "rows.parquet")
        pyarrow.parquet.write_table(table.rows, path)
        cursor.execute(f"PUT 'file://{path}' @{stage} AUTO_COMPRESS=FALSE")
        cursor.execute(
            f"COPY INTO {fresh} FROM @{stage}/{path.name} FILE_FORMAT=(TYPE=PARQUET) "
            "MATCH_BY_COLUMN_NAME=CASE_INSENSITIVE"
        )
        cursor.execute(f"CREATE OR REPLACE TABLE {name} AS SELECT * FROM {fresh}")  # noqa: S608
        cursor.execute(f"DROP TABLE {fresh}")
        cursor.execute(f"SELECT COUNT(*) FROM {name}")  # noqa: S608
        ((count,),) = cursor.fetchall()
    if count != table.rows.num_rows:
        raise ScenarioError(
            f"{table.name} has {count} rows in Snowflake, but {table.rows.num_rows} were loaded"
        )
    return count


def declaration(rows: pa.Table) -> str:
    """Return the columns of a CREATE TABLE. Names are quoted, as a name may be an SQL keyword."""
    kinds = {True: "VARCHAR", False: "DOUBLE"}
    return ", ".join(f"{quoted(field.name)} {kinds[pa.types.is_string(field.type)]}" for field in rows.schema)


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def hashed(values: dict[str, Any], table: Table, row_hash: str) -> tuple[np.ndarray, pa.Table]:
    """Return the hashes of the table's rows in Snowflake, int64 (rows,), and the rows in the same order.

    `row_hash` is the SQL of a row's hash. A float64 is read exactly as it was written.
    """
    names = table.rows.column_names
    columns = ", ".join(map(quoted, names))
    with connect(values) as session, session.cursor() as cursor:
        cursor.execute(f"SELECT {row_hash}, {columns} FROM {quoted(table.name)}")  # noqa: S608
        hashes, *found = zip(*cursor.fetchall(), strict=True)
    arrays = [pa.array(column, field.type) for column, field in zip(found, table.rows.schema, strict=True)]
    return np.array(hashes, dtype=np.int64), pa.table(arrays, names=names)
