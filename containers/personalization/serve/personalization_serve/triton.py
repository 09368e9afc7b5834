"""Triton as a child process: its model repository, start and stop, and requests to it.

Triton's API can load models, and models are programs, so access to the API means code execution. Therefore
Triton listens on no port, only on a Unix socket in a folder of mode 0700.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import json
import logging
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
import urllib3.connection

from toolkit.failure import FatalError

from .settings import RequestError, Settings

log = logging.getLogger(__name__)

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
"""KIND_CPU applies to Triton's tensors only. The Python model uses the GPU if there is one."""

BASE = "base"
GRACE = 20
"""Time that Triton is given to exit, in seconds."""
ABORTS = 3
"""Maximum number of starts if Triton aborts. Its Python backend does so occasionally on a loaded machine,
with `boost::interprocess::lock_exception`: https://github.com/triton-inference-server/server/issues/8882."""
PR_SET_PDEATHSIG = 1
SOCKET = "http"
"""Name of Triton's socket in its folder."""


class Triton:
    """The Triton process and its API. `start` loads the base."""

    def __init__(self, settings: Settings, scratch: Path):
        self.settings, self.scratch = settings, scratch
        self.repository = scratch / "repository"
        self.process: subprocess.Popen[bytes] | None = None
        self.state: dict[str, Any] = {}
        self._sockets = scratch / "socket"
        self._sockets.mkdir(mode=0o700)
        self._links = scratch / "links"
        self._links.mkdir()
        places = filter(None, sys.path)
        self._packages = [self._link(f"packages-{number}", path) for number, path in enumerate(places)]
        self._folder = os.open(self._sockets, os.O_PATH | os.O_DIRECTORY)
        self._http = _Pool("triton", maxsize=settings.queue, block=False, folder=self._folder)

    def start(self, pipeline: Path) -> None:
        """Start Triton and wait until the base is resident. Raises `FatalError`.

        Must be called from the main thread: Triton gets SIGTERM when the calling thread ends.
        """
        state = self._write(BASE, "ResidentPipeline", pipeline)
        command, environment = _installed(self.scratch)
        # Paths below `scratch` are relative, because the address of a socket has at most 107 bytes, and
        # Triton starts Python through a shell without quotes.
        command += [
            f"--model-repository={self.repository.name}",
            "--model-control-mode=explicit",
            f"--load-model={BASE}",
            # The model configurations are complete. With auto-complete, Triton would import each model twice
            "--disable-auto-complete-config",
            f"--http-address=unix:{self._sockets.name}/{SOCKET}",
            "--allow-grpc=false",
            "--allow-metrics=false",
            f"--exit-timeout-secs={GRACE}",
        ]
        for _ in range(ABORTS):
            if self._begin(command, environment):
                break
            log.warning("Triton aborted while it loaded the base: starting it again")
        else:
            raise FatalError(f"Triton aborted {ABORTS} times before the base was resident")
        self.state = json.loads(state.read_text())
        _seal(self.state["pid"])

    def _begin(self, command: list[str], environment: dict[str, str]) -> bool:
        """Start Triton and wait until the base is resident; False if Triton aborts. Raises `FatalError`."""
        prctl = ctypes.CDLL(None).prctl  # loaded before the fork: few calls are safe in the child process
        self.process = subprocess.Popen(
            command,
            env=environment,
            cwd=self.scratch,
            preexec_fn=lambda: prctl(PR_SET_PDEATHSIG, signal.SIGTERM),
            process_group=0,
        )
        while not self.ready(BASE):
            if (code := self.process.poll()) is None:
                time.sleep(0.05)
            elif code != -signal.SIGABRT:
                raise FatalError(f"Triton ended with exit code {code} before the base was resident")
            else:
                with contextlib.suppress(ProcessLookupError):  # the base's process may have exited too
                    os.killpg(self.process.pid, signal.SIGKILL)
                (self._sockets / SOCKET).unlink(missing_ok=True)
                return False
        return True

    def watch(self) -> str:
        """Wait until Triton or the base's process exits; return which one. Call it after `start`."""
        watched, pids = select.poll(), [self.state["pid"]]
        pids += [self.process.pid] if self.process else []
        for pid in pids:
            watched.register(os.pidfd_open(pid), select.POLLIN)
        watched.poll()
        return "Triton" if self.process and self.process.poll() is not None else "the base's process"

    def stop(self, gently: bool = True) -> None:
        """Stop Triton.

        :param gently: let Triton stop its models first; this does not succeed if a model's process was killed
        """
        if self.process is None:
            return
        if not gently:
            with contextlib.suppress(ProcessLookupError):  # all processes have exited
                os.killpg(self.process.pid, signal.SIGKILL)
        self._http.close()  # Triton waits for open connections
        self.process.terminate()
        try:
            self.process.wait(GRACE + 5)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def ready(self, model: str) -> bool:
        try:
            return self._http.request("GET", f"/v2/models/{model}/ready", retries=False).status == 200
        except urllib3.exceptions.HTTPError:
            return False

    def ask(self, request: dict[str, Any], model: str = BASE) -> dict[str, Any]:
        """Return the model's answer to a request. Paths in `request` are relative to `scratch`.

        Raises `RequestError` with 503 if too many requests wait, and with 400 if the model's weights are
        unusable; `FatalError` if Triton does not answer or returns another error.
        """
        tensor = {"name": "request", "shape": [1, 1], "datatype": "BYTES", "data": [json.dumps(request)]}
        answer = self._call("POST", f"models/{model}/infer", {"inputs": [tensor]})
        found = json.loads(answer["outputs"][0]["data"][0])
        if "refused" in found:
            raise RequestError(400, found["refused"])
        return found

    def load(self, model: str, pipeline: Path) -> None:
        """Load a user's full pipeline as a separate model. If loading fails, remove the model completely.

        Raises `FatalError`, and `OSError` if access to the model's shared memory cannot be restricted.
        """
        state = self._write(model, "Full", pipeline)
        try:
            self._call("POST", f"repository/models/{model}/load", {})
            _seal(json.loads(state.read_text())["pid"])
        except BaseException:
            with contextlib.suppress(FatalError):  # report the first error
                self.unload(model)
            self._remove(model)
            state.unlink(missing_ok=True)
            raise

    def unload(self, model: str) -> None:
        """Unload a model and wait at most `GRACE` seconds for its process to exit. Raises `FatalError`."""
        state = self.repository.parent / f"{model}.json"
        pid = json.loads(state.read_text())["pid"] if state.exists() else None
        self._call("POST", f"repository/models/{model}/unload", {})
        until = time.monotonic() + GRACE
        while pid and Path(f"/proc/{pid}").exists() and time.monotonic() < until:
            time.sleep(0.02)
        self._remove(model)
        state.unlink(missing_ok=True)

    def _write(self, model: str, kind: str, pipeline: Path) -> Path:
        version = self.repository / model / "1"
        version.mkdir(parents=True)
        # Triton's Python ignores PYTHONPATH, so the program adds this process's module search path
        program = [
            "import sys",
            f"sys.path[:0] = {self._packages!r}",  # before Triton's default paths
            f"from personalization_serve.backend import {kind} as TritonPythonModel",
        ]
        (version / "model.py").write_text("\n".join(program))
        state = self.scratch / f"{model}.json"
        settings = self.settings
        config = CONFIG.format(
            batch=settings.batch,
            delay=round(settings.delay * 1e6),
            queue=settings.queue,
            pipeline=self._link(f"pipeline-{model}", pipeline),
            state=state.name,
        )
        (self.repository / model / "config.pbtxt").write_text(config)
        return state

    def _remove(self, model: str) -> None:
        shutil.rmtree(self.repository / model, ignore_errors=True)
        (self._links / f"pipeline-{model}").unlink(missing_ok=True)

    def _link(self, name: str, target: Path | str) -> str:
        """Create a link and return its absolute ASCII path through Triton's working directory.

        Triton's Python ignores the locale and cannot encode paths that are not ASCII.
        """
        link = self._links / name
        link.symlink_to(target)
        return f"/proc/self/cwd/{link.relative_to(self.scratch)}"

    def _call(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            answer = self._http.request(
                method, f"/v2/{path}", body=json.dumps(body).encode(), retries=False, timeout=None
            )
        except urllib3.exceptions.HTTPError as error:
            raise FatalError(f"could not reach Triton: {error}") from None
        if answer.status == 200:
            return json.loads(answer.data or b"{}")
        reason = answer.data.decode(errors="replace")[:2000]
        if "maximum queue size" in reason:
            raise RequestError(503, "too many requests are waiting: retry later")
        raise FatalError(f"Triton returned status {answer.status}: {reason}")


def _installed(scratch: Path) -> tuple[list[str], dict[str, str]]:
    """Return the command of Triton with its backends, and its environment. Raises `FatalError`.

    NVIDIA's image has Triton in /opt/tritonserver. The wheel nvidia-pytriton contains the same program, the
    Python backend, and a stub for each version of Python; the stub must be copied to the backend's folder.
    """
    environment = dict(os.environ)
    if program := shutil.which("tritonserver", path=f"{os.environ.get('PATH', '')}:/opt/tritonserver/bin"):
        return [program], environment
    found = importlib.util.find_spec("pytriton")
    if found is None or not found.origin:
        raise FatalError("could not find Triton: neither tritonserver nor nvidia-pytriton is installed")
    home = Path(found.origin).parent / "tritonserver"
    backend = scratch / "backends" / "python"
    shutil.copytree(home / "backends" / "python", backend)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = shutil.copy(home / "python_backend_stubs" / version / "triton_python_backend_stub", backend)
    Path(stub).chmod(0o755)
    libraries = [sysconfig.get_config_var("LIBDIR"), home.parents[1] / "nvidia_pytriton.libs"]
    environment["LD_LIBRARY_PATH"] = ":".join(map(str, libraries))
    program = scratch / "tritonserver"
    shutil.copy(home / "bin" / "tritonserver", program)  # in the wheel it is not executable
    program.chmod(0o755)
    return [str(program), f"--backend-directory={backend.parent.name}"], environment


def _seal(pid: int) -> None:
    """Let only the owner access the shared memory through which Triton and a model exchange data.

    Triton creates the shared memory's files readable for all users, independent of the umask.
    """
    with contextlib.suppress(FileNotFoundError):  # the process has exited, which `watch` detects
        mapped = Path(f"/proc/{pid}/maps").read_text().split()
        for path in {Path(name) for name in mapped if name.startswith("/dev/shm/triton")}:  # noqa: S108
            path.chmod(0o600)


class _Connection(urllib3.connection.HTTPConnection):
    """Connection to Triton's socket through the descriptor of the socket's folder.

    The path of the socket itself may be too long for a socket address.
    """

    def __init__(self, *args: Any, folder: int, **options: Any):
        super().__init__(*args, **options)
        self._folder = folder

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        try:
            self.sock.connect(f"/proc/self/fd/{self._folder}/{SOCKET}")
        except OSError as error:
            raise urllib3.exceptions.NewConnectionError(self, str(error)) from None


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection  # pyright: ignore[reportAssignmentType] - the stubs allow no subclass
