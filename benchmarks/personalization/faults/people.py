"""Users who create models over HTTP with a token, as the web page does."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import urllib3
from PIL import Image

PICTURES = 4
PASSWORD = "Groundplan-1234"  # noqa: S105 - of accounts that exist only during this run
PATIENCE_SECONDS = 180
"""Seconds for which a client retries requests that failed temporarily."""
FAILED_PICTURE = b"bad"
"""Bytes at the end of a picture, where decoders ignore them. They make the stub container's task fail."""


@dataclass
class Person:
    name: str
    user: str
    token: str


@dataclass
class Wish:
    """A model that a user requests, with its state as the user sees it."""

    number: int
    person: Person
    bad: bool
    """Whether its first picture makes the training fail."""
    twice: bool
    """Whether the request to start its fine-tune is sent twice at the same time."""
    delete_at: str
    """Status in which the model is deleted; empty: it is not deleted."""
    pictures: list[bytes] = field(default_factory=list)
    model: str = ""
    started: bool = False
    deleted: bool = False

    @property
    def adapter(self) -> bytes:
        """The weights that the stub container writes for exactly these pictures."""
        return hashlib.sha256(b"".join(self.pictures)).digest()


class GoneError(Exception):
    """Status 404: the caller has no such object."""


class Api:
    """A client of the deployed HTTP API. It retries requests that failed, were throttled or got no answer."""

    def __init__(self, url: str, endpoint: str):
        """`endpoint`: address of the cloud, to which requests go with the host of `url` as a header. Python,
        unlike browsers, does not resolve this host, whose name ends in `.localhost`."""
        self._host, self._endpoint = urlsplit(url).netloc, endpoint
        self.answers = Counter[str]()
        self._pool = urllib3.PoolManager(maxsize=64, retries=False, timeout=urllib3.Timeout(60))
        self._lock = threading.Lock()

    def ask(self, person: Person, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """Return the answer's JSON. Raises `GoneError` for status 404 and `RuntimeError` for any other error
        status."""
        headers = {"host": self._host, "authorization": f"Bearer {person.token}"}
        status, found = self._send(method, self._endpoint + path, headers=headers, json=body)
        if status == 404:
            raise GoneError
        if status >= 400:
            raise RuntimeError(f"{method} {path}: {status} {found.decode(errors='replace')[:500]}")
        return json.loads(found)

    def upload(self, form: dict[str, Any], picture: bytes) -> bool:
        """Upload a picture. Return False if the form is invalid or has expired."""
        fields = form["fields"] | {"file": ("picture", picture, form["fields"]["Content-Type"])}
        return self._send("POST", form["url"], fields=fields)[0] < 300

    def _send(self, method: str, url: str, **options: Any) -> tuple[int, bytes]:
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            wait, told = 0.5, "no answer"
            try:
                answer = self._pool.request(method, url, **options)
                told, done = str(answer.status), answer.status < 500 and answer.status != 429
                if done or time.monotonic() > until:
                    return answer.status, answer.data
                wait = float(answer.headers.get("Retry-After", wait))
            except urllib3.exceptions.HTTPError:
                if time.monotonic() > until:
                    raise
            finally:
                with self._lock:
                    self.answers[told] += 1
            time.sleep(wait)


def sign_in(cognito: Any, pool: str, client: str, count: int) -> list[Person]:
    """Create accounts and sign in with them; return their users."""
    people = []
    for number in range(count):
        name = f"person-{number:03}@example.org"
        cognito.admin_create_user(UserPoolId=pool, Username=name, MessageAction="SUPPRESS")
        cognito.admin_set_user_password(UserPoolId=pool, Username=name, Password=PASSWORD, Permanent=True)
        found = cognito.initiate_auth(
            ClientId=client,
            AuthFlow="USER_PASSWORD_AUTH",
            AuthParameters={"USERNAME": name, "PASSWORD": PASSWORD},
        )
        about = cognito.admin_get_user(UserPoolId=pool, Username=name)
        user = next(each["Value"] for each in about["UserAttributes"] if each["Name"] == "sub")
        people.append(Person(name, user, found["AuthenticationResult"]["IdToken"]))
    return people


def wishes(people: list[Person], count: int, chance: random.Random) -> list[Wish]:
    """Return the models that the users will request. Users take turns.

    Of fifty models, three have a bad picture, two are started twice at the same time, and two are deleted
    before they are ready."""
    found = []
    for number in range(count):
        kind = number % 50
        found.append(
            Wish(
                number=number,
                person=people[number % len(people)],
                bad=kind in (7, 23, 41),
                twice=kind in (3, 31),
                delete_at={11: "QUEUED", 37: "TRAINING"}.get(kind, ""),
                pictures=[picture(chance) for _ in range(PICTURES)],
            )
        )
        if found[-1].bad:
            found[-1].pictures[0] += FAILED_PICTURE
    return found


def picture(chance: random.Random) -> bytes:
    """Return a small JPEG with random content."""
    content = io.BytesIO()
    Image.frombytes("RGB", (4, 4), chance.randbytes(48)).resize((64, 64)).save(content, "JPEG")
    return content.getvalue()


def fulfil(api: Api, wish: Wish) -> None:
    """Create the model, upload its pictures and start its fine-tune; then delete the model if `delete_at` is
    QUEUED."""
    images = [{"type": "image/jpeg", "bytes": len(each)} for each in wish.pictures]
    body = {"name": f"Wish {wish.number}", "subject": "cat", "images": images}
    while True:
        made = api.ask(wish.person, "POST", "/api/models", body)
        # An upload form is signed with the session credentials of a Lambda function, and expires with them
        if all(map(api.upload, made["uploads"], wish.pictures)):
            break
    wish.model = made["model"]
    path = f"/api/models/{wish.model}/start"
    with ThreadPoolExecutor(2) as both:
        list(both.map(lambda _: api.ask(wish.person, "POST", path), range(1 + wish.twice)))
    wish.started = True
    if wish.delete_at == "QUEUED":
        delete(api, wish)


def delete(api: Api, wish: Wish) -> None:
    with contextlib.suppress(GoneError):  # deleted by an earlier attempt, whose answer was lost
        api.ask(wish.person, "DELETE", f"/api/models/{wish.model}")
    wish.deleted = True


def shown(api: Api, people: list[Person]) -> Iterator[dict[str, Any]]:
    """Yield every model as the API shows it to its owner."""
    for person in people:
        yield from api.ask(person, "GET", "/api/models")["models"]
