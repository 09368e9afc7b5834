"""A container that serves transform jobs: it answers each request with a line of JSON about the request.

Environment: EXIT (exit at once with this code), PARAMETERS (response to /execution-parameters).
A request's body may begin with: fail STATUS (answer with this status), flaky N (answer N times with 500, then
as usual), meet N (wait until N requests are being processed), wait (never answer), die (exit).
"""

import json
import os
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MEETING_SECONDS = 20.0
lock = threading.Condition()
here: list[bytes] = []
attempts: Counter[bytes] = Counter()
peak = 0


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        parameters = os.environ.get("PARAMETERS")
        if self.path == "/execution-parameters":
            return self.answer(200 if parameters else 404, (parameters or "").encode())
        self.answer(200, b"")

    def do_POST(self) -> None:
        global peak
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with lock:
            here.append(body)
            attempts[body] += 1
            peak = max(peak, len(here))
            lock.notify_all()
        self.reply(body)

    def reply(self, body: bytes) -> None:
        word, _, value = body.decode(errors="replace").strip().partition(" ")
        number = int(value.split()[0]) if value[:1].isdigit() else 0
        if word == "die":
            os._exit(7)
        if word == "wait":
            threading.Event().wait()
        if word == "fail":
            return self.leave(body, number, b"The record is bad.\nReally.")
        if word == "flaky" and attempts[body] <= number:
            return self.leave(body, 500, b"Not yet.")
        if word == "meet":
            with lock:
                met = lock.wait_for(lambda: peak >= number, MEETING_SECONDS)
            if not met:
                return self.leave(body, 500, b"Nobody came.")
        self.leave(body, 200, json.dumps(self.seen(body)).encode())

    def leave(self, body: bytes, status: int, answer: bytes) -> None:
        """Answer a request. First remove it from the requests in progress, because the next request may
        arrive before this method returns."""
        with lock:
            here.remove(body)
        self.answer(status, answer)

    def seen(self, body: bytes) -> dict[str, object]:
        model = Path(os.environ["SAGEMAKER_BASE_DIR"]) / "model" / "model.txt"
        return {
            "body": body.decode(errors="replace") if len(body) < 1000 else len(body),
            "type": self.headers.get("Content-Type"),
            "accept": self.headers.get("Accept"),
            "instance": os.environ["BIND_HOST"],
            "attempts": attempts[body],
            "peak": peak,
            "model": model.read_text() if model.exists() else None,
            "environment": {
                name: value
                for name, value in os.environ.items()
                if name.startswith(("SAGEMAKER_BATCH", "SAGEMAKER_MAX", "COLOUR"))
            },
        }

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


if __name__ == "__main__":
    print("started with", sys.argv[1:], flush=True)
    if "EXIT" in os.environ:
        sys.exit(int(os.environ["EXIT"]))
    address = os.environ["BIND_HOST"], int(os.environ["SAGEMAKER_BIND_TO_PORT"])
    ThreadingHTTPServer(address, Handler).serve_forever()
