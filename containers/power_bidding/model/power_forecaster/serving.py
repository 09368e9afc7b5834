"""`serve`: the endpoint's server, without TensorFlow, LightGBM and SciPy."""

from __future__ import annotations

import logging
import os
import signal
import sys

from waitress.server import create_server

from toolkit import sagemaker

from . import trained
from .application import LARGEST, application

log = logging.getLogger(__name__)

THREADS = 4


def serve() -> None:
    """Serve until SIGTERM. Raises `FatalError` if the model cannot be loaded."""
    model = trained.read(sagemaker.MODEL)
    host = os.environ.get("BIND_HOST", "0.0.0.0")  # noqa: S104 - SageMaker reaches a container from outside
    port = int(os.environ.get("SAGEMAKER_BIND_TO_PORT", "8080"))
    # above this limit waitress closes the connection; above `LARGEST` the application responds with 413
    limit = LARGEST + 2**20
    server = create_server(
        application(model), host=host, port=port, threads=THREADS, max_request_body_size=limit
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    log.info("serving model %s on port %d", model.version, port)
    try:
        server.run()
    finally:
        server.close()
