"""`python -m snowflake_xgboost train|serve`, as SageMaker starts the container.

`train` watches over a process of its own that does the work. XGBoost ends the process it is in when
another host fails, or waits in it for ever, so whoever writes down the reason has to stand outside; and a
fresh process, not a fork, is what its threads need.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time

from . import sagemaker
from .failure import Failure, Stopped, scrub, trace
from .settings import Settings
from .watch import Watch

LAST_WORDS = 10
"""Seconds that the work has, once another host is lost, to end by itself with a better reason."""

GRACE = 100
"""Seconds between SIGTERM and the end; SageMaker allows 120."""


def train() -> int:
    """The exit code. On failure the reason is in SageMaker's failure file."""
    try:
        settings, cluster = Settings.read(sagemaker.hyperparameters()), sagemaker.cluster()
    except Failure as failure:
        return fail(failure)
    stopping: list[float] = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(time.monotonic()))
    tracker, watch = None, Watch(cluster)
    if settings.mode == "train" and cluster.size > 1:
        try:
            if cluster.first:
                from .peers import start_tracker  # imports XGBoost: not for a wrong setting

                tracker = start_tracker(cluster, settings.timeout)
            watch.start()
        except Failure as failure:
            return fail(failure)
    with tempfile.TemporaryDirectory() as scratch:  # gone however the worker ends
        command = [sys.executable, "-m", "snowflake_xgboost", "work"]
        worker = subprocess.Popen(command, env=os.environ | {"TMPDIR": scratch})
        told = given_up = False
        while worker.poll() is None:
            time.sleep(0.05)
            if watch.missing_for() > LAST_WORDS:
                worker.kill()
                given_up = True
            if stopping and not told:
                worker.terminate()
                told = True
            if stopping and time.monotonic() - stopping[0] > GRACE:
                worker.kill()
    if worker.returncode == 0:
        watch.say_farewell()
    if tracker and not stopping and worker.returncode >= 0:
        from .peers import end_tracker

        end_tracker(tracker)
    if stopping or worker.returncode == 0:
        return 1 if sagemaker.FAILURE.exists() else 0
    if given_up:
        return fail(f"host {watch.lost} was lost while the others waited for it; its log says why")
    code = worker.returncode
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    return fail(
        f"training on host {cluster.host} {how}: out of memory, or another host was lost; see the logs"
    )


def work() -> int:
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
    except Failure as failure:
        return fail(failure)
    except Exception as error:
        print(trace(), file=sys.stderr, flush=True)
        if "/collective/" in str(error):  # where XGBoost's hosts talk
            return fail("a host of the job was lost while the others waited for it; its log says why")
        return fail(f"{type(error).__name__}: {scrub(error)}")
    return 0


def fail(reason: object) -> int:
    print(f"failed: {scrub(reason)}", file=sys.stderr, flush=True)
    sagemaker.write_failure(reason)
    return 1


def main() -> int:
    what = sys.argv[1] if len(sys.argv) > 1 else ""
    if what == "train":
        return train()
    if what == "work":
        return work()
    if what == "serve":
        from .serve import serve

        try:
            return serve()
        except Failure as failure:
            print(f"failed: {failure}", file=sys.stderr, flush=True)
            return 1
    print("python -m snowflake_xgboost train|serve", file=sys.stderr)
    return 2


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # XGBoost's threads may still wait for hosts that are gone
