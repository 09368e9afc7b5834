"""Attempts of a user to access another user's data, on every route and with every kind of reference."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import requests

from scenarios.personalization.people import SECONDS, Person

ABSENT = "0" * 26
"""A well-formed id that does not exist."""


@dataclass(frozen=True)
class Attempt:
    """An attempt: the request, the status, and whether the response revealed the other user's data."""

    what: str
    status: int
    escaped: bool


@dataclass(frozen=True)
class Owned:
    """The victim's data: ids, and texts and URLs that only the victim may see."""

    user: str
    model: str
    generation: str
    words: tuple[str, ...]
    pictures: tuple[str, ...]  # presigned URLs
    upload: dict[str, Any]


Never = tuple[str, ...]
"""The responses to requests for ids and routes that do not exist."""


def attempts(thief: Person, own_model: str, victim: Owned) -> list[Attempt]:
    """Make all attempts, and return them. `own_model` is a ready model of the thief, for forged requests."""
    return [*_routes(thief, own_model, victim), *_tokens(thief, victim), *_addresses(victim)]


def _routes(thief: Person, own_model: str, victim: Owned) -> Iterator[Attempt]:
    """Yield attempts with the victim's ids in every route. A 404 response must equal the response for an
    unknown id."""
    # responses of the application, for an unknown model, and of API Gateway, for an unknown route
    never = tuple(
        thief.raw("GET", path).text for path in (f"/api/models/{ABSENT}", "/api/models/no/such/route")
    )
    forged = (
        victim.model,
        f"{own_model}/../{victim.model}",
        quote(f"../{victim.user}/{victim.model}", safe=""),
        quote(f"{victim.user}/{victim.model}", safe=""),
        f"{victim.model}.tar.gz",
        victim.model.upper(),
    )
    for model in forged:
        for method, path, body in (
            ("GET", f"/api/models/{model}", None),
            ("POST", f"/api/models/{model}/start", None),
            ("DELETE", f"/api/models/{model}", None),
            ("POST", f"/api/models/{model}/generations", {"prompt": "a photo"}),
            ("GET", f"/api/models/{model}/generations", None),
        ):
            yield _judged(thief, method, path, body, victim, never)
    for generation in (victim.generation, f"{own_model}/{victim.generation}", victim.generation.upper()):
        yield _judged(thief, "GET", f"/api/generations/{generation}", None, victim, never)
    # a forged target in header or body must be ignored or refused
    target = f"{victim.user}/{victim.model}.tar.gz"
    headers = {
        "X-Amzn-SageMaker-Target-Model": target,
        "X-Target-Model": target,
        "X-User": victim.user,
        "X-Amzn-Oidc-Identity": victim.user,
    }
    for name, value in headers.items():
        yield _judged(thief, "GET", f"/api/models/{victim.model}", None, victim, never, **{name: value})
    for field, value in (
        ("target", target),
        ("TargetModel", target),
        ("user", victim.user),
        ("model", victim.model),
    ):
        body = {"prompt": "a photo", field: value}
        answer = thief.raw("POST", f"/api/models/{own_model}/generations", body)
        said = answer.text
        yield Attempt(
            f"POST /api/models/OWN/generations with {field} forged",
            answer.status_code,
            answer.status_code < 400 or victim.user in said or victim.model in said,
        )
    for field in ("user", "owner", "sub"):
        answer = thief.raw("GET", f"/api/models?{field}={victim.user}")
        yield Attempt(f"GET /api/models?{field}=theirs", answer.status_code, _leaks(answer, victim))


def _judged(
    thief: Person, method: str, path: str, body: Any, victim: Owned, never: Never, **headers: str
) -> Attempt:
    answer = thief.raw(method, path, body, **headers)
    # a 404 must not reveal whether the id exists
    refused = answer.status_code in (400, 401, 403, 405) or (
        answer.status_code == 404 and answer.text in never
    )
    return Attempt(f"{method} {path}", answer.status_code, not refused or _leaks(answer, victim))


def _leaks(answer: requests.Response, victim: Owned) -> bool:
    return any(word in answer.text for word in (*victim.words, victim.user))


def _tokens(thief: Person, victim: Owned) -> Iterator[Attempt]:
    """Yield attempts without a token, with an invalid token, and with forged tokens that name the victim."""
    head, claims, signature = thief.token.split(".")

    def part(text: str) -> dict[str, Any]:
        return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))

    def packed(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    theirs = packed(part(claims) | {"sub": victim.user, "cognito:username": victim.user})
    unsigned = packed(part(head) | {"alg": "none"})
    forged = {
        "no token": "",
        "nonsense": "Bearer nonsense",
        "their claims, own signature": f"Bearer {head}.{theirs}.{signature}",
        "their claims, alg none": f"Bearer {unsigned}.{theirs}.",
        "their claims, alg none, own signature": f"Bearer {unsigned}.{theirs}.{signature}",
        "their id as the token": f"Bearer {victim.user}",
    }
    for what, header in forged.items():
        for path in ("/api/models", f"/api/models/{victim.model}", f"/api/generations/{victim.generation}"):
            headers = {"Authorization": header} if header else {}
            answer = requests.get(f"{thief.api}{path}", headers=headers, timeout=SECONDS)
            yield Attempt(f"GET {path} with {what}", answer.status_code, answer.status_code not in (401, 403))


def _addresses(victim: Owned) -> Iterator[Attempt]:
    """Yield attempts with modified presigned URLs and upload forms."""
    for url in victim.pictures:
        parts = urlsplit(url)
        stripped = urlunsplit(parts._replace(query=""))
        yield _fetch("a picture's address without its signature", stripped)
        yield _fetch(
            "a picture's address for its folder",
            urlunsplit(parts._replace(path=parts.path.rpartition("/")[0] + "/")),
        )
        for other in (
            f"/adapters/{victim.user}/{victim.model}.tar.gz",
            f"/uploads/{victim.user}/{victim.model}/00",
        ):
            bucket = (
                "/" + parts.path.lstrip("/").partition("/")[0] if "s3" not in parts.netloc.split(".") else ""
            )
            yield _fetch(
                f"a picture's signature for {other.split('/')[1]}",
                urlunsplit(parts._replace(path=bucket + other)),
            )
    url, fields = victim.upload["url"], victim.upload["fields"]
    for what, changed in {
        "another key": {"key": f"uploads/{victim.user}/{victim.model}/99"},
        "an adapter's key": {"key": f"adapters/{victim.user}/{victim.model}.tar.gz"},
        "another type": {"Content-Type": "text/html"},
    }.items():
        files = {"file": ("x", b"x" * 64, "image/png")}
        answer = requests.post(url, data=fields | changed, files=files, timeout=SECONDS)
        yield Attempt(f"an upload form with {what}", answer.status_code, answer.status_code < 400)
    files = {"file": ("x", b"x" * (64 << 20), "image/png")}
    answer = requests.post(url, data=fields, files=files, timeout=SECONDS)
    yield Attempt("an upload form with 64 MiB", answer.status_code, answer.status_code < 400)


def _fetch(what: str, url: str) -> Attempt:
    answer = requests.get(url, timeout=SECONDS)
    return Attempt(what, answer.status_code, answer.status_code < 400)
