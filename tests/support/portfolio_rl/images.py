"""Run the images of portfolio_rl as SageMaker does, without SageMaker: a folder replaces `/opt/ml`."""

from __future__ import annotations

import atexit
import functools
import http.client
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local import namespaces
from local.images.build import build
from local.images.store import Image
from tests.support.image_jobs import NEVER, Job, environment, prepared
from tests.support.processes import answers, free_port
from tests.support.waiting import until
from tooling.containers import CONTAINERS

TRAIN, SERVE = CONTAINERS / "portfolio_rl" / "train", CONTAINERS / "portfolio_rl" / "serve"
QUICK = {"observed": "60", "held_out": "1000"}


def built(image: Path) -> Image:
    return build(CONTAINERS, image / "Dockerfile")


def python(image: Path) -> Path:
    """Return the path of an image's Python interpreter."""
    return built(image).folder / "env" / "bin" / "python"


@functools.cache
def compiled() -> tuple[str, dict[str, str]]:
    """Return the folder of a copy of the training image's program with its numba cache, and the environment
    variables for which the cache was compiled. Functions that a test compiles go into the copy, not the
    image.
    """
    image = built(TRAIN)
    program = tempfile.mkdtemp(prefix="groundplan-")
    atexit.register(shutil.rmtree, program, ignore_errors=True)
    shutil.copytree(image.folder / "root" / "opt" / "program", program, dirs_exist_ok=True)
    variables = dict(each.split("=", 1) for each in image.config["Env"])
    return program, {name: value for name, value in variables.items() if name.startswith("NUMBA_")}


def training(base: Path) -> dict[str, str]:
    """Return the environment variables of a process of the training image."""
    program, processor = compiled()
    return environment(TRAIN, base) | processor | {"PYTHONPATH": program}


def start(base: Path, interpreter: Path) -> subprocess.Popen[bytes]:
    """Start a job whose input is in `base`."""
    with (base / "log").open("ab") as log:
        return subprocess.Popen(
            [interpreter, "-m", "portfolio_trader", "train"],
            env=training(base),
            cwd=base,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def train(base: Path, interpreter: Path, hyperparameters: dict[str, str], **channels: dict[str, str]) -> Job:
    """Run a job to its end. A channel is a dict of file contents by name."""
    process = start(prepared(base, hyperparameters, channels), interpreter)
    try:
        code = process.wait(NEVER)
    finally:
        process.kill()
    return Job(base, code, (base / "log").read_text())


def contained(base: Path, image: Image, **environment: str) -> Job:
    """Run a job to its end in a container of the image, with `base` as its `/opt/ml` and no network."""
    command, own, directory = image.inside(["train"])
    layers = base.with_name(f"{base.name}-layers")
    prefix = image.document["groundplan"]["prefix"]
    space = namespaces.layout(image.folder / "root", image.folder / "env", prefix, base, layers, "algo-1", {})
    space |= {"command": command, "directory": directory, "network": "own", "kept": True}
    space["environment"] = {"HOME": "/root"} | own | environment
    process = namespaces.start(space, lambda pid: None)
    try:
        log, _ = process.communicate(timeout=NEVER)
        files = [path for path, place in namespaces.written(space) if place.is_file()]
    finally:
        process.send_signal(namespaces.KILL)
        process.wait()
        namespaces.remove(layers)
    return Job(base, process.returncode, log, files)


@contextmanager
def served(base: Path, interpreter: Path, **env: str) -> Iterator[Server]:
    """Serve the model in `base`/model."""
    port = free_port()
    own = {"BIND_HOST": "127.0.0.1", "SAGEMAKER_BIND_TO_PORT": str(port), "STOP_PARAMETER": "none"}
    own = environment(SERVE, base) | own | env
    log = base / "serving.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [interpreter, "-m", "portfolio_serve", "serve"],
            env=own,
            cwd=base,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        until(lambda: answers(port), "the start of the server", process=process)
        yield Server(port, log, process.pid)
    finally:
        process.terminate()
        process.wait(30)


@dataclass
class Server:
    port: int
    log: Path
    pid: int

    def ask(self, document: Any, **headers: str) -> tuple[int, Any]:
        """Post a JSON document, or bytes as they are; return the status and the answer's JSON."""
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("POST", "/invocations", body, {"Content-Type": "application/json"} | headers)
        answer = connection.getresponse()
        found = answer.status, json.loads(answer.read())
        connection.close()
        return found

    def order(self, account: Any) -> dict[str, Any]:
        """Return the order for one account."""
        status, answer = self.ask({"accounts": [account]})
        assert status == 200, answer
        return answer["orders"][0]

    @property
    def peak_mib(self) -> float:
        """Return the maximum resident memory of the server in MiB."""
        status = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        (line,) = [line for line in status if line.startswith("VmHWM:")]
        return int(line.split()[1]) / 1024

    @property
    def audit(self) -> list[dict[str, Any]]:
        """Return the lines of the audit log."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith('{"audit"')]
