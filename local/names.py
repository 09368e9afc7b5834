"""Resolution of names below `localhost` to the loopback address in this process, as RFC 6761 specifies.

Browsers resolve `d123.cloudfront.localhost` themselves. The C library's resolver asks a name server unless
the machine is configured for such names, and would not find the host names in the URLs that the local cloud
returns.
"""

from __future__ import annotations

import functools
import socket
from typing import Any


def resolve_localhost() -> None:
    """Make `socket.getaddrinfo` resolve names below `localhost` to 127.0.0.1. A second call has no effect."""
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
