"""`python -m snowflake_xgboost train|serve`, which SageMaker runs.

`train` supervises a worker process. When another host fails, XGBoost ends the worker or blocks it
indefinitely, so only a separate process can write the failure reason. The worker is not a fork, because forks
do not work with XGBoost's threads.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
import time

from toolkit import sagemaker
from toolkit.failure import FatalError, Stopped, scrub
from toolkit.logs import log_to_stdout
from toolkit.sagemaker import Cluster
from toolkit.watch import Watch

from .failure import reason_of
from .settings import Settings

log = logging.getLogger(__package__)

LOSS_GRACE = float(os.environ.get("GROUNDPLAN_LOSS_GRACE_SECONDS") or 10)
"""Seconds from the loss of another host until the worker is killed. In this time, the worker may exit with a
more precise reason."""

GRACE = 100
"""Seconds from SIGTERM until the worker is killed; SageMaker allows 120."""

HOST_LOST = 3
"""Exit code of a worker that was interrupted by the loss of another host. The log of that host has the
reason."""


def train() -> int:
    """Run the training and return its exit code.

    A failure's reason is in SageMaker's failure file and in the last line of the log.
    """
    reason = _train()  # returns after the tracker, which also logs, has stopped
    return 0 if reason is None else fail(reason)


def _train() -> str | None:
    """Run the worker; return the failure reason, or None."""
    try:
        settings, cluster = Settings.read(sagemaker.hyperparameters()), sagemaker.cluster()
    except FatalError as failure:
        return str(failure)
    stopping: list[float] = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(time.monotonic()))
    tracker, watch = None, Watch(cluster)
    if settings.mode == "train" and cluster.size > 1:
        try:
            if cluster.first:
                from .peers import start_tracker  # imports XGBoost, which is slow

                tracker = start_tracker(cluster, settings.timeout)
            watch.start()
        except FatalError as failure:
            return str(failure)
    with tempfile.TemporaryDirectory() as scratch:  # removed even if the worker is killed
        command = [sys.executable, "-m", "snowflake_xgboost", "work"]
        worker = subprocess.Popen(command, env=os.environ | {"TMPDIR": scratch})
        told = False
        while worker.poll() is None:
            time.sleep(0.05)
            if watch.missing_for() > LOSS_GRACE:
                worker.kill()
            if stopping and not told:
                worker.terminate()
                told = True
            if stopping and time.monotonic() - stopping[0] > GRACE:
                worker.kill()
    code = worker.returncode
    failed = code != 0 and not stopping
    if failed:
        sagemaker.write_failure(_reason(code, cluster, watch))
        watch.fail(sagemaker.FAILURE.read_text())
    elif code == 0:
        watch.shut_down()
    if tracker and not stopping and code >= 0:
        from .peers import end_tracker

        end_tracker(tracker, watch)
    return sagemaker.FAILURE.read_text() if failed or sagemaker.FAILURE.exists() else None


def _reason(code: int, cluster: Cluster, watch: Watch) -> str:
    """Return the failure reason: that of the worker, else that of the lost host, else the exit code's."""
    if sagemaker.FAILURE.exists():
        return sagemaker.FAILURE.read_text()
    if cluster.size > 1 and code != -signal.SIGKILL:  # XGBoost may have exited because a host was lost
        until = time.monotonic() + LOSS_GRACE
        while watch.lost is None and time.monotonic() < until:
            time.sleep(0.05)
    if watch.lost is not None:
        return watch.reason or f"host {watch.lost} was lost while other hosts waited for it; see its log"
    if code == HOST_LOST:
        return "a host of the job was lost while other hosts waited for it; see its log"
    if code == -signal.SIGKILL:
        return f"training on host {cluster.host} was ended by SIGKILL: most likely it ran out of memory"
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return f"training on host {cluster.host} {how}; see its log"


def work() -> int:
    """Train or evaluate in the worker; return the exit code. With code 1, the failure file has the reason."""
    try:
        settings = Settings.read(sagemaker.hyperparameters())
        if settings.mode == "evaluate":
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
            from .evaluate import run

            run(settings)
        else:
            from .train import run

            run(settings, sagemaker.cluster())
    except Stopped:
        return 0
    except FatalError as failure:
        return leave(failure)
    except Exception as error:
        log.exception("training failed")
        # XGBoost's errors name the source file; this folder is the communication between hosts
        if "/collective/" in str(error):
            return HOST_LOST
        return leave(f"host {sagemaker.cluster().host}: {reason_of(error)}")
    return 0


def leave(reason: object) -> int:
    sagemaker.write_failure(reason)
    return 1


def fail(reason: object) -> int:
    log.error("%s", scrub(reason))
    sagemaker.write_failure(reason)
    return 1


def main() -> int:
    log_to_stdout("snowflake_xgboost")
    what = sys.argv[1] if len(sys.argv) > 1 else ""
    if what == "predict":
        from .workers import run

        return run(int(sys.argv[2]), sagemaker.MODEL)
    if what == "train":
        return train()
    if what == "work":
        return work()
    if what == "serve":
        from .serve import serve

        try:
            return serve()
        except FatalError as failure:
            log.error("%s", scrub(failure))
            return 1
    print("usage: python -m snowflake_xgboost train|serve", file=sys.stderr)  # noqa: T201 - usage
    return 2


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # does not wait for threads: XGBoost's may wait for lost hosts
