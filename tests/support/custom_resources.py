"""CloudFormation's side of a custom resource: requests, and a server for the responses."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any

Handler = Callable[[dict[str, Any], Any], None]
Answer = dict[str, str]


class CloudFormation(HTTPServer):
    """A server that stores the responses of custom resources, except the first `failures` responses, which it
    refuses with HTTP status 500."""

    def __init__(self, failures: int = 0):
        stub = self
        self.answers: list[Answer] = []
        self.failures = failures

        class Receiver(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = 500 if stub.failures else 200
                if stub.failures:
                    stub.failures -= 1
                else:
                    assert len(body) <= 4096
                    stub.answers.append(json.loads(body))
                self.send_response(status)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Receiver)

    def request(
        self,
        handler: Handler,
        kind: str,
        properties: dict[str, str],
        physical_id: str = "",
        seconds: float = 60,
    ) -> Answer:
        """Call a handler whose remaining time is `seconds`; return its response."""
        event = {"RequestType": kind, "ResourceProperties": properties, "StackId": "s", "RequestId": "r"}
        event |= {"LogicalResourceId": "l", "ResponseURL": f"http://127.0.0.1:{self.server_port}/"}
        if physical_id:
            event["PhysicalResourceId"] = physical_id
        handler(event, SimpleNamespace(get_remaining_time_in_millis=lambda: seconds * 1000))
        return self.answers[-1]


@contextmanager
def cloudformation(failures: int = 0) -> Iterator[CloudFormation]:
    """Run the server in a thread, and yield it."""
    with CloudFormation(failures) as stub:
        threading.Thread(target=stub.serve_forever, args=(0.02,), daemon=True).start()
        yield stub
        stub.shutdown()
