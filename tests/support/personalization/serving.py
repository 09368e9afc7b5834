"""The serving image, started as SageMaker starts it, and helpers to compare pictures."""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from local.images.build import build
from local.images.store import Image as BuiltImage
from tests.conftest import MakeOnce
from tests.support.processes import free_port
from tests.support.waiting import until
from tooling.containers import CONTAINERS
from toolkit.identity import identity

CONTAINER = CONTAINERS / "personalization" / "serve"
PROMPT, STEPS, GUIDANCE = "a photo of sks cat", 3, 5.0
ASKED = {"prompt": PROMPT, "steps": STEPS, "guidance": GUIDANCE}
ROUNDING = 3
"""Maximum difference of a colour (0 to 255) when the same sums are added in another order."""
BUDGET = 24 * 2**20
PATIENCE = 500
"""Seconds after which a wait fails. A start takes ten seconds, and many times that on a busy machine."""


def write_manifest(folder: Path, **fields: Any) -> None:
    (folder / "adapter.json").write_text(json.dumps({"version": 1, **fields}))


def pipelines(made_once: MakeOnce) -> Path:
    """Run `pipelines.py` once in the training image, which has peft; return the folder with its output."""
    image = build(CONTAINERS, CONTAINERS / "personalization" / "finetune" / "Dockerfile")
    python, script = image.folder / "env" / "bin" / "python", Path(__file__).with_name("pipelines.py")
    quiet = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}

    def make(folder: Path) -> None:
        run = subprocess.run([python, script, folder], env=os.environ | quiet, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr[-3000:]
        belongs = identity(folder / "base")
        for path in (folder / "adapters").iterdir():
            write_manifest(path, base=belongs)

    return made_once("pipelines", make)


class Container:
    """The image, started as SageMaker starts it."""

    def __init__(self, built: BuiltImage, folder: Path, program: str = "", **environment: str):
        """`program` is Python code that replaces the image's program."""
        command, own, directory = built.launch([])
        if program:
            command = [command[0], "-c", program]
        self.port, self.folder = free_port(), folder
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "log"
        given = {
            "SAGEMAKER_BIND_TO_PORT": str(self.port),
            "BIND_HOST": "127.0.0.1",
            "TMPDIR": str(folder),
            "HOME": str(folder),
            "OMP_NUM_THREADS": "1",
            **environment,
        }
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, env=own | given, cwd=directory, stdout=log, stderr=subprocess.STDOUT, text=True
            )

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        until(lambda: not self.children, "the end of all processes")

    def ready(self) -> Container:
        try:
            until(lambda: self.ping() == 200 or self.process.poll() is not None, "the base")
            assert self.process.poll() is None, self.log.read_text()[-1000:]
        except BaseException:
            # the caller has not entered its `with` statement yet, so the container must be ended here
            self.__exit__()
            raise
        return self

    @property
    def children(self) -> list[int]:
        """Return the processes of this container, found by its temporary folder."""
        mark = f"TMPDIR={self.folder}".encode()
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                alive = (entry / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
                if alive and mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    @property
    def base_process(self) -> int:
        (state,) = self.folder.glob("personalization-*/base.json")
        return json.loads(state.read_text())["pid"]

    @property
    def memory(self) -> int:
        """Return the private memory of the base model's process in bytes."""
        lines = Path(f"/proc/{self.base_process}/smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))

    @property
    def seconds(self) -> float:
        """Return the CPU time of the base model's process in seconds; it grows while pictures are drawn."""
        fields = Path(f"/proc/{self.base_process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            raw = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            connection.request(method, path, raw, {"Content-Type": "application/json", **headers})
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text else None
        finally:
            connection.close()

    def asked(self, path: str) -> tuple[int, bytes]:
        """Send a request directly to Triton; return the status and the body of its response."""
        connection = http.client.HTTPConnection("triton")
        connection.sock = socket.socket(socket.AF_UNIX)
        folder = os.open(self.socket.parent, os.O_PATH)
        with contextlib.closing(connection):
            connection.sock.connect(f"/proc/self/fd/{folder}/{self.socket.name}")
            os.close(folder)
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def batches(self) -> tuple[int, int]:
        """Return the number of requests to the base model, and of the batches that Triton made of them."""
        (found,) = json.loads(self.asked("/v2/models/base/stats")[1])["model_stats"]
        return found["inference_count"], found["execution_count"]

    @property
    def socket(self) -> Path:
        """Return the path of Triton's Unix socket."""
        (found,) = (path for path in self.folder.rglob("*") if path.is_socket())
        return found

    def ping(self) -> int:
        try:
            return self.call("GET", "/ping")[0]
        except OSError:
            return 0

    def load(self, name: str, folder: Path) -> tuple[int, Any]:
        return self.call("POST", "/models", {"model_name": name, "url": str(folder)})

    def invoke(self, name: str, **request: Any) -> tuple[int, Any]:
        return self.call("POST", f"/models/{name}/invoke", ASKED | request)

    def draw(self, name: str, **request: Any) -> list[np.ndarray]:
        status, answer = self.invoke(name, **request)
        assert status == 200, answer
        return [pixels(base64.b64decode(image)) for image in answer["images"]]

    def unload(self, name: str) -> int:
        return self.call("DELETE", f"/models/{name}")[0]


def pixels(png: bytes) -> np.ndarray:
    """Decode a PNG to an array of height x width x 3, values 0 to 255."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), dtype=float)


def apart(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max())


def expected(made: Path, name: str) -> np.ndarray:
    return pixels((made / "expected" / f"{name}.png").read_bytes())
