"""`python -m portfolio_trader COMMAND`: SageMaker runs `train`, and the build of the image runs `compile`."""

from __future__ import annotations

import logging
import os
import sys

from toolkit import sagemaker
from toolkit.failure import FatalError, Stopped, scrub
from toolkit.logs import log_to_stdout

from .settings import Settings

log = logging.getLogger(__package__)


def main() -> int:
    """Run a command and return its exit code.

    A failure's reason is in SageMaker's failure file and in the last line of the log.
    """
    log_to_stdout("portfolio_trader")
    if sys.argv[1:] == ["compile"]:
        from .precompile import precompile

        precompile()
        return 0
    try:
        if sys.argv[1:] != ["train"]:
            raise FatalError(f"the argument must be train, got {' '.join(sys.argv[1:]) or 'nothing'}")
        settings = Settings.read(sagemaker.hyperparameters())
        threads = str(settings.threads or os.cpu_count() or 1)
        # set before numerical libraries are imported; OpenBLAS has one thread, so that its sums are the same
        # on every instance
        for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
            os.environ.setdefault(name, threads)
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

        from .train import run

        run(settings)
    except Stopped:
        return 0
    except FatalError as failure:
        return fail(failure)
    except Exception as error:
        log.exception("training failed")
        return fail(f"{type(error).__name__}: {error}")
    return 0


def fail(reason: object) -> int:
    log.error("%s", scrub(reason))
    sagemaker.write_failure(reason)
    return 1


if __name__ == "__main__":
    sys.exit(main())
