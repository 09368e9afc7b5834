"""A minimal container with SageMaker's multi-model API.

Environment: CAPACITY (maximum number of loaded models), LOAD_SECONDS (duration of a load). A model with a
file `broken` is refused. Fields of a request in JSON: sleep (seconds) and status (of the response).
"""

import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MODELS = {}
LOADS = []
LOCK = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/ping":
            return self.answer(200, {})
        with LOCK:
            models = [{"modelName": name, "modelUrl": url} for name, url in MODELS.items()]
        self.answer(200, {"models": models})

    def do_DELETE(self):
        name = self.path.rpartition("/")[2]
        with LOCK:
            self.answer(200 if MODELS.pop(name, None) else 404, {})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or "{}")
        if self.path == "/models":
            return self.load(body["model_name"], body["url"])
        _, models, name, verb = self.path.split("/")
        assert (models, verb) == ("models", "invoke"), self.path
        with LOCK:
            url = MODELS.get(name)
        if url is None:
            return self.answer(404, {"error": "not loaded"})
        time.sleep(body.get("sleep", 0))
        files = {path.name: path.read_text() for path in Path(url).rglob("*") if path.is_file()}
        with LOCK:
            document = {"model": files, "loads": list(LOADS), "name": name, "url": url}
        document["instance"] = os.environ["BIND_HOST"]
        document["headers"] = {key.lower(): value for key, value in self.headers.items()}
        document["multi_model"] = os.environ.get("SAGEMAKER_MULTI_MODEL")
        self.answer(body.get("status", 200), document)

    def load(self, name, url):
        if (Path(url) / "broken").exists():
            return self.answer(400, {"error": "the model has a file named broken"})
        with LOCK:
            if name in MODELS:
                return self.answer(409, {})
            if len(MODELS) >= int(os.environ.get("CAPACITY", "1000")):
                return self.answer(507, {"error": "no memory left"})
            MODELS[name] = url
            LOADS.append((Path(url) / "model.txt").read_text())
        time.sleep(float(os.environ.get("LOAD_SECONDS", "0")))
        self.answer(200, {})

    def answer(self, status, document):
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        pass


if __name__ == "__main__":
    address = os.environ["BIND_HOST"], int(os.environ["SAGEMAKER_BIND_TO_PORT"])
    ThreadingHTTPServer(address, Handler).serve_forever()
