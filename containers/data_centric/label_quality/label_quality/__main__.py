"""`python -m label_quality --attribute animal`, which SageMaker runs in a processing job."""

from __future__ import annotations

import logging
import sys

from toolkit import sagemaker
from toolkit.failure import FatalError, scrub
from toolkit.logs import log_to_stdout

from .settings import Settings, named

log = logging.getLogger(__package__)


def main(arguments: list[str]) -> int:
    """Run the job and return its exit code.

    A failure's reason is the job's exit message and the last line of the log.
    """
    log_to_stdout("label_quality")
    try:
        settings = Settings.read(named(arguments))

        # imported here, and `job` only after the inputs are read, so that invalid input is reported before
        # the slow import of scikit-learn
        from .inputs import read

        inputs = read(settings)

        from .job import run

        run(inputs, settings)
    except FatalError as failure:
        return fail(failure)
    except Exception as error:
        log.exception("the job failed")
        return fail(f"{type(error).__name__}: {error}")
    return 0


def fail(reason: object) -> int:
    log.error("%s", scrub(reason))
    sagemaker.write_message(reason)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
