"""The HTTP API of SageMaker hosting: `/ping`, and `/invocations`, which returns offers for a price history.

The README of the image `power_bidding/serve` describes request and response.
"""

from __future__ import annotations

import json
import logging
import threading
from typing import Any

from flask import Flask, Response, request

from toolkit.failure import scrub

from .bidding import answer
from .offers import OfferError
from .request import RequestError, parsed
from .storage import OptimizationError
from .trained import Trained

LARGEST = 4 * 2**20
"""Maximum size of a request in bytes: SageMaker's limit for serverless endpoints."""
JSON = "application/json"

log = logging.getLogger(__name__)


def application(trained: Trained) -> Flask:
    app = Flask(__name__)
    one = threading.Lock()  # one request at a time: on one core, two at a time would each take twice as long
    app.config["MAX_CONTENT_LENGTH"] = LARGEST

    @app.before_request
    def refuse_pages() -> Response | None:
        """Reject requests with headers that browsers add for web pages. SageMaker does not forward them."""
        if request.method != "GET" and ("Origin" in request.headers or "Sec-Fetch-Site" in request.headers):
            return _answer(403, {"error": "requests from web pages are not allowed"})
        return None

    @app.get("/ping")
    def ping() -> Response:
        return Response(status=200)

    @app.post("/invocations")
    def invocations() -> Response:
        if request.mimetype != JSON:
            return _answer(415, {"error": f"content type must be {JSON}, got {request.mimetype}"})
        try:
            asked = parsed(_document(request.get_data()))
            with one:
                found = answer(trained, asked)
            return _answer(200, found)
        except RequestError as error:
            return _answer(400, {"error": str(error)})
        except (OptimizationError, OfferError) as error:
            log.error("could not make offers: %s", scrub(error))
            return _answer(422, {"error": f"could not make offers: {error}"})

    @app.errorhandler(413)
    def too_large(_: Exception) -> Response:
        return _answer(413, {"error": f"the body must have at most {LARGEST} bytes"})

    return app


def _document(body: bytes) -> Any:
    try:
        return json.loads(body, parse_int=_integer)
    except ValueError as error:
        raise RequestError(f"the body must be JSON: {error}") from None
    except RecursionError:
        raise RequestError("the body must be JSON with fewer levels of nesting") from None


def _integer(digits: str) -> int | float:
    """Return an integer, or infinity if it is too large for a double. The field's check rejects infinity."""
    return int(digits) if len(digits) < 300 else float(digits)


def _answer(status: int, document: dict[str, Any]) -> Response:
    return Response(json.dumps(document, allow_nan=False), status=status, mimetype=JSON)
