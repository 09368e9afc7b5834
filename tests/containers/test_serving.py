"""What a caller of the endpoint relies on: rows in as CSV or JSON, a prediction for each, or why not."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import QUICK, Image, Warehouse, answers, free_port, wait_until

HEADING = "LAT,LON,KIND,OPEN,ROOMS"
ROWS = [
    [1.5, 2.5, "coast", True, 4.0],
    [3.0, 0.1, "inland", False, None],
    [0.2, 3.3, None, True, 11.0],
    [2.2, 1.1, "never seen", None, 0.0],
]


class Endpoint:
    def __init__(self, port: int):
        self.port = port

    def ask(self, body: str | bytes, **headers: str) -> tuple[int, str, str]:
        """Status, content type and body of the answer; `content_type` and `accept` become headers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        named = {name.replace("_", "-").title(): value for name, value in headers.items()}
        connection.request("POST", "/invocations", body.encode() if isinstance(body, str) else body, named)
        answer = connection.getresponse()
        found = answer.status, answer.headers.get_content_type(), answer.read().decode()
        connection.close()
        return found

    def csv(self, body: str, **headers: str) -> list[float]:
        status, kind, text = self.ask(body, content_type="text/csv", **headers)
        assert (status, kind) == (200, "text/csv"), text
        return [float(line) for line in text.splitlines()]

    def json(self, rows: list[Any]) -> list[float]:
        status, kind, text = self.ask(json.dumps({"instances": rows}), content_type="application/json")
        assert (status, kind) == (200, "application/json"), text
        return json.loads(text)["predictions"]

    def refusal(self, body: str | bytes, status: int = 400, **headers: str) -> str:
        found, kind, text = self.ask(body, **({"content_type": "text/csv"} | headers))
        assert (found, kind) == (status, "application/json")
        return json.loads(text)["error"]


@pytest.fixture(scope="module")
def model(
    image_python: Path,
    aws: dict[str, str],
    warehouse: Warehouse,
    secret: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Image, Path]]:
    """The `/opt/ml` of a job that trained on numbers, text, booleans and a place."""
    warehouse.run(
        "CREATE OR REPLACE TABLE SERVED AS SELECT SEQ4() % 40 / 10::FLOAT AS LAT, "
        "SEQ4() % 39 / 10::FLOAT AS LON, "
        "CASE SEQ4() % 3 WHEN 0 THEN 'inland' ELSE 'coast' END AS KIND, SEQ4() % 2 = 0 AS OPEN, "
        "CASE WHEN SEQ4() % 10 = 0 THEN NULL ELSE SEQ4() % 17 END AS ROOMS, 'house ' || SEQ4() AS NAME, "
        "SEQ4() % 40 + SEQ4() % 39 + 10 * (SEQ4() % 3) + SEQ4() % 17 AS PRICE "
        "FROM TABLE(GENERATOR(ROWCOUNT => 2000))"
    )
    made = Image(image_python, aws, tmp_path_factory.mktemp("serving"))
    given = {**QUICK, "secret": secret, "table": "SERVED", "target": "PRICE", "rounds": "40"}
    job = made.train({**given, "coordinates": "LAT,LON"}).succeeded()
    yield made, job.first.base
    made.close()


@pytest.fixture(scope="module")
def endpoint(model: tuple[Image, Path]) -> Endpoint:
    image, base = model
    port = free_port()
    process = image.start("serve", base, BIND_HOST="127.0.0.1", SAGEMAKER_BIND_TO_PORT=str(port))
    wait_until(lambda: answers(port), process, "serve")
    return Endpoint(port)


def cell(value: Any) -> str:
    return "" if value is None else str(value)


def lines(rows: list[list[Any]]) -> str:
    return "\n".join(",".join(map(cell, row)) for row in rows) + "\n"


def test_it_says_that_it_is_ready(endpoint: Endpoint):
    connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=20)
    connection.request("GET", "/ping")
    assert connection.getresponse().status == 200


def test_the_columns_in_order_are_written_down(model: tuple[Image, Path]):
    kinds = json.loads((model[1] / "model/preparation.json").read_text())["kinds"]
    assert ",".join(kinds) == HEADING


