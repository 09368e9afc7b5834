"""The runs of all sweeps of an experiment, as Arrow tables.

runs(bucket, "default").to_pandas()      # a DataFrame, the best validation accuracy first
epochs(bucket, "default").to_pandas()    # a row for each epoch of each run
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from scenarios.aws import client

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

RUNS = "runs.csv"
TEXTS = ("cell", "strategy", "job", "labels", "data")
"""Columns that are read as text. Otherwise a digest without letters would be read as a number."""


def runs(bucket: str, experiment: str) -> pa.Table:
    """Return a row for each run, the highest `best_validation_accuracy` first.

    `sweep` is the id of the sweep. Raises `LookupError` if the experiment has no results.
    """
    types = {name: pa.string() for name in TEXTS}
    options = pyarrow.csv.ConvertOptions(column_types=types)
    found = [
        _of(sweep, pyarrow.csv.read_csv(io.BytesIO(body), convert_options=options))
        for sweep, name, body in _files(bucket, experiment)
        if name == RUNS and body
    ]
    return _joined(found, experiment).sort_by([("best_validation_accuracy", "descending")])


def epochs(bucket: str, experiment: str) -> pa.Table:
    """Return a row for each epoch of each run: losses, accuracies, seconds of training and of selection.

    `sweep` is the id of the sweep, `cell` the id of the job. Raises `LookupError` if the experiment has no
    results.
    """
    found = []
    for sweep, name, body in _files(bucket, experiment):
        if name.startswith("epochs/") and name.endswith(".parquet"):
            table = pyarrow.parquet.read_table(io.BytesIO(body))
            cell = name.removeprefix("epochs/").removesuffix(".parquet")
            found.append(_of(sweep, table.append_column("cell", pa.array([cell] * table.num_rows))))
    return _joined(found, experiment)


def _files(bucket: str, experiment: str) -> Iterator[tuple[str, str, bytes]]:
    """Yield for each file of runs or epochs: its sweep's id, its name in the sweep's folder, its content."""
    s3: S3Client = client("s3")
    prefix = f"sweeps/{experiment}/"
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for item in page.get("Contents", []):
            key = item.get("Key", "")
            sweep, _, name = key.removeprefix(prefix).partition("/")
            if name == RUNS or name.startswith("epochs/"):
                with s3.get_object(Bucket=bucket, Key=key)["Body"] as body:
                    yield sweep, name, body.read()


def _of(sweep: str, table: pa.Table) -> pa.Table:
    return table.append_column("sweep", pa.array([sweep] * table.num_rows))


def _joined(tables: list[pa.Table], experiment: str) -> pa.Table:
    if not tables:
        raise LookupError(f"experiment {experiment} has no results")
    return pa.concat_tables(tables, promote_options="default")
