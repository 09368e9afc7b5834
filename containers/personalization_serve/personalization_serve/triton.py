"""Triton as a child process: its model repository, its life and death, and how it is asked."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

import urllib3

from .settings import Failure, Refused, Settings

CONFIG = """
backend: "python"
max_batch_size: {batch}
input [{{ name: "request" data_type: TYPE_STRING dims: [1] }}]
output [{{ name: "answer" data_type: TYPE_STRING dims: [1] }}]
instance_group [{{ count: 1 kind: KIND_CPU }}]
dynamic_batching {{
  max_queue_delay_microseconds: {delay}
  default_queue_policy {{ max_queue_size: {queue} }}
}}
parameters {{ key: "pipeline" value: {{ string_value: "{pipeline}" }} }}
parameters {{ key: "state" value: {{ string_value: "{state}" }} }}
parameters {{ key: "batch" value: {{ string_value: "{batch}" }} }}
"""
"""KIND_CPU says where Triton puts tensors; the Python model takes the GPU by itself when there is one."""

BASE = "base"
GRACE = 20
"""Seconds that Triton gets to end."""
PR_SET_PDEATHSIG = 1


class Triton:
    """Started by `start`, with the base resident; ended by `stop`."""

    def __init__(self, settings: Settings, scratch: Path):
        self.settings, self.scratch = settings, scratch
        self.repository = scratch / "repository"
        self.process: subprocess.Popen[bytes] | None = None
        self.state: dict[str, Any] = {}
        self._http = urllib3.PoolManager(maxsize=settings.queue, block=False)
        self._url = ""

    def start(self, pipeline: Path) -> None:
        """Returns when the base is resident; to be called from the main thread, which Triton dies with.
        Raises `Failure`."""
        state = self._write(BASE, "Base", pipeline)
        port = _free_port()
        self._url = f"http://127.0.0.1:{port}/v2"
        command, environment = _installed(self.scratch)
        command += [
            f"--model-repository={self.repository}",
            "--model-control-mode=explicit",
            f"--load-model={BASE}",
            "--http-address=127.0.0.1",
            f"--http-port={port}",
            "--allow-grpc=false",
            "--allow-metrics=false",
            f"--exit-timeout-secs={GRACE}",
        ]
        prctl = ctypes.CDLL(None).prctl  # looked up before the fork, where little is safe
        self.process = subprocess.Popen(
            command,
            env=environment,
            preexec_fn=lambda: prctl(PR_SET_PDEATHSIG, signal.SIGTERM),
            process_group=0,
        )
        while not self.ready(BASE):
            if self.process.poll() is not None:
                raise Failure(f"Triton ended with {self.process.returncode} before the base was resident")
            time.sleep(0.05)
        self.state = json.loads(state.read_text())

    def watch(self) -> str:
        """Wait until Triton or the base dies; says which. To be called after `start`."""
        watched, pids = select.poll(), [self.state["pid"]]
        pids += [self.process.pid] if self.process else []
        for pid in pids:
            watched.register(os.pidfd_open(pid), select.POLLIN)
        watched.poll()
        return "Triton" if self.process and self.process.poll() is not None else "the base's process"

    def stop(self, gently: bool = True) -> None:
        """End Triton; gently it first ends its models, which it never does when one is dead."""
        if self.process is None:
            return
        if not gently:
            os.killpg(self.process.pid, signal.SIGKILL)
        self._http.clear()  # it would wait for connections that are kept open
        self.process.terminate()
        try:
            self.process.wait(GRACE + 5)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def ready(self, model: str) -> bool:
        try:
            return self._http.request("GET", f"{self._url}/models/{model}/ready", retries=False).status == 200
        except urllib3.exceptions.HTTPError:
            return False

    def ask(self, request: dict[str, Any], model: str = BASE) -> dict[str, Any]:
        """The model's answer. Raises `Refused` (503) when too many wait, `Failure` when there is none."""
        tensor = {"name": "request", "shape": [1, 1], "datatype": "BYTES", "data": [json.dumps(request)]}
        answer = self._call("POST", f"models/{model}/infer", {"inputs": [tensor]})
        return json.loads(answer["outputs"][0]["data"][0])

    def load(self, model: str, pipeline: Path) -> None:
        """Load a user's own full pipeline as a model of its own. Raises `Failure`."""
        self._write(model, "Full", pipeline)
        try:
            self._call("POST", f"repository/models/{model}/load", {})
        except Failure:
            shutil.rmtree(self.repository / model, ignore_errors=True)
            raise

    def unload(self, model: str) -> None:
        """Returns when its process is gone. Raises `Failure`."""
        state = self.repository.parent / f"{model}.json"
        pid = json.loads(state.read_text())["pid"] if state.exists() else None
        self._call("POST", f"repository/models/{model}/unload", {})
        until = time.monotonic() + GRACE
        while pid and Path(f"/proc/{pid}").exists() and time.monotonic() < until:
            time.sleep(0.02)
        shutil.rmtree(self.repository / model, ignore_errors=True)
        state.unlink(missing_ok=True)

    def _write(self, model: str, kind: str, pipeline: Path) -> Path:
        version = self.repository / model / "1"
        version.mkdir(parents=True)
        # Triton's Python looks at no PYTHONPATH: it is told where ours finds its packages.
        program = [
            "import sys",
            f"sys.path += [path for path in {list(filter(None, sys.path))!r} if path not in sys.path]",
            f"from personalization_serve.backend import {kind} as TritonPythonModel",
        ]
        (version / "model.py").write_text("\n".join(program))
        state = self.repository.parent / f"{model}.json"
        settings = self.settings
        config = CONFIG.format(
            batch=settings.batch,
            delay=round(settings.delay * 1e6),
            queue=settings.queue,
            pipeline=json.dumps(str(pipeline))[1:-1],
            state=state,
        )
        (self.repository / model / "config.pbtxt").write_text(config)
        return state

    def _call(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            answer = self._http.request(
                method, f"{self._url}/{path}", body=json.dumps(body).encode(), retries=False, timeout=None
            )
        except urllib3.exceptions.HTTPError as error:
            raise Failure(f"Triton does not answer: {error}") from None
        if answer.status == 200:
            return json.loads(answer.data or b"{}")
        reason = answer.data.decode(errors="replace")[:2000]
        if "maximum queue size" in reason:
            raise Refused(503, "too many requests wait: try again in a moment")
        raise Failure(f"Triton answers {answer.status}: {reason}")


def _installed(scratch: Path) -> tuple[list[str], dict[str, str]]:
    """Triton's program with its backends, and the environment that it runs in.

    NVIDIA's image has them in /opt/tritonserver. The wheel nvidia-pytriton carries the same program, with
    Python's backend and a stub for each version of Python, which has to stand beside the backend.
    """
    environment = dict(os.environ)
    if program := shutil.which("tritonserver", path=f"{os.environ.get('PATH', '')}:/opt/tritonserver/bin"):
        return [program], environment
    found = importlib.util.find_spec("pytriton")
    if found is None or not found.origin:
        raise Failure("there is no Triton: neither tritonserver nor the package nvidia-pytriton")
    home = Path(found.origin).parent / "tritonserver"
    backend = scratch / "backends" / "python"
    shutil.copytree(home / "backends" / "python", backend)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = shutil.copy(home / "python_backend_stubs" / version / "triton_python_backend_stub", backend)
    Path(stub).chmod(0o755)
    libraries = [sysconfig.get_config_var("LIBDIR"), home.parents[1] / "nvidia_pytriton.libs"]
    environment["LD_LIBRARY_PATH"] = ":".join(map(str, libraries))
    program = scratch / "tritonserver"
    shutil.copy(home / "bin" / "tritonserver", program)  # wheels lose the right to run it
    program.chmod(0o755)
    return [str(program), f"--backend-directory={backend.parent}"], environment


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