def test_every_way_to_send_rows_gives_the_same_predictions(endpoint: Endpoint):
    expected = endpoint.csv(lines(ROWS))
    assert len(expected) == len(ROWS)
    assert len(set(expected)) > 1
    names = HEADING.split(",")
    named = [dict(zip(names, row, strict=True)) for row in ROWS]
    assert endpoint.csv(HEADING + "\n" + lines(ROWS)) == expected
    assert endpoint.csv("\ufeff" + HEADING.lower() + "\r\n" + lines(ROWS).replace("\n", "\r\n")) == expected
    assert endpoint.csv(",".join(names[::-1]) + "\n" + lines([row[::-1] for row in ROWS])) == expected
    # columns of the table that the model does not use may come along, the target among them
    more = [[*row, "house 1", 12] for row in ROWS]
    assert endpoint.csv(HEADING + ",NAME,PRICE\n" + lines(more)) == expected
    assert endpoint.json(ROWS) == pytest.approx(expected)
    assert endpoint.json(named) == pytest.approx(expected)
    assert endpoint.json([dict(reversed(row.items())) for row in named]) == pytest.approx(expected)
    # one at a time or all at once
    assert [endpoint.csv(lines([row]))[0] for row in ROWS] == expected


def test_predictions_are_those_of_the_training(endpoint: Endpoint, warehouse: Warehouse):
    """A row of the table, sent as it stands there, is predicted close to its target."""
    rows = warehouse.run(f"SELECT {HEADING}, PRICE FROM SERVED ORDER BY LAT, LON, ROOMS LIMIT 500")
    found = endpoint.csv(lines([list(row[:-1]) for row in rows]))
    errors = [prediction - float(row[-1]) for prediction, row in zip(found, rows, strict=True)]
    spread = max(float(row[-1]) for row in rows) - min(float(row[-1]) for row in rows)
    assert (sum(error**2 for error in errors) / len(errors)) ** 0.5 < 0.2 * spread


def test_a_blank_and_text_never_seen_are_a_blank(endpoint: Endpoint):
    unknown, blank, spaces = ([[1.0, 1.0, kind, True, 3.0]] for kind in ("atlantis", None, "  "))
    assert endpoint.csv(lines(unknown)) == endpoint.csv(lines(blank)) == endpoint.csv(lines(spaces))


def test_a_large_batch_is_answered_row_by_row(endpoint: Endpoint):
    expected = endpoint.csv(lines(ROWS))
    assert endpoint.csv(lines(ROWS * 5000)) == expected * 5000


def test_predictions_come_as_the_caller_accepts_them(endpoint: Endpoint):
    rows = lines(ROWS)
    for accept, kind in {
        "application/json": "application/json",
        "text/csv": "text/csv",
        "*/*": "text/csv",  # as the rows came
        "text/*;q=0.5, application/json": "application/json",
    }.items():
        status, found, _ = endpoint.ask(rows, content_type="text/csv", accept=accept)
        assert (status, found) == (200, kind), accept
    body = json.dumps({"instances": ROWS})
    assert endpoint.ask(body, content_type="application/json", accept="text/csv")[1] == "text/csv"
    assert endpoint.ask(rows)[:2] == (200, "text/csv")  # no content type
    assert endpoint.ask(rows, content_type="text/csv; charset=utf-8")[0] == 200
    assert "image/png" in endpoint.refusal(rows, 406, accept="image/png")


