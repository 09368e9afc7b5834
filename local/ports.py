"""Ports of the loopback. Standard library only: every environment of the local cloud uses it."""

from __future__ import annotations

import socket


def free_port(preferred: int = 0) -> int:
    """`preferred` when nobody has it, else one that the system picks."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", preferred))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
