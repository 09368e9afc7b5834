"""Preprocessing in training and serving: for a table's rows, the endpoint predicts the same as the training's
own code."""

from __future__ import annotations

import csv
import io
import json
import math
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import answers as answering
from tests.support.processes import free_port
from tests.support.snowflake_training.endpoint import Endpoint
from tests.support.snowflake_training.image import IMAGE, QUICK, Image, Warehouse
from tests.support.waiting import until
from tooling.containers import import_path

KINDS = [
    "plain",
    "return\r",
    " lead",
    "tab\t",
    "\u3000ideographic\u00a0",
    "a,b",
    'say "x"',
    "two\nlines",
    "Case",
    "case",
]
BLANKS = [None, "", "   ", "\r\n", "\u2003"]
AMOUNTS = [
    "0", "-0.0", "1.5", "123456789012345678", "9007199254740993", "3.4e38", "-3.4e38", "1e-45", "1e-60",
    "0.1",
]  # fmt: skip

TRAINED = """
import json, sys
import snowflake.connector
from pathlib import Path
from snowflake_xgboost.connection import connect
from snowflake_xgboost.model import Model
from snowflake_xgboost.source import pull, survey

model = Model.load(Path(sys.argv[1]))
connection = connect(json.loads(sys.stdin.read()))
table = survey(connection, "OWN_ROWS", "Y")
found = {}
for batch in pull(connection, table, model.preparation.kinds, model.preparation.split):
    predictions = model.predict(model.preparation.encode(batch.columns))
    found.update(zip(map(int, batch.columns["ID"].to_pylist()), predictions.tolist()))
print(json.dumps(found))
"""
"""Program that prints the predictions of the training's own code for each row of the table."""


@pytest.fixture(scope="module")
def trained(
    image_python: Path,
    aws: dict[str, str],
    warehouse: Warehouse,
    secret: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Image, Path]]:
    """A model of a table with every kind of value that serving could parse differently from training."""
    warehouse.run(
        "CREATE OR REPLACE TABLE OWN_ROWS (ID NUMBER(38, 0), KIND TEXT, AMOUNT FLOAT, WHOLE NUMBER(38, 0), "
        "MONEY NUMBER(20, 4), FLAG BOOLEAN, SINCE DATE, Y FLOAT)"
    )
    for number in range(300):
        kind = BLANKS[number // 13 % len(BLANKS)] if number % 13 == 0 else KINDS[number % len(KINDS)]
        amount = None if number % 17 == 0 else "NaN" if number % 11 == 0 else AMOUNTS[number % len(AMOUNTS)]
        whole = None if number % 19 == 0 else (2**53 + 1) * (number % 7) * 100
        flag = None if number % 5 == 0 else number % 2 == 0
        y = 100 * (number % len(KINDS)) + number % 7 + 10 * (number % 2) + number / 50
        warehouse.run(
            "INSERT INTO OWN_ROWS SELECT %s, %s, %s::FLOAT, %s, %s, %s, DATE '2026-01-01', %s",
            number, kind, amount, whole, number * 1.2345, flag, y,
        )  # fmt: skip
    image = Image(image_python, aws, tmp_path_factory.mktemp("own-rows"))
    given = {**QUICK, "secret": secret, "table": "OWN_ROWS", "target": "Y", "rounds": "60", "eta": "0.3"}
    job = image.train(
        {**given, "colsample_bytree": "1", "max_depth": "6", "min_child_weight": "0"}
    ).succeeded()
    yield image, job.first.base
    image.close()


def cell(value: Any) -> str:
    """Return a value as Python prints it."""
    return "" if value is None else str(value)


def test_own_rows_get_the_predictions_of_the_training(trained: tuple[Image, Path], warehouse: Warehouse):
    # given the predictions that the training code computes for the rows of its table
    image, base = trained
    done = subprocess.run(
        [str(image.python), "-c", TRAINED, str(base / "model")],
        env={"PYTHONPATH": import_path(IMAGE), "PATH": "/usr/bin:/bin"},
        input=json.dumps(warehouse.credentials),
        capture_output=True,
        text=True,
        check=True,
    )
    expected = {int(number): value for number, value in json.loads(done.stdout).items()}
    # and a model that depends on the text column, and has a category for each spelling of its values
    preparation = json.loads((base / "model/preparation.json").read_text())
    assert len(preparation["categories"]["KIND"]) == len(KINDS)
    assert json.loads((base / "model/metrics.json").read_text())["importance"]["KIND"] > 0.3
    assert len(set(expected.values())) > 100
    # when the same rows are sent to the container's server
    port = free_port()
    process = image.start("serve", base, BIND_HOST="127.0.0.1", SAGEMAKER_BIND_TO_PORT=str(port))
    until(lambda: answering(port), "the start of the server", process=process)
    names = [*preparation["kinds"], "SINCE", "Y"]
    rows = [list(row) for row in warehouse.run(f"SELECT {', '.join(names)} FROM OWN_ROWS ORDER BY ID")]
    order = [expected[int(row[0])] for row in rows]
    text = io.StringIO()
    csv.writer(text).writerows([names, *[[cell(value) for value in row] for row in rows]])
    endpoint = Endpoint(port)
    # then the predictions for CSV and JSON are identical to those of the training
    assert endpoint.csv(text.getvalue()) == order
    plain = [
        {name: float(value) if name in ("MONEY", "WHOLE", "ID") and value is not None else value
         for name, value in zip(names, [*row[:-2], None, row[-1]], strict=True)}
        for row in rows
    ]  # fmt: skip
    assert any(isinstance(value, float) and math.isnan(value) for row in plain for value in row.values())
    assert endpoint.json(plain) == order
