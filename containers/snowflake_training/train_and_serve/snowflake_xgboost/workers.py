"""The processes that read rows and predict, so that the one that answers `/ping` never waits for them.

Reading megabytes of CSV or JSON holds Python's global lock for long stretches. A worker is a process of its
own with the model in it, connected by a socket pair; it ends when the other end is closed.
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

from toolkit.failure import Failure

MOST = 4
"""Workers by default, on machines of more cores; `SAGEMAKER_MODEL_SERVER_WORKERS` says otherwise."""


class WorkerLostError(Exception):
    """A worker ended by itself."""


class Workers:
    """Each request goes to one free worker, and waits while there is none."""

    def __init__(self, count: int):
        """Start the workers and wait until all hold the model. Raises `Failure` when one cannot load it."""
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
        """The model's target. Raises `Failure`."""
        loaded, told = self._exchange()
        if not loaded:
            raise Failure(told)
        return told

    def predict(self, body: bytes, kind: str, answer: str) -> tuple[bool, str]:
        """Whether it worked, then the answer's body or the reason. Raises `WorkerLostError`."""
        return self._exchange((body, kind, answer))

    def _exchange(self, request: tuple[bytes, str, str] | None = None) -> tuple[bool, str]:
        """Send the request, if any, and receive the answer. Raises `WorkerLostError`."""
        try:
            if request is not None:
                self._line.send(request)
            return self._line.recv()
        except (EOFError, OSError):
            raise WorkerLostError(f"a process that predicts ended with {self._process.wait()}") from None


def count() -> int:
    """How many workers this machine gets."""
    asked = os.environ.get("SAGEMAKER_MODEL_SERVER_WORKERS", "")
    if asked.isdigit() and int(asked):
        return int(asked)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST)


def run(descriptor: int, folder: Path) -> int:
    """Predict what comes along the connection, until its other end is closed."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the end of the connection says when
    line = Connection(descriptor)
    from .model import Model  # slow to import: only here
    from .rows import JSON, BadRequest, features

    with contextlib.suppress(EOFError, OSError):
        try:
            model = Model.load(folder, threads=1)
        except Failure as failure:
            line.send((False, str(failure)))
            return 1
        line.send((True, model.preparation.target))
        while True:
            body, kind, answer = line.recv()
            try:
                predictions = model.predict(features(body, kind, model.preparation)).tolist()
            except BadRequest as problem:
                line.send((False, str(problem)))
                continue
            if answer == JSON:
                line.send((True, json.dumps({"predictions": predictions})))
            else:
                line.send((True, "".join(f"{value!r}\n" for value in predictions)))
    return 0
