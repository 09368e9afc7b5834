"""The people who use the application: they sign in, and speak to its API over HTTP as a browser would."""

from __future__ import annotations

import base64
import contextlib
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from scenarios import ScenarioError, aws

SECONDS = 60  # an answer of the API takes no longer


class ApiError(ScenarioError):
    """The API answered with an error; `status` is HTTP's, `error` its body."""

    def __init__(self, method: str, path: str, status: int, error: dict[str, Any]):
        super().__init__(f"{method} {path} was answered {status}: {error.get('message') or error}")
        self.status, self.error = status, error


@dataclass
class Person:
    """Somebody with an account of their own."""

    name: str
    api: str
    token: str = field(repr=False)
    user: str
    session: requests.Session = field(default_factory=requests.Session, repr=False)

    def raw(self, method: str, path: str, body: Any = None, **headers: str) -> requests.Response:
        """One request, whatever is answered."""
        return self.session.request(
            method,
            f"{self.api}{path}",
            json=body,
            headers={"Authorization": f"Bearer {self.token}", **headers},
            timeout=SECONDS,
        )

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        patience: float = 120,
    ) -> Any:
        """The answer's JSON. Comes again when the API says when to; raises `ApiError` for other errors."""
        until = time.monotonic() + patience
        while True:
            answer = self.raw(method, path, body, **(headers or {}))
            if answer.status_code < 400:
                return answer.json() if answer.content else None
            again = float(answer.headers.get("Retry-After", 0))
            if answer.status_code not in (429, 503) or time.monotonic() + again > until:
                told = _json(answer)
                raise ApiError(method, path, answer.status_code, told.get("error", told))
            time.sleep(max(again, 0.2))

    def create(self, name: str, subject: str, pictures: list[Path]) -> str:
        """Make a model and upload its pictures; returns its id."""
        images = [{"type": _type(path), "bytes": path.stat().st_size} for path in pictures]
        made = self.ask("POST", "/api/models", {"name": name, "subject": subject, "images": images})
        for path, upload in zip(pictures, made["uploads"], strict=True):
            files = {"file": (path.name, path.read_bytes(), _type(path))}
            answer = requests.post(upload["url"], data=upload["fields"], files=files, timeout=SECONDS)
            if answer.status_code >= 300:
                raise ScenarioError(
                    f"the upload of {path.name} was answered {answer.status_code}: {answer.text[:300]}"
                )
        return made["model"]

    def start(self, model: str) -> dict[str, Any]:
        return self.ask("POST", f"/api/models/{model}/start")

    def model(self, model: str) -> dict[str, Any]:
        return self.ask("GET", f"/api/models/{model}")

    def generate(self, model: str, prompt: str, **more: Any) -> dict[str, Any]:
        key = secrets.token_hex(8)  # a repetition of this request is this request
        path, headers = f"/api/models/{model}/generations", {"Idempotency-Key": key}
        return self.ask("POST", path, {"prompt": prompt, **more}, headers=headers)


def _json(answer: requests.Response) -> dict[str, Any]:
    try:
        return answer.json()
    except ValueError:
        return {"message": answer.text[:300]}


def _type(path: Path) -> str:
    return {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png"}[path.suffix.lower()]


def fetched(url: str) -> bytes:
    """What a presigned URL leads to."""
    answer = requests.get(url, timeout=SECONDS)
    if answer.status_code >= 300:
        raise ScenarioError(f"a picture's address was answered {answer.status_code}")
    return answer.content


@contextlib.contextmanager
def invited(outputs: dict[str, str], *names: str) -> Iterator[list[Person]]:
    """Accounts for these people, signed in; removed again at the end."""
    cognito, pool = aws.client("cognito-idp"), outputs["UserPoolId"]
    addresses = [f"{name}.{secrets.token_hex(4)}@example.com" for name in names]
    people = []
    try:
        for name, address in zip(names, addresses, strict=True):
            word = base64.b64encode(secrets.token_bytes(18)).decode() + "aA1!"
            cognito.admin_create_user(
                UserPoolId=pool,
                Username=address,
                MessageAction="SUPPRESS",
                UserAttributes=[
                    {"Name": "email", "Value": address},
                    {"Name": "email_verified", "Value": "true"},
                ],
            )
            cognito.admin_set_user_password(UserPoolId=pool, Username=address, Password=word, Permanent=True)
            signed = cognito.initiate_auth(
                ClientId=outputs["UserPoolClientId"],
                AuthFlow="USER_PASSWORD_AUTH",
                AuthParameters={"USERNAME": address, "PASSWORD": word},
            )["AuthenticationResult"]
            known = cognito.admin_get_user(UserPoolId=pool, Username=address)["UserAttributes"]
            user = next(entry["Value"] for entry in known if entry["Name"] == "sub")
            people.append(Person(name, aws.address(outputs["ApiUrl"]), signed["IdToken"], user))
        yield people
    finally:
        for address in addresses:
            with contextlib.suppress(cognito.exceptions.UserNotFoundException):
                cognito.admin_delete_user(UserPoolId=pool, Username=address)
