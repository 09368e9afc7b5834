"""SageMaker's multi-model API in front of Triton.

Triton implements this API too, but starts a process for each model. In this container, a model is usually
an adapter: two small files. This server validates the files and limits the memory of all loaded models. With
each request, it passes the adapter's path to the resident base.
"""

from __future__ import annotations

import json
import logging
import re
import time
from typing import Any

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from toolkit.failure import FatalError, scrub

from .models import Models
from .settings import RequestError, Settings, generation

log = logging.getLogger(__name__)

_UNSAFE = re.compile("[\\x00-\\x1f\\x7f\\ud800-\\udfff]")
"""Control characters, and lone surrogates, which UTF-8 cannot encode."""

LARGEST = 64 * 2**10
"""Maximum size of a request in bytes."""


class Front:
    """The HTTP server. `models` is None until the base is resident; `stopping` is set before the exit."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.models: Models | None = None
        self.stopping = False
        self.app = Flask(__name__)
        self.app.config["MAX_CONTENT_LENGTH"] = LARGEST
        add = self.app.add_url_rule
        add("/ping", view_func=self.ping)
        add("/models", "list", self.list, methods=["GET"])
        add("/models", "load", self.load, methods=["POST"])
        add("/models/<path:name>", "show", self.show, methods=["GET"])
        add("/models/<path:name>", "unload", self.unload, methods=["DELETE"])
        add("/models/<path:name>/invoke", "invoke", self.invoke, methods=["POST"])
        self.app.before_request(_refuse_pages)
        self.app.register_error_handler(
            RequestError, lambda error: answer({"error": str(error)}, error.status)
        )
        self.app.register_error_handler(HTTPException, _http_error)
        self.app.register_error_handler(Exception, _failed)

    def ping(self) -> Response:
        return Response(status=200 if self.models and not self.stopping else 503)

    def list(self) -> Response:
        """Return all loaded models, or a page: `limit` models, from `next_page_token` on."""
        shown = self._loaded().shown
        try:
            start = int(request.args.get("next_page_token") or 0)
            limit = int(request.args.get("limit") or len(shown) or 1)
        except ValueError:
            start = limit = -1
        if start < 0 or limit < 1:
            raise RequestError(
                400, "limit must be a whole number of at least 1, next_page_token a token from a response"
            )
        page: dict[str, Any] = {"models": shown[start : start + limit]}
        if start + limit < len(shown):
            page["nextPageToken"] = str(start + limit)
        return answer(page)

    def load(self) -> Response:
        models, body = self._loaded(), self._body()
        fields = [body.get(field) if isinstance(body, dict) else None for field in ("model_name", "url")]
        name, url = (each if isinstance(each, str) and 0 < len(each) <= 1024 else "" for each in fields)
        if not name or not url or _UNSAFE.search(name + url):
            raise RequestError(
                400, "model_name and url must each be 1 to 1024 characters without control characters"
            )
        begun = time.monotonic()
        model = models.load(name, url)
        log.info("loaded %s (%d bytes) in %.3f s", name, model.bytes, time.monotonic() - begun)
        return answer(model.shown)

    def show(self, name: str) -> Response:
        return answer(self._loaded().find(name).shown)

    def unload(self, name: str) -> Response:
        self._loaded().unload(name)
        log.info("unloaded %s", name)
        return answer({})

    def invoke(self, name: str) -> Response:
        models, begun = self._loaded(), time.monotonic()
        models.find(name)
        made = models.generate(name, generation(self._body(), self.settings))
        seconds = round(time.monotonic() - begun, 4)
        return answer({"images": made["images"], "model": name, "seconds": seconds})

    def _loaded(self) -> Models:
        if self.models is None or self.stopping:
            raise RequestError(503, "the base is not loaded yet, or the server is stopping")
        return self.models

    def _body(self) -> Any:
        try:
            return json.loads(request.get_data())
        except (ValueError, RecursionError):
            raise RequestError(400, "the body must be JSON in UTF-8") from None


def _refuse_pages() -> None:
    """Reject requests from web pages in a browser that can connect to this port. Raises `RequestError`.

    The `Host` header that SageMaker sends is not documented. So this function checks for headers that
    browsers add, that pages cannot remove and that SageMaker does not forward: `Origin` on all methods but
    GET, `Sec-Fetch-Site` from secure origins, and `Accept-Language` on a GET after DNS rebinding.
    """
    if request.path == "/ping":  # returns no data, and SageMaker stops a container that rejects it
        return
    signs = ("Origin", "Sec-Fetch-Site", *(["Accept-Language"] if request.method == "GET" else []))
    if any(sign in request.headers for sign in signs):
        raise RequestError(403, "requests from web pages are not allowed")


def answer(value: dict[str, Any], status: int = 200) -> Response:
    return Response(json.dumps(value), status=status, mimetype="application/json")


def _http_error(error: HTTPException) -> Response:
    return answer({"error": error.name.lower()}, error.code or 500)


def _failed(error: Exception) -> Response:
    """Log the error, and return a response without its details."""
    log.error("request failed: %s", scrub(error if isinstance(error, FatalError) else repr(error)))
    return answer({"error": "the request failed because of an internal error; see the endpoint's log"}, 500)
