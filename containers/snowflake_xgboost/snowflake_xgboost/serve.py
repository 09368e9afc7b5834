"""The model behind HTTP, as SageMaker's hosting and batch transform ask: `/ping` and `/invocations`.

In: `text/csv`, a row a line, its cells in the order of `preparation.json` or below a heading of column
names; or `application/json`, `{"instances": [[...], {"COLUMN": value, ...}, ...]}`. An empty cell, or null,
is a blank. Out: a prediction a row, as CSV or `{"predictions": [...]}`, whichever `Accept` asks for, else
as the rows came.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import sys
from typing import Any

import pyarrow as pa
from flask import Flask, Response, request
from waitress.server import create_server

from . import sagemaker
from .failure import Failure
from .model import Model
from .preparation import Preparation

LARGEST = 100 * 2**20
"""Bytes of one request; SageMaker's own limits are lower but for batch transform."""

CSV, JSON = "text/csv", "application/json"


class BadRequest(Exception):
    """Its text says which row and column, and what is wrong."""


def application(model: Model) -> Flask:
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = LARGEST

    @app.get("/ping")
    def ping() -> Response:
        return Response(status=200)

    @app.post("/invocations")
    def invocations() -> Response:
        readers = {CSV: from_csv, JSON: from_json}
        kind = request.mimetype or CSV
        if kind not in readers:
            return _refusal(415, f"content type {kind} is not {CSV} or {JSON}")
        answer = request.accept_mimetypes.best_match([kind, *readers]) if request.accept_mimetypes else kind
        if answer is None:
            return _refusal(406, f"predictions come as {CSV} or {JSON}, not {request.accept_mimetypes}")
        try:
            rows = readers[kind](request.get_data(), model.preparation)
            predictions = model.predict(model.preparation.encode(rows)).tolist()
        except (BadRequest, Failure) as problem:
            return _refusal(400, str(problem))
        if answer == JSON:
            return Response(json.dumps({"predictions": predictions}), mimetype=JSON)
        return Response("".join(f"{value!r}\n" for value in predictions), mimetype=CSV)

    @app.errorhandler(413)
    def too_large(_: Exception) -> Response:
        return _refusal(413, f"the body is larger than {LARGEST} bytes")

    return app


def serve() -> int:
    """Until SIGTERM."""
    model = Model.load(sagemaker.MODEL, threads=1)
    host = os.environ.get("BIND_HOST", "0.0.0.0")  # noqa: S104 - SageMaker reaches a container from outside
    port = int(os.environ.get("SAGEMAKER_BIND_TO_PORT", "8080"))
    server = create_server(
        application(model), host=host, port=port, threads=4, max_request_body_size=LARGEST + 1
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(f"serving {model.preparation.target} on port {port}", flush=True)
    try:
        server.run()
    finally:
        server.close()
    return 0


def from_csv(body: bytes, preparation: Preparation) -> pa.Table:
    """Rows in the order of `preparation.kinds`, or in any order below a heading of column names."""
    try:
        lines = [line or [""] for line in csv.reader(io.StringIO(body.decode("utf-8-sig")), strict=True)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadRequest(f"the body is not CSV in UTF-8: {error}") from None
    names = list(preparation.kinds)
    if lines and _is_heading(lines[0], preparation):
        names, lines = _heading(lines[0], preparation), lines[1:]
    for number, line in enumerate(lines, start=1):
        if len(line) != len(names):
            raise BadRequest(_wrong_length(number, line, names))
    return _table([dict(zip(names, line, strict=True)) for line in lines], preparation)


def from_json(body: bytes, preparation: Preparation) -> pa.Table:
    """`{"instances": [...]}`, each a list in the order of `preparation.kinds` or an object by name."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON: {error}") from None
    rows = found.get("instances") if isinstance(found, dict) else None
    if not isinstance(rows, list):
        raise BadRequest('the body is not {"instances": [row, ...]}')
    names, result = list(preparation.kinds), []
    for number, row in enumerate(rows, start=1):
        if isinstance(row, list):
            if len(row) != len(names):
                raise BadRequest(_wrong_length(number, row, names))
            row = dict(zip(names, row, strict=True))
        elif isinstance(row, dict):
            row = dict(zip(_heading(list(row), preparation, f"row {number}"), row.values(), strict=True))
        else:
            raise BadRequest(f"row {number} is neither a list nor an object")
        result.append(row)
    return _table(result, preparation)


def _is_heading(line: list[str], preparation: Preparation) -> bool:
    """A line most of whose cells are names of columns."""
    known = {name.upper() for name in preparation.kinds}
    return sum(cell.strip().upper() in known for cell in line) * 2 > len(line)


def _heading(cells: list[str], preparation: Preparation, where: str = "the heading") -> list[str]:
    """Column names as the model has them. Columns of the table that it does not use pass by."""
    known = {name.upper(): name for name in (*preparation.kinds, *preparation.left_out, preparation.target)}
    names = []
    for cell in cells:
        name = cell if cell in known.values() else known.get(cell.strip().upper())
        if name is None:
            raise BadRequest(
                f"{where} names {cell!r}, which is no column of the model: {list(preparation.kinds)}"
            )
        if name in names:
            raise BadRequest(f"{where} names {name} twice")
        names.append(name)
    if missing := [name for name in preparation.kinds if name not in names]:
        raise BadRequest(f"{where} lacks {', '.join(missing)}")
    return names


def _table(rows: list[dict[str, Any]], preparation: Preparation) -> pa.Table:
    if not rows:
        raise BadRequest("the body has no rows")
    columns = {
        name: pa.array(
            [_cell(row[name], kind, name, number) for number, row in enumerate(rows, start=1)],
            pa.string() if kind == "text" else pa.float64(),
        )
        for name, kind in preparation.kinds.items()
    }
    return pa.table(columns)


TRUTHS = {"true": 1.0, "false": 0.0}
SURROGATE = re.compile("[\ud800-\udfff]")
"""Half a character: JSON can say it, UTF-8 cannot."""


def _cell(value: Any, kind: str, name: str, row: int) -> float | str | None:
    """A cell as training had it; None for a blank."""
    if isinstance(value, str):
        value = value.strip()
    if value is None or value == "":
        return None
    if kind == "text":
        if isinstance(value, str) and not SURROGATE.search(value):
            return value
        raise BadRequest(f"row {row}, column {name}: {value!r} is not text")
    if kind == "boolean" and str(value).lower() in TRUTHS:
        return TRUTHS[str(value).lower()]
    try:
        if isinstance(value, bool):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise BadRequest(f"row {row}, column {name}: {value!r} is not a number") from None
    if number != number or abs(number) > 3.4e38:
        raise BadRequest(f"row {row}, column {name}: {value!r} is not a number that can be used")
    return number


def _wrong_length(number: int, row: list[Any], names: list[str]) -> str:
    values = "1 value" if len(row) == 1 else f"{len(row)} values"
    return f"row {number} has {values} where {len(names)} are expected: {', '.join(names)}"


def _refusal(status: int, reason: str) -> Response:
    return Response(json.dumps({"error": reason}), status=status, mimetype=JSON)
