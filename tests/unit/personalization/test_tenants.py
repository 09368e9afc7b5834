"""The benchmark's attempts to access other users' data find each leak of an API."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from scenarios.personalization.people import Person
from scenarios.personalization.tenants import Attempt, Owned, attempts

VICTIM, MODEL, GENERATION = "7d0c1a2e-victim", "01m83pdmrfhym891chdj1g0s4z", "01m83pdn0d1p8hv6ftth1asqrc"
OWN = "01m83pdq7x1p8hv6ftth1asqrd"
Answer = tuple[int, dict[str, Any]]
Api = Callable[[str, str, dict[str, str], dict[str, Any]], Answer]


def strict(method: str, path: str, headers: dict[str, str], body: dict[str, Any]) -> Answer:
    """Answer like a correct API: with the same error for all resources that do not belong to the caller."""
    if not path.startswith("/api/"):
        return 403, {}
    if headers.get("Authorization") != f"Bearer {token()}":
        return 401, {"message": "Unauthorized"}
    if path == f"/api/models/{OWN}/generations" and set(body) - {"prompt"}:
        return 422, {"error": {"field": "body"}}
    return (200, {"models": []}) if path.partition("?")[0] == "/api/models" else (404, {"error": "nothing"})


def token() -> str:
    parts = ({"alg": "RS256"}, {"sub": "thief"})
    packed = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join((*packed, "signed"))


@pytest.fixture
def tried() -> Iterator[Callable[[Api], list[Attempt]]]:
    """A function that runs all attempts on a server that answers with `api`."""
    servers = []

    def run(api: Api) -> list[Attempt]:
        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                content = self.rfile.read(int(self.headers.get("content-length", 0)))
                json_body = self.headers.get("content-type") == "application/json"
                body = json.loads(content) if json_body and content else {}
                status, told = api(self.command, self.path, dict(self.headers), body)
                self.send_response(status)
                data = json.dumps(told).encode()
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_DELETE = answer

            def log_message(self, format: str, *args: Any) -> None:
                pass

        servers.append(server := ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        place = f"http://127.0.0.1:{server.server_address[1]}"
        victim = Owned(
            user=VICTIM,
            model=MODEL,
            generation=GENERATION,
            words=("a cat",),
            pictures=(f"{place}/data/generations/x/0.png?signature=s",),
            upload={"url": f"{place}/data", "fields": {"key": "uploads/x/00", "Content-Type": "image/png"}},
        )
        return attempts(Person("thief", place, token(), "thief"), OWN, victim)

    yield run
    for server in servers:
        server.shutdown()
        server.server_close()


def test_strict_api_has_no_escapes(tried):
    made = tried(strict)
    assert len(made) >= 70
    assert [attempt.what for attempt in made if attempt.escaped] == []


LEAKS: dict[str, Callable[[str, str, dict[str, str], dict[str, Any]], Answer | None]] = {
    "shows another's model": lambda method, path, headers, body: (
        (200, {"model": MODEL}) if (method, path) == ("GET", f"/api/models/{MODEL}") else None
    ),
    "tells that it exists": lambda method, path, headers, body: (
        (404, {"error": "not yours"}) if path.startswith(f"/api/models/{MODEL}") else None
    ),
    "deletes it": lambda method, path, headers, body: (
        (202, {}) if (method, path) == ("DELETE", f"/api/models/{MODEL}") else None
    ),
    "follows a forged target": lambda method, path, headers, body: (201, {}) if "target" in body else None,
    "believes a header": lambda method, path, headers, body: (
        (200, {"model": MODEL}) if headers.get("X-User") == VICTIM else None
    ),
    "lists by who is asked for": lambda method, path, headers, body: (
        (200, {"models": [{"name": "a cat"}]}) if path.endswith(f"?user={VICTIM}") else None
    ),
    "believes unsigned claims": lambda method, path, headers, body: (
        (200, {}) if headers.get("Authorization", "").endswith(".") else None
    ),
    "needs no token": lambda method, path, headers, body: (
        (200, {}) if path.startswith("/api/") and "Authorization" not in headers else None
    ),
    "needs no signature": lambda method, path, headers, body: (
        (200, {}) if method == "GET" and path.startswith("/data/") and "?" not in path else None
    ),
    "signs for every object": lambda method, path, headers, body: (
        (200, {}) if path.startswith("/data/adapters/") or path.startswith("/adapters/") else None
    ),
    "takes any upload": lambda method, path, headers, body: (
        (204, {}) if (method, path) == ("POST", "/data") else None
    ),
}


@pytest.mark.parametrize("leak", LEAKS)
def test_leaking_api_has_escapes(tried, leak: str):
    def leaking(method: str, path: str, headers: dict[str, str], body: dict[str, Any]) -> Answer:
        return LEAKS[leak](method, path, headers, body) or strict(method, path, headers, body)

    assert [attempt.what for attempt in tried(leaking) if attempt.escaped]
