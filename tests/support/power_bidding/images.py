"""Run the images of power_bidding as SageMaker does, without SageMaker: a folder replaces `/opt/ml`."""

from __future__ import annotations

import http.client
import json
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.images.build import build
from tests.support.image_jobs import NEVER, Job, environment, prepared
from tests.support.processes import answers, free_port
from tests.support.waiting import until
from tooling.containers import CONTAINERS

TRAIN, SERVE = CONTAINERS / "power_bidding" / "model", CONTAINERS / "power_bidding" / "serve"
QUICK = {
    "time_zone": "America/Chicago",
    "judged_days": "14",
    "trailing_days": "28",
    "refit_days": "14",
    "epochs": "3",
}


def python(image: Path) -> Path:
    """Return the path of an image's Python interpreter."""
    return build(CONTAINERS, image / "Dockerfile").folder / "env" / "bin" / "python"


def run(base: Path, interpreter: Path, *command: str) -> Job:
    """Run a command of the image to its end, with `base` as its `/opt/ml`."""
    done = subprocess.run(
        [interpreter, "-m", "power_forecaster", *command],
        env=environment(TRAIN, base),
        cwd=base,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=NEVER,
    )
    return Job(base, done.returncode, done.stdout)


def train(base: Path, interpreter: Path, hyperparameters: dict[str, str], **histories: str) -> Job:
    """Run a training job. A location's history is the text of its CSV file."""
    prepared(base, hyperparameters, {"history": {f"{name}.csv": text for name, text in histories.items()}})
    return run(base, interpreter, "train")


def write_histories(folder: Path, histories: dict[str, str]) -> None:
    folder.mkdir(parents=True)
    for location, text in histories.items():
        (folder / f"{location}.csv").write_text(text)


def packed(model: Path, folder: Path) -> None:
    """Write the `model.tar.gz` that SageMaker makes from a model's folder."""
    folder.mkdir(parents=True)
    with tarfile.open(folder / "model.tar.gz", "w:gz") as archive:
        for path in model.iterdir():
            archive.add(path, path.name)


@dataclass
class Server:
    port: int

    def ask(self, document: Any, **headers: str) -> tuple[int, Any]:
        """Post a JSON document, or bytes as they are; return the status and the answer's JSON."""
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("POST", "/invocations", body, {"Content-Type": "application/json"} | headers)
        answer = connection.getresponse()
        found = answer.status, json.loads(answer.read())
        connection.close()
        return found


@contextmanager
def served(base: Path, interpreter: Path) -> Iterator[Server]:
    """Serve the model in `base`/model."""
    port = free_port()
    own = {"BIND_HOST": "127.0.0.1", "SAGEMAKER_BIND_TO_PORT": str(port)}
    with (base / "serving.log").open("wb") as output:
        process = subprocess.Popen(
            [interpreter, "-m", "power_forecaster", "serve"],
            env=environment(TRAIN, base) | own,
            cwd=base,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        until(lambda: answers(port), "the start of the server", process=process)
        yield Server(port)
    finally:
        process.terminate()
        process.wait(30)