def test_another_content_type_is_refused(endpoint: Endpoint):
    for kind in ("application/x-npy", "text/libsvm", "image/png"):
        assert endpoint.refusal("x", 415, content_type=kind).startswith(f"content type {kind} is not")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("", "the body has no rows"),
        (HEADING, "the body has no rows"),
        ("1,2,coast,true\n", "row 1 has 4 values where 5 are expected"),
        ("1,2,coast,true,3\n1,2\n", "row 2 has 2 values where 5 are expected"),
        ("1,2,coast,true,3\n\n1,2,coast,true,3", "row 2 has 1 value"),
        ("1,2,coast,true,3\n1,east,coast,true,3", "row 2, column LON: 'east' is not a number"),
        ("1,2,coast,maybe,3", "row 1, column OPEN: 'maybe' is not"),
        ("1,inf,coast,true,3", "row 1, column LON: 'inf' is not a number that can be used"),
        ("nan,2,coast,true,3", "row 1, column LAT: 'nan' is not a number that can be used"),
        ("1,1e300,coast,true,3", "row 1, column LON: '1e300' is not a number that can be used"),
        ("LAT,LON,KIND,OPEN\n1,2,coast,true", "the heading lacks ROOMS"),
        ("LAT,LON,KIND,OPEN,ROMS\n1,2,coast,true,3", "the heading names 'ROMS', which is no column"),
        ("LAT,LON,KIND,OPEN,LAT,ROOMS\n1,2,coast,true,3,4", "the heading names LAT twice"),
        (HEADING + '\n1,2,"coast,true,3', "the body is not CSV in UTF-8"),
        (b"1,2,\xff\xfe,true,3", "the body is not CSV in UTF-8"),
    ],
)
def test_a_bad_line_is_named(endpoint: Endpoint, body: str | bytes, reason: str):
    assert endpoint.refusal(body).startswith(reason)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("{", "the body is not JSON"),
        ("[" * 100_000, "the body is not JSON"),
        ("[[1, 2]]", 'the body is not {"instances": [row, ...]}'),
        ('{"rows": []}', 'the body is not {"instances": [row, ...]}'),
        ('{"instances": []}', "the body has no rows"),
        ('{"instances": [[1, 2, "coast", true, 3], 7]}', "row 2 is neither a list nor an object"),
        ('{"instances": [[1, 2, "coast"]]}', "row 1 has 3 values where 5 are expected"),
        ('{"instances": [[1, [2], "coast", true, 3]]}', "row 1, column LON: [2] is not a number"),
        ('{"instances": [[1, true, "coast", true, 3]]}', "row 1, column LON: True is not a number"),
        ('{"instances": [[1, 2, 3, true, 3]]}', "row 1, column KIND: 3 is not text"),
        ('{"instances": [[1, 2, "\\ud800", true, 3]]}', "row 1, column KIND: '\\ud800' is not text"),
        ('{"instances": [[1, NaN, "coast", true, 3]]}', "row 1, column LON: nan is not a number"),
        ('{"instances": [{"LAT": 1, "LON": 2, "KIND": "coast", "OPEN": true}]}', "row 1 lacks ROOMS"),
        ('{"instances": [{"LAT": 1, "NO": 2}]}', "row 1 names 'NO', which is no column of the model"),
    ],
)
def test_a_bad_instance_is_named(endpoint: Endpoint, body: str, reason: str):
    assert endpoint.refusal(body, content_type="application/json").startswith(reason)


def test_it_goes_on_after_bad_requests(endpoint: Endpoint):
    expected = endpoint.csv(lines(ROWS))
    for _ in range(20):
        endpoint.refusal("x,y\n")
    assert endpoint.csv(lines(ROWS)) == expected


def test_sigterm_ends_it_cleanly(model: tuple[Image, Path]):
    image, base = model
    port = free_port()
    process = image.start("serve", base, BIND_HOST="127.0.0.1", SAGEMAKER_BIND_TO_PORT=str(port))
    wait_until(lambda: answers(port), process, "serve")
    assert Endpoint(port).csv(lines(ROWS))
    process.terminate()
    assert process.wait(20) == 0


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({}, "model holds no preparation.json: it is not a model of this container"),
        ({"preparation.json": '{"table": "HOMES"}'}, "model's preparation.json is not of this container"),
        ({"preparation.json": "{"}, "model's preparation.json is not of this container"),
    ],
)
def test_what_is_no_model_is_not_served(image: Image, tmp_path: Path, files: dict[str, str], reason: str):
    base = tmp_path / "ml"
    (base / "model").mkdir(parents=True)
    for name, content in files.items():
        (base / "model" / name).write_text(content)
    process = image.start("serve", base, BIND_HOST="127.0.0.1", SAGEMAKER_BIND_TO_PORT=str(free_port()))
    assert process.wait(30) == 1
    (line,) = (base / "log").read_text().splitlines()
    assert line == f"failed: {reason}"
