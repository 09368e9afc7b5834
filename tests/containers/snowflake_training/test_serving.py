"""The endpoint: rows as CSV or JSON, a prediction for each, and refusals with a reason."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, as_completed, wait
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import answers, children, ended, free_port
from tests.support.snowflake_training.endpoint import Endpoint
from tests.support.snowflake_training.image import PATIENCE, QUICK, Image, Warehouse
from tests.support.waiting import until

HEADING = "LAT,LON,KIND,OPEN,ROOMS"
ROWS = [
    [1.5, 2.5, "coast", True, 4.0],
    [3.0, 0.1, "inland", False, None],
    [0.2, 3.3, None, True, 11.0],
    [2.2, 1.1, "never seen", None, 0.0],
]


@pytest.fixture(scope="module")
def model(
    image_python: Path,
    aws: dict[str, str],
    warehouse: Warehouse,
    secret: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Image, Path]]:
    """The `/opt/ml` of a job that trained on numbers, text, booleans and coordinates."""
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
    until(lambda: answers(port), "the start of the server", process=process)
    return Endpoint(port)


def cell(value: Any) -> str:
    return "" if value is None else str(value)


def lines(rows: list[list[Any]]) -> str:
    return "\n".join(",".join(map(cell, row)) for row in rows) + "\n"


def test_ping_returns_200(endpoint: Endpoint):
    connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=20)
    connection.request("GET", "/ping")
    assert connection.getresponse().status == 200


@pytest.mark.parametrize("sign", [{"Origin": "http://page.example"}, {"Sec-Fetch-Site": "cross-site"}])
def test_request_of_a_web_page_is_refused(endpoint: Endpoint, sign: dict[str, str]):
    connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=20)
    connection.request("POST", "/invocations", lines(ROWS), {"Content-Type": "text/csv", **sign})
    assert connection.getresponse().status == 403


def test_preparation_file_has_the_columns_in_order(model: tuple[Image, Path]):
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
    # requests may have columns that the model does not use, such as the target
    more = [[*row, "house 1", 12] for row in ROWS]
    assert endpoint.csv(HEADING + ",NAME,PRICE\n" + lines(more)) == expected
    assert endpoint.json(ROWS) == pytest.approx(expected)
    assert endpoint.json(named) == pytest.approx(expected)
    assert endpoint.json([dict(reversed(row.items())) for row in named]) == pytest.approx(expected)
    # a request for one row gets the same prediction as a request for all rows
    assert [endpoint.csv(lines([row]))[0] for row in ROWS] == expected


def test_predictions_are_those_of_the_training(endpoint: Endpoint, warehouse: Warehouse):
    """The prediction of a row of the table is close to its target."""
    rows = warehouse.run(f"SELECT {HEADING}, PRICE FROM SERVED ORDER BY LAT, LON, ROOMS LIMIT 500")
    found = endpoint.csv(lines([list(row[:-1]) for row in rows]))
    errors = [prediction - float(row[-1]) for prediction, row in zip(found, rows, strict=True)]
    spread = max(float(row[-1]) for row in rows) - min(float(row[-1]) for row in rows)
    assert (sum(error**2 for error in errors) / len(errors)) ** 0.5 < 0.2 * spread


def test_unknown_category_and_blank_text_are_missing_values(endpoint: Endpoint):
    unknown, blank, spaces = ([[1.0, 1.0, kind, True, 3.0]] for kind in ("atlantis", None, "  "))
    assert endpoint.csv(lines(unknown)) == endpoint.csv(lines(blank)) == endpoint.csv(lines(spaces))


@pytest.mark.parametrize("missing", ["", " ", "nan", "NaN", "-NAN", "\u00a0"])
def test_nan_is_a_missing_number_as_in_training(endpoint: Endpoint, missing: str):
    expected = endpoint.json([[1.0, 1.0, "coast", True, None]])
    assert endpoint.csv(f"1.0,1.0,coast,true,{missing}") == expected
    assert endpoint.json([[1.0, 1.0, "coast", True, missing]]) == expected
    assert endpoint.json([[1.0, 1.0, "coast", True, float("nan")]]) == expected
    without_text = endpoint.json([[1.0, 1.0, None, True, 3]])
    assert endpoint.json([[1.0, 1.0, float("nan"), True, 3]]) == without_text


def test_numbers_sent_as_json_or_text_are_the_same(endpoint: Endpoint):
    large = 2**60 + 1
    assert endpoint.json([[large, 1, "coast", 1, 3]]) == endpoint.csv(f"{large},+1.,coast,TRUE,03")
    assert endpoint.json([["5", 1, "coast", "False", 3], [5, "1e0", "coast", 0, 3]]) == endpoint.csv(
        "5,1,coast,false,3\n5,1,coast,0.0,3"
    )


def test_large_batch_is_answered_row_by_row(endpoint: Endpoint):
    expected = endpoint.csv(lines(ROWS))
    assert endpoint.csv(lines(ROWS * 5000)) == expected * 5000


def test_predictions_have_the_accepted_content_type(endpoint: Endpoint):
    rows = lines(ROWS)
    for accept, kind in {
        "application/json": "application/json",
        "text/csv": "text/csv",
        "*/*": "text/csv",  # the content type of the request
        "text/*;q=0.5, application/json": "application/json",
    }.items():
        status, found, _ = endpoint.ask(rows, content_type="text/csv", accept=accept)
        assert (status, found) == (200, kind), accept
    body = json.dumps({"instances": ROWS})
    assert endpoint.ask(body, content_type="application/json", accept="text/csv")[1] == "text/csv"
    assert endpoint.ask(rows)[:2] == (200, "text/csv")  # the request has no content type
    assert endpoint.ask(rows, content_type="text/csv; charset=utf-8")[0] == 200
    assert "image/png" in endpoint.refusal(rows, 406, accept="image/png")


def test_another_content_type_is_refused(endpoint: Endpoint):
    for kind in ("application/x-npy", "text/libsvm", "image/png"):
        reason = f"content type must be text/csv or application/json, got {kind}"
        assert endpoint.refusal("x", 415, content_type=kind) == reason


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
        ("1,2,coast,7,3", "row 1, column OPEN: '7' is not true or false"),
        ("1,inf,coast,true,3", "row 1, column LON: 'inf' is not a number"),
        ("1,-Infinity,coast,true,3", "row 1, column LON: '-Infinity' is not a number"),
        ('1,"1,000",coast,true,3', "row 1, column LON: '1,000' is not a number"),
        ("1,1_000,coast,true,3", "row 1, column LON: '1_000' is not a number"),
        ("1,\uff11,coast,true,3", "row 1, column LON: '\uff11' is not a number"),
        ("1,0x10,coast,true,3", "row 1, column LON: '0x10' is not a number"),
        ("1,\\N,coast,true,3", "row 1, column LON: '\\\\N' is not a number"),
        (
            "1,2,coast,true,3\n1,1e300,coast,true,3",
            "row 2, column LON: '1e300' is not a finite number of at most",
        ),
        ("1,3.41e38,coast,true,3", "row 1, column LON: '3.41e38' is not a finite number of at most 3.4e38"),
        ("LAT,LON,KIND,OPEN\n1,2,coast,true", "the heading lacks ROOMS"),
        ("LAT,LON,KIND,OPEN,ROMS\n1,2,coast,true,3", "the heading names 'ROMS', which is not a column"),
        ("LAT,LON,KIND,OPEN,LAT,ROOMS\n1,2,coast,true,3,4", "the heading names LAT twice"),
        (HEADING + '\n1,2,"coast,true,3', "the body is not CSV in UTF-8"),
        (b"1,2,\xff\xfe,true,3", "the body is not CSV in UTF-8"),
    ],
)
def test_bad_line_is_named(endpoint: Endpoint, body: str | bytes, reason: str):
    assert endpoint.refusal(body).startswith(reason)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("{", "the body is not JSON"),
        ("[" * 100_000, "the body is not JSON"),
        ("[[1, 2]]", 'the body must be {"instances": [row, ...]}'),
        ('{"rows": []}', 'the body must be {"instances": [row, ...]}'),
        ('{"instances": []}', "the body has no rows"),
        ('{"instances": [[1, 2, "coast", true, 3], 7]}', "row 2 must be a list or an object"),
        ('{"instances": [[1, 2, "coast"]]}', "row 1 has 3 values where 5 are expected"),
        ('{"instances": [[1, [2], "coast", true, 3]]}', "row 1, column LON: [2] is not a number"),
        ('{"instances": [[1, true, "coast", true, 3]]}', "row 1, column LON: True is not a number"),
        ('{"instances": [[1, 2, 3, true, 3]]}', "row 1, column KIND: 3 is not text"),
        ('{"instances": [[1, 2, "\\ud800", true, 3]]}', "row 1, column KIND: '\\ud800' is not text"),
        ('{"instances": [[1, "x", "coast", true, 3]]}', "row 1, column LON: 'x' is not a number"),
        ('{"instances": [[1, Infinity, "coast", true, 3]]}', "row 1, column LON: inf is not a finite number"),
        ('{"instances": [[1, 1%s, "coast", true, 3]]}' % ("0" * 400), "row 1, column LON: 1000"),
        ('{"instances": [[1, 2, "coast", 7, 3]]}', "row 1, column OPEN: 7 is not true or false"),
        ('{"instances": [[1, 2, "coast", {}, 3]]}', "row 1, column OPEN: {} is not true or false"),
        ('{"instances": [{"LAT": 1, "LON": 2, "KIND": "coast", "OPEN": true}]}', "row 1 lacks ROOMS"),
        ('{"instances": [{"LAT": 1, "NO": 2}]}', "row 1 names 'NO', which is not a column of the model"),
    ],
)
def test_bad_instance_is_named(endpoint: Endpoint, body: str, reason: str):
    assert endpoint.refusal(body, content_type="application/json").startswith(reason)


def test_server_answers_after_invalid_requests(endpoint: Endpoint):
    expected = endpoint.csv(lines(ROWS))
    for _ in range(20):
        endpoint.refusal("x,y\n")
    assert endpoint.csv(lines(ROWS)) == expected


@pytest.fixture
def server(model: tuple[Image, Path]) -> Iterator[tuple[Endpoint, subprocess.Popen[str], list[int]]]:
    """A separate server, its process, and the processes of its workers."""
    image, base = model
    port = free_port()
    process = image.start(
        "serve",
        base,
        BIND_HOST="127.0.0.1",
        SAGEMAKER_BIND_TO_PORT=str(port),
        SAGEMAKER_MODEL_SERVER_WORKERS="2",
    )
    until(lambda: answers(port), "the start of the server", process=process)
    yield Endpoint(port), process, children(process.pid)
    if process.poll() is None:
        process.terminate()
        process.wait(20)


def ping(endpoint: Endpoint) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=20)
    connection.request("GET", "/ping")
    status = connection.getresponse().status
    connection.close()
    return status


def test_ping_is_answered_while_all_workers_are_busy(server):
    endpoint, _, workers = server
    # given suspended workers (SIGSTOP), four requests of 6 MB, and 70 small requests
    expected = endpoint.csv(lines(ROWS))
    body = lines(ROWS * 80_000)
    assert len(body) > 6 * 2**20
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    with ThreadPoolExecutor(80) as pool:
        there = threading.Semaphore(0)
        large = [pool.submit(endpoint.ask, body, 120, there.release) for _ in range(4)]
        for _ in large:
            assert there.acquire(timeout=60)
        small = [pool.submit(endpoint.ask, lines(ROWS), timeout=120) for _ in range(70)]
        # when the server refuses further requests
        arriving = as_completed([*large, *small], timeout=60)
        # of 74 concurrent requests, 64 are accepted
        assert [next(arriving).result()[0] for _ in range(10)] == [503] * 10
        # then /ping is still answered
        assert [ping(endpoint) for _ in range(5)] == [200] * 5
        # and once the workers continue, every accepted request is answered
        for worker in workers:
            os.kill(worker, signal.SIGCONT)
        answers = [request.result() for request in [*large, *small]]
    sizes = [80_000] * len(large) + [1] * len(small)
    taken = [(text, size) for (status, _, text), size in zip(answers, sizes, strict=True) if status == 200]
    assert len(taken) == 64
    for text, size in taken:
        assert [float(line) for line in text.splitlines()] == expected * size


@pytest.mark.parametrize("moment", ["before a request", "during a request"])
def test_server_ends_when_a_worker_is_lost(server, model: tuple[Image, Path], moment: str):
    endpoint, process, workers = server
    # given a server of two workers, of which one was killed
    with ThreadPoolExecutor() as pool:
        if moment == "before a request":
            os.kill(workers[0], signal.SIGKILL)
            until(lambda: ended(workers[0]), "the worker's end")
        else:
            os.kill(workers[0], signal.SIGSTOP)
        asked = [pool.submit(endpoint.ask, lines(ROWS)) for _ in workers]
        if moment == "during a request":
            wait(asked, return_when=FIRST_COMPLETED)  # the other worker answers
            os.kill(workers[0], signal.SIGKILL)
        # then the server exits with a logged reason, and does not continue with the other worker
        assert process.wait(20) == 1
    assert (model[1] / "log").read_text().splitlines()[-1] == "ERROR a worker process ended with code -9"


def test_workers_end_with_their_server(server):
    _, process, workers = server
    process.kill()
    process.wait()
    until = time.monotonic() + PATIENCE
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < until
        time.sleep(0.05)


def test_server_exits_with_0_on_sigterm(model: tuple[Image, Path]):
    image, base = model
    port = free_port()
    process = image.start("serve", base, BIND_HOST="127.0.0.1", SAGEMAKER_BIND_TO_PORT=str(port))
    until(lambda: answers(port), "the start of the server", process=process)
    assert Endpoint(port).csv(lines(ROWS))
    process.terminate()
    assert process.wait(20) == 0


STRANGE = "preparation.json in folder model must be written by this container"


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({}, "folder model must have a model of this container, but has no preparation.json"),
        ({"preparation.json": '{"table": "HOMES"}'}, STRANGE),
        ({"preparation.json": "{"}, STRANGE),
    ],
)
def test_server_without_a_valid_model_exits_with_the_reason(
    image: Image, tmp_path: Path, files: dict[str, str], reason: str
):
    base = tmp_path / "ml"
    (base / "model").mkdir(parents=True)
    for name, content in files.items():
        (base / "model" / name).write_text(content)
    process = image.start("serve", base, BIND_HOST="127.0.0.1", SAGEMAKER_BIND_TO_PORT=str(free_port()))
    assert process.wait(30) == 1
    (line,) = (base / "log").read_text().splitlines()
    assert line == f"ERROR {reason}"
