"""Names below `localhost` in this process: loopback addresses, as RFC 6761 says, whatever the resolver knows.

A browser resolves `d123.cloudfront.localhost` by itself. The C library's resolver asks a name server unless
the machine is set up for it, so the addresses that the local cloud hands out would not be found.
"""

from __future__ import annotations

import functools
import socket
from typing import Any


def resolve_localhost() -> None:
    """Make `socket.getaddrinfo` resolve them; doing it twice does nothing more."""
    resolve = socket.getaddrinfo
    if getattr(resolve, "knows_localhost", False):
        return

    @functools.wraps(resolve)
    def resolved(host: Any, *arguments: Any, **named: Any) -> Any:
        name = host.decode("ascii", "replace") if isinstance(host, bytes) else host
        inside = isinstance(name, str) and name.rstrip(".").lower().endswith(".localhost")
        return resolve("127.0.0.1" if inside else host, *arguments, **named)

    resolved.knows_localhost = True  # type: ignore[attr-defined]
    socket.getaddrinfo = resolved
