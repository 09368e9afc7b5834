"""`python -m subset_training train`, which SageMaker runs."""

from __future__ import annotations

import logging
import os
import sys

from toolkit import sagemaker
from toolkit.failure import FatalError, Stopped, scrub
from toolkit.logs import log_to_stdout

log = logging.getLogger(__package__)


def main() -> int:
    """Run the training and return its exit code.

    A failure's reason is in SageMaker's failure file and in the last line of the log.
    """
    log_to_stdout("subset_training")
    try:
        if sys.argv[1:] != ["train"]:
            raise FatalError(f"the argument must be train, got {' '.join(sys.argv[1:]) or 'nothing'}")

        from .settings import Settings  # after the check, as PyTorch's import is slow

        settings = Settings.read(sagemaker.hyperparameters())

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
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # does not wait for threads: those of `torch.distributed` may wait for a lost host
