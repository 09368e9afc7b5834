"""The MLflow server of one app: a process that listens on a Unix socket in the cloud's folder.

It does not listen on the network, and other users of this machine cannot reach the socket. Requests come
through SageMaker's address, where signatures and the caller's permissions are checked.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from local.sagemaker.platform import Platform
from tooling import envs

START_SECONDS = 300
"""Timeout of a server's start, which takes about 10 seconds or more. The first start also installs MLflow."""
SECONDS = 60
"""Timeout of a request."""


class ServerError(Exception):
    """The MLflow server does not start or does not answer."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float):
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        # Relative to the folder's descriptor: the full path may exceed the limit of a socket's path
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self.sock.connect(f"/proc/self/fd/{folder}/{self._path.name}")
        finally:
            os.close(folder)


class MlflowServer:
    """The MLflow server of one app, started at the first request and again after a crash. Thread-safe."""

    def __init__(self, platform: Platform, folder: Path, artifacts: str):
        """
        :param folder: folder of the database, the socket and the log
        :param artifacts: S3 URI below which clients store artifacts
        """
        self._platform, self._folder, self._artifacts = platform, folder, artifacts
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, method: str, target: str, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        """Send a request. Return status, headers and body of the response. Raises ServerError."""
        self._start()
        connection = _Connection(self._folder / "socket", SECONDS)
        try:
            headers = {"Content-Type": "application/json"} if body else {}
            connection.request(method, target, body or None, headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise ServerError(f"the MLflow server does not answer: {error}") from error
        finally:
            connection.close()

    def stop(self) -> None:
        """Stop the server. Its database stays."""
        with self._lock:
            if self._process is None:
                return
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._platform.release(self._process.pid)
            self._process = None

    def _start(self) -> None:
        """Start the server unless it runs, and wait until it is ready. Raises ServerError."""
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                return
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self._folder / "socket").unlink(missing_ok=True)
            with (self._folder / "log").open("ab") as log:
                self._process = subprocess.Popen(
                    [
                        *(envs.environment("mlflow"), "-I", "-m", "gunicorn", "mlflow.server:app"),
                        *("--bind", "unix:socket", "--umask", "0077", "--threads", "4"),
                        "--no-control-socket",
                    ],
                    cwd=self._folder,
                    env={
                        "PATH": os.environ["PATH"],
                        "HOME": str(self._folder),
                        "_MLFLOW_SERVER_FILE_STORE": "sqlite:///mlflow.db",
                        "_MLFLOW_SERVER_ARTIFACT_ROOT": self._artifacts,
                        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                        "MLFLOW_DISABLE_TELEMETRY": "true",
                        "DO_NOT_TRACK": "true",
                    },
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            self._platform.adopt(self._process.pid)
            self._wait()

    def _wait(self) -> None:
        assert self._process is not None  # noqa: S101 - narrows the type
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            if self._process.poll() is not None:
                raise ServerError(f"the MLflow server exited; see {self._folder / 'log'}")
            connection = _Connection(self._folder / "socket", SECONDS)
            try:
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    return
            except (OSError, http.client.HTTPException):
                time.sleep(0.1)
            finally:
                connection.close()
        raise ServerError(f"the MLflow server does not answer; see {self._folder / 'log'}")
