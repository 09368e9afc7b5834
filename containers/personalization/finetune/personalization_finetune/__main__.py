"""`python -m personalization_finetune train`, which SageMaker runs.

`train` supervises a worker process. If the worker is killed by a signal, for example because the machine ran
out of memory, the worker's current task fails, and the next task starts in a new worker.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from toolkit import sagemaker
from toolkit.failure import FatalError, Stopped, scrub
from toolkit.logs import log_to_stdout

from . import tasks
from .results import OUT_OF_MEMORY, finish
from .settings import Settings

log = logging.getLogger(__package__)

GRACE = 100
"""Seconds from SIGTERM until the worker is killed; SageMaker allows 120."""


def mine() -> list[tasks.Task]:
    """Return this host's tasks without a result, in the order of `tasks.json`."""
    cluster = sagemaker.cluster()
    found = tasks.read(sagemaker.CHANNELS / "tasks" / "tasks.json", cluster.size)
    return [task for task in found if task.host == cluster.rank and not result(task).exists()]


def result(task: tasks.Task) -> Path:
    return sagemaker.CHECKPOINTS / task.request / "result.json"


def train() -> int:
    """Run this host's tasks; return the exit code. It is 0 after SIGTERM, and if each task has a result, even
    one that reports a failure."""
    try:
        Settings.read(sagemaker.hyperparameters())  # reports invalid settings before slow imports
        left = mine()
    except FatalError as failure:
        return fail(failure)
    stopping: list[float] = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(time.monotonic()))
    with tempfile.TemporaryDirectory() as scratch:  # removed even if the worker is killed
        while left and not stopping:
            code = watched(stopping, scratch)
            if stopping:
                return 0
            if code == 0:
                left = mine()
                return fail("the worker ended before all tasks had a result") if left else 0
            if code > 0:
                return (
                    1
                    if sagemaker.FAILURE.exists()
                    else fail(f"the worker ended with exit code {code}; see the log")
                )
            lost = mine()
            if len(lost) == len(left) and not (sagemaker.CHECKPOINTS / lost[0].request).exists():
                return fail(f"the worker was ended by {signal.Signals(-code).name} before its first task")
            give_up(lost[0], code)
            left = lost[1:]
    return 0


def watched(stopping: list[float], scratch: str) -> int:
    """Run the worker to its end and forward SIGTERM to it; return its exit code."""
    command = [sys.executable, "-m", "personalization_finetune", "work", scratch]
    worker = subprocess.Popen(command)
    told = False
    while worker.poll() is None:
        time.sleep(0.05)
        if stopping and not told:
            worker.terminate()
            told = True
        if stopping and time.monotonic() - stopping[0] > GRACE:
            worker.kill()
    return worker.returncode


def give_up(task: tasks.Task, code: int) -> None:
    """Write the result of a task whose worker was killed by a signal."""
    log.error("[%s] the worker was ended by %s", task.request, signal.Signals(-code).name)
    finish(task, result(task).parent, "", OUT_OF_MEMORY, 0.0, {}, task.steps)


def work(scratch: str) -> int:
    from toolkit.stopping import Interruption

    from . import base

    stop = Interruption()
    try:
        settings = Settings.read(sagemaker.hyperparameters())
        loaded = base.load(settings, sagemaker.CHANNELS / "base")
        log.info("loaded the base %s on %s as %s", loaded.id, loaded.device, loaded.dtype)
        from . import finetune  # imports peft, which is not needed if the base cannot be loaded

        for task in mine():
            stop.check()
            finetune.run(
                task,
                settings,
                loaded,
                sagemaker.CHANNELS / "images",
                Path(scratch),
                result(task).parent,
                stop,
            )
    except Stopped:
        log.info("stopped after SIGTERM; unfinished tasks can continue from their checkpoints")
        return 0
    except FatalError as failure:
        return fail(failure)
    except Exception as error:
        log.exception("the worker failed")
        return fail(f"{type(error).__name__}: {error}")
    return 0


def fail(reason: object) -> int:
    log.error("%s", scrub(reason))
    sagemaker.write_failure(reason)
    return 1


def main() -> int:
    log_to_stdout("personalization_finetune")
    match sys.argv[1:]:
        case ["train"]:
            return train()
        case ["work", scratch]:
            return work(scratch)
    print("usage: python -m personalization_finetune train", file=sys.stderr)  # noqa: T201 - usage
    return 2


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # waiting threads do not occupy cores
    sys.exit(main())
