"""The commands of the image: `train`, `evaluate` and `serve`, which SageMaker runs, and `backtest`."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable

from toolkit import sagemaker
from toolkit.failure import FatalError, Stopped, scrub
from toolkit.logs import log_to_stdout

log = logging.getLogger(__package__)


def _backtest(arguments: list[str]) -> int:
    from . import backtest

    return backtest.main(arguments)


def _train(_: list[str]) -> int:
    from .settings import Settings

    settings = Settings.read(sagemaker.hyperparameters())

    from .train import run  # after the check of the settings, because importing TensorFlow takes seconds

    run(settings)
    return 0


def _evaluate(arguments: list[str]) -> int:
    from . import evaluate

    evaluate.main(arguments)
    return 0


def _serve(_: list[str]) -> int:
    from .serving import serve

    serve()
    return 0


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "train": _train,
    "evaluate": _evaluate,
    "serve": _serve,
    "backtest": _backtest,
}


def main(arguments: list[str]) -> int:
    """Run a command and return its exit code.

    A failure's reason is in the last line of the log; with `train` and `evaluate` also in the file from which
    SageMaker reads it.
    """
    if not arguments or arguments[0] not in COMMANDS:
        print(f"usage: python -m power_forecaster {'|'.join(COMMANDS)} ...", file=sys.stderr)  # noqa: T201
        return 2
    # set before numerical libraries are imported; models of this size are slower with more threads
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    log_to_stdout("power_forecaster")
    command = arguments[0]
    try:
        return COMMANDS[command](arguments[1:])
    except Stopped:
        return 0
    except FatalError as failure:
        return fail(failure, command)
    except Exception as error:
        log.exception("%s failed", command)
        return fail(f"{type(error).__name__}: {error}", command)


def fail(reason: object, command: str) -> int:
    log.error("%s", scrub(reason))
    if command == "train":
        sagemaker.write_failure(reason)
    elif command == "evaluate":
        sagemaker.write_message(reason)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
