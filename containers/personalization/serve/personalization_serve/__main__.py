"""`python -m personalization_serve`, as SageMaker starts the container.

Answers `/ping` by 503 at once and by 200 when the base is resident. Ends with 0 on SIGTERM, after the
requests under way, and with 1 when there is no base, or when Triton or the base dies: SageMaker then starts
it anew.
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

from toolkit.failure import Failure, scrub
from toolkit.logs import log_to_stdout

from . import base, device
from .front import LARGEST, Front
from .models import Models
from .settings import Settings
from .triton import Triton

log = logging.getLogger(__package__)

GRACE = 60
"""Seconds that requests under way get when the container is to end."""


def serve() -> int:
    """The exit code."""
    settings = Settings.read()
    front = Front(settings)
    # A thread for every request that may wait in Triton, and some for /ping and the loading of models.
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
            raise Failure(f"{triton.watch()} died")
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
    except Failure as failure:
        log.error("%s", scrub(failure))
        return 1


if __name__ == "__main__":
    sys.exit(main())
