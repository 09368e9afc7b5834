"""A stub of the multi-model server that only answers /ping: the benchmark does not measure the endpoint."""

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/ping" else 404)
        self.end_headers()


address = os.environ.get("BIND_HOST", "0.0.0.0"), int(os.environ.get("SAGEMAKER_BIND_TO_PORT", "8080"))  # noqa: S104
ThreadingHTTPServer(address, Handler).serve_forever()
