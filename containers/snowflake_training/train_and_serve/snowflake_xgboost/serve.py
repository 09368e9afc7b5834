"""The HTTP API of SageMaker's hosting and batch transform, `/ping` and `/invocations`.

Request: `text/csv`, one row per line, with cells in the order of the columns in `preparation.json`, or of a
first line with column names; or `application/json`, `{"instances": [[...], {"COLUMN": value, ...}, ...]}`.
An empty cell, null or NaN is a missing value.

Response: one prediction per row, as CSV or as `{"predictions": [...]}`, as the header `Accept` requests.
Without this header, the format is that of the request.

This process only forwards bodies to the workers, so that it answers `/ping` within SageMaker's limit of two
seconds.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading

from flask import Flask, Response, request
from waitress.server import create_server

from toolkit.failure import FatalError

from .workers import WorkerLostError, Workers, count

log = logging.getLogger(__name__)

LARGEST = 100 * 2**20
"""Maximum size of a request in bytes. SageMaker's limits are lower, except for batch transform."""

CSV, JSON = "text/csv", "application/json"

MOST_WAITING = 64
"""Maximum number of requests in flight or waiting for a worker. Further requests get status 503."""

THREADS = MOST_WAITING + 8
"""Number of threads of waitress, the web server. Some threads are always free for `/ping`."""


def application(workers: Workers) -> Flask:
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = LARGEST
    places = threading.BoundedSemaphore(MOST_WAITING)

    @app.before_request
    def refuse_pages() -> Response | None:
        """Reject requests with headers that browsers add for web pages. SageMaker does not forward them."""
        signs = ("Origin", "Sec-Fetch-Site")
        if request.method != "GET" and any(sign in request.headers for sign in signs):
            return _refusal(403, "requests from web pages are not allowed")
        return None

    @app.get("/ping")
    def ping() -> Response:
        return Response(status=200)

    @app.post("/invocations")
    def invocations() -> Response:
        kind = request.mimetype or CSV
        if kind not in (CSV, JSON):
            return _refusal(415, f"content type must be {CSV} or {JSON}, got {kind}")
        accepted = request.accept_mimetypes
        answer = accepted.best_match([kind, CSV, JSON]) if accepted else kind
        if answer is None:
            return _refusal(406, f"header Accept must allow {CSV} or {JSON}, got {accepted}")
        if not places.acquire(blocking=False):
            return _refusal(503, f"{MOST_WAITING} requests are in flight or waiting: retry later")
        try:
            worker = workers.take()
            try:
                worked, told = worker.predict(request.get_data(), kind, answer)
            finally:
                workers.give_back(worker)
        finally:
            places.release()
        return Response(told, mimetype=answer) if worked else _refusal(400, told)

    @app.errorhandler(413)
    def too_large(_: Exception) -> Response:
        return _refusal(413, f"the body must have at most {LARGEST} bytes")

    @app.errorhandler(WorkerLostError)
    def lost(error: WorkerLostError) -> Response:
        log.error("%s", error)
        os._exit(1)  # SageMaker restarts the container, which would otherwise continue without this worker

    return app


def serve() -> int:
    """Serve until SIGTERM. Raises `FatalError` if the model cannot be loaded."""
    try:
        workers = Workers(count())
    except WorkerLostError as error:
        raise FatalError(str(error)) from None
    host = os.environ.get("BIND_HOST", "0.0.0.0")  # noqa: S104 - SageMaker reaches a container from outside
    port = int(os.environ.get("SAGEMAKER_BIND_TO_PORT", "8080"))
    server = create_server(
        application(workers), host=host, port=port, threads=THREADS, max_request_body_size=LARGEST + 1
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    log.info("serving predictions of %s on port %d", workers.targets[0], port)
    try:
        server.run()
    finally:
        server.close()
    return 0


def _refusal(status: int, reason: str) -> Response:
    return Response(json.dumps({"error": reason}), status=status, mimetype=JSON)
