"""A container that only simulates training. Hyperparameters determine what it does: `eta` is the error of the
trained model.

With `table=MISSING` the training fails as if the table were missing, `gamma` is the duration of the training
in seconds, and a model that was trained with `max_depth=1` cannot be served.
"""

import json
import os
import sys
import tarfile
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

BASE = Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"))


def train() -> None:
    told = json.loads((BASE / "input/config/hyperparameters.json").read_text())
    if told["table"] == "MISSING":
        (BASE / "output").mkdir(parents=True, exist_ok=True)
        (BASE / "output/failure").write_text("table MISSING does not exist")
        sys.exit(1)
    if told["mode"] == "evaluate":
        for channel in ("candidate", "champion"):
            (archive,) = (BASE / "input/data" / channel).iterdir()
            with tarfile.open(archive) as files:
                file = files.extractfile("model.json")
                assert file
                model = json.load(file)
            print(f"{channel}:rmse={model['error']}", flush=True)
        return
    time.sleep(float(told["gamma"]))
    (BASE / "model").mkdir(parents=True, exist_ok=True)
    model = {"error": float(told["eta"]), "broken": told["max_depth"] == "1"}
    (BASE / "model/model.json").write_text(json.dumps(model))
    print(f"validation:rmse={told['eta']}", flush=True)


def serve() -> None:
    model = json.loads((BASE / "model/model.json").read_text())
    if model["broken"]:
        sys.exit("this model cannot be served")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(str(model["error"]).encode())

    address = os.environ.get("BIND_HOST", "0.0.0.0"), int(os.environ.get("SAGEMAKER_BIND_TO_PORT", "8080"))  # noqa: S104
    HTTPServer(address, Handler).serve_forever()


{"train": train, "serve": serve}[sys.argv[1]]()
