"""Worker processes that parse rows and predict, so that the server's process can always answer `/ping`.

Parsing megabytes of CSV or JSON keeps Python's global lock for a long time. A worker is a separate process
with the model, connected by a socket pair. It exits when the server's end of the pair is closed.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path

from toolkit.failure import FatalError

MOST = 4
"""Maximum number of workers, unless `SAGEMAKER_MODEL_SERVER_WORKERS` sets their number."""


class WorkerLostError(Exception):
    """A worker has exited unexpectedly."""


class Workers:
    """A pool of workers. Each request uses a free worker, and waits if all workers are busy."""

    def __init__(self, count: int):
        """Start the workers and wait until all have loaded the model. Raises `FatalError`."""
        started = [_Worker() for _ in range(count)]
        self.targets = [worker.hello() for worker in started]
        self._free: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for worker in started:
            self._free.put(worker)

    def take(self) -> _Worker:
        return self._free.get()

    def give_back(self, worker: _Worker) -> None:
        self._free.put(worker)


class _Worker:
    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "snowflake_xgboost", "predict", str(theirs.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        self._line = Connection(ours.detach())

    def hello(self) -> str:
        """Wait until the model is loaded; return the name of its target column. Raises `FatalError`."""
        loaded, told = self._exchange()
        if not loaded:
            raise FatalError(told)
        return told

    def predict(self, body: bytes, kind: str, answer: str) -> tuple[bool, str]:
        """Return true and the response's body, or false and the error. Raises `WorkerLostError`."""
        return self._exchange((body, kind, answer))

    def _exchange(self, request: tuple[bytes, str, str] | None = None) -> tuple[bool, str]:
        """Send the request, if any, and receive the answer. Raises `WorkerLostError`."""
        try:
            if request is not None:
                self._line.send(request)
            return self._line.recv()
        except (EOFError, OSError):
            raise WorkerLostError(f"a worker process ended with code {self._process.wait()}") from None


def count() -> int:
    """Return the number of workers on this machine."""
    asked = os.environ.get("SAGEMAKER_MODEL_SERVER_WORKERS", "")
    if asked.isdigit() and int(asked):
        return int(asked)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST)


def run(descriptor: int, folder: Path) -> int:
    """Answer requests on the connection until its other end is closed."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the worker exits when the connection closes
    line = Connection(descriptor)
    from .model import Model  # imported here, because the import is slow
    from .rows import JSON, RequestError, features

    with contextlib.suppress(EOFError, OSError):
        try:
            model = Model.load(folder, threads=1)
        except FatalError as failure:
            line.send((False, str(failure)))
            return 1
        line.send((True, model.preparation.target))
        while True:
            body, kind, answer = line.recv()
            try:
                predictions = model.predict(features(body, kind, model.preparation)).tolist()
            except RequestError as problem:
                line.send((False, str(problem)))
                continue
            if answer == JSON:
                line.send((True, json.dumps({"predictions": predictions})))
            else:
                line.send((True, "".join(f"{value!r}\n" for value in predictions)))
    return 0
