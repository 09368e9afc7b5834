"""Requests from browsers: which web pages may send them, and AWS origins for pages of distributions."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

Headers = list[tuple[bytes, bytes]]
Application = Callable[[dict, Any, Any], Awaitable[None]]

_DISTRIBUTION = re.compile(r"https?://([a-z0-9]+)\.cloudfront\.localhost(?::\d+)?")


def from_the_web(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Return whether a request comes from a web page of another machine, through a browser on this one.

    The loopback interface keeps other machines out, but not web pages in a browser on this machine. MiniStack
    answers pages of every origin, and some requests need no signature. A host name that resolves to 127.0.0.1
    (DNS rebinding) does not count as this machine.
    """
    said = {name.lower(): value.decode("latin-1") for name, value in headers}
    origin = said.get(b"origin")
    if origin is not None and not _this_machine(origin):
        return True
    if origin is None and said.get(b"sec-fetch-site") == "cross-site":
        return True
    return b"host" in said and not _this_machine(f"//{said[b'host']}")


def _this_machine(url: str) -> bool:
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or host.endswith(".localhost") or ip_address(host).is_loopback
    except ValueError:
        return False


async def as_on_aws(application: Application, scope: dict, receive: Any, send: Any) -> None:
    """Answer a request of a CloudFront page as if the page had its AWS origin, which CORS rules name.

    The page's origin is `http://LABEL.cloudfront.localhost:PORT` on this machine, and
    `https://LABEL.cloudfront.net` on AWS. The response's headers have the local origin."""
    given = dict(scope["headers"]).get(b"origin", b"")
    page = _DISTRIBUTION.fullmatch(given.decode("latin-1"))
    if page is None:
        return await application(scope, receive, send)
    origin = f"https://{page[1]}.cloudfront.net".encode()
    headers = [(name, origin if name == b"origin" else value) for name, value in scope["headers"]]

    async def send_back(message: dict) -> None:
        if message["type"] == "http.response.start":
            back = [(name, given if value == origin else value) for name, value in message["headers"]]
            message = message | {"headers": back}
        await send(message)

    await application(scope | {"headers": headers}, receive, send_back)
