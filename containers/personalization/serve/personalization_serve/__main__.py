"""`python -m personalization_serve`, which SageMaker runs.

Answers `/ping` with 503 until the base is resident, that is loaded in memory, then with 200. After SIGTERM,
finishes the requests in flight and exits with 0. Exits with 1 if the base cannot be loaded, or if Triton or
the base's process exits; then SageMaker restarts the container.
"""

from __future__ import annotations

import logging
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from waitress.server import create_server

from toolkit.failure import FatalError, scrub
from toolkit.logs import log_to_stdout

from . import base, device
from .front import LARGEST, Front
from .models import Models
from .settings import Settings
from .triton import Triton

log = logging.getLogger(__package__)

GRACE = 60
"""Time that requests in flight are given to finish after SIGTERM, in seconds."""


def serve() -> int:
    """Serve until SIGTERM, then raise `SystemExit`. Raises `FatalError` if Triton or the base fails."""
    settings = Settings.read()
    front = Front(settings)
    # One thread for each request that may wait in Triton, and some for /ping and model loading
    server = create_server(
        front.app,
        host=settings.host,
        port=settings.port,
        threads=settings.queue + 16,
        max_request_body_size=LARGEST + 1,
    )
    threading.Thread(target=server.run, daemon=True).start()
    with tempfile.TemporaryDirectory(prefix="personalization-") as scratch:
        triton = Triton(settings, Path(scratch))
        try:
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
            begun = time.monotonic()
            device.check(settings.device)
            fetched = base.fetch(settings.base, Path(scratch))
            triton.start(fetched.folder)
            front.models = Models(settings, triton, fetched, Path(scratch))
            taken = f"{front.models.budget} bytes for models on the {triton.state['device']}"
            log.info("base %s resident after %.1f s, %s", fetched.id, time.monotonic() - begun, taken)
            raise FatalError(f"{triton.watch()} exited unexpectedly")
        finally:
            front.stopping = True
            asked = sys.exc_info()[0] is SystemExit
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            if front.models and asked:
                front.models.drain(GRACE)
            triton.stop(gently=asked)


def main() -> int:
    log_to_stdout("personalization_serve")
    try:
        return serve()
    except FatalError as failure:
        log.error("%s", scrub(failure))
        return 1


if __name__ == "__main__":
    sys.exit(main())
