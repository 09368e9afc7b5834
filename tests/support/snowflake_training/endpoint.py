"""Requests to the image's server."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from typing import Any


class Endpoint:
    def __init__(self, port: int):
        self.port = port

    def ask(
        self,
        body: str | bytes,
        timeout: float = 20,
        sent: Callable[[], object] = lambda: None,
        **headers: str,
    ) -> tuple[int, str, str]:
        """Return status, content type and body of the response. `content_type` and `accept` become headers.

        `sent` is called when the request has been sent.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        named = {name.replace("_", "-").title(): value for name, value in headers.items()}
        connection.request("POST", "/invocations", body.encode() if isinstance(body, str) else body, named)
        sent()
        answer = connection.getresponse()
        found = answer.status, answer.headers.get_content_type(), answer.read().decode()
        connection.close()
        return found

    def csv(
        self, body: str, timeout: float = 20, sent: Callable[[], object] = lambda: None, **headers: str
    ) -> list[float]:
        status, kind, text = self.ask(body, timeout, sent, content_type="text/csv", **headers)
        assert (status, kind) == (200, "text/csv"), text
        return [float(line) for line in text.splitlines()]

    def json(self, rows: list[Any]) -> list[float]:
        status, kind, text = self.ask(json.dumps({"instances": rows}), content_type="application/json")
        assert (status, kind) == (200, "application/json"), text
        return json.loads(text)["predictions"]

    def refusal(self, body: str | bytes, status: int = 400, timeout: float = 20, **headers: str) -> str:
        content_type = headers.pop("content_type", "text/csv")
        found, kind, text = self.ask(body, timeout, lambda: None, content_type=content_type, **headers)
        assert (found, kind) == (status, "application/json")
        return json.loads(text)["error"]
