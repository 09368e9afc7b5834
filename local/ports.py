"""Free ports of 127.0.0.1. Standard library only: every environment of the local cloud uses it."""

from __future__ import annotations

import socket


def free_port(preferred: int = 0) -> int:
    """Return `preferred` if it is free, else a free port that the operating system chooses."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", preferred))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
