"""A minimal serving container: its responses contain its model, its environment and the request.

Environment: EXIT (exit at once with this code), SLOW (seconds before it listens), PING (status of /ping).
Fields of a request in JSON: sleep (seconds), status and text (of the response), size (bytes of the response),
die (exit).
"""

import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.answer(int(os.environ.get("PING", "200")), b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            asked = json.loads(body)
        except ValueError:
            asked = {}
        if asked.get("die"):
            os._exit(7)
        time.sleep(asked.get("sleep", 0))
        model = Path(os.environ["SAGEMAKER_BASE_DIR"]) / "model"
        document = {
            "instance": os.environ["BIND_HOST"],
            "path": self.path,
            "model": {
                str(p.relative_to(model)): p.read_text() for p in sorted(model.rglob("*")) if p.is_file()
            },
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "environment": dict(os.environ),
            "length": len(body),
        }
        print("request", self.path, flush=True)
        if "size" in asked:
            return self.answer(200, b"x" * asked["size"])
        if "status" in asked:
            return self.answer(asked["status"], asked.get("text", "").encode())
        self.answer(200, json.dumps(document).encode())

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Amzn-SageMaker-Custom-Attributes", "from the container")
        self.send_header("X-Not-For-The-Caller", "1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


if __name__ == "__main__":
    print("started with", sys.argv[1:], flush=True)
    if "EXIT" in os.environ:
        sys.exit(int(os.environ["EXIT"]))
    time.sleep(float(os.environ.get("SLOW", "0")))
    address = os.environ["BIND_HOST"], int(os.environ["SAGEMAKER_BIND_TO_PORT"])
    ThreadingHTTPServer(address, Handler).serve_forever()
