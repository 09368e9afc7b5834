"""`python -m portfolio_serve serve`, which SageMaker runs in the container."""

from __future__ import annotations

import logging
import os
import signal
import sys

from waitress.server import create_server

from toolkit import sagemaker
from toolkit.failure import FatalError, scrub
from toolkit.logs import log_to_stdout

from .application import LARGEST, application
from .predictor import Predictor
from .switch import Switch

log = logging.getLogger(__package__)

THREADS = 8


def serve() -> None:
    """Serve until SIGTERM. Raises `FatalError` if the model or `STOP_PARAMETER` is missing or invalid."""
    predictor = Predictor(sagemaker.MODEL)
    parameter = os.environ.get("STOP_PARAMETER")
    if not parameter:  # an endpoint that was deployed without a stop switch must not trade
        raise FatalError(
            "STOP_PARAMETER must name the stop switch's parameter in Systems Manager, or be none"
        )
    switch = Switch("" if parameter == "none" else parameter)
    host = os.environ.get("BIND_HOST", "0.0.0.0")  # noqa: S104 - SageMaker reaches a container from outside
    port = int(os.environ.get("SAGEMAKER_BIND_TO_PORT", "8080"))
    # above this limit waitress closes the connection; above `LARGEST` the application responds with 413
    limit = LARGEST + 2**20
    server = create_server(
        application(predictor, switch), host=host, port=port, threads=THREADS, max_request_body_size=limit
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    log.info("serving the policy %s on port %d", predictor.name, port)
    try:
        server.run()
    finally:
        server.close()


def main() -> int:
    log_to_stdout("portfolio_serve")
    try:
        if sys.argv[1:] != ["serve"]:
            raise FatalError(f"the argument must be serve, got {' '.join(sys.argv[1:]) or 'nothing'}")
        serve()
    except FatalError as failure:
        log.error("%s", scrub(failure))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
