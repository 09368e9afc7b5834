"""Users of an application with a sign-in. They call its API over HTTP, as a browser does."""

from __future__ import annotations

import base64
import contextlib
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import requests

from scenarios import ScenarioError, aws

SECONDS = 60  # timeout of a request to the API


class ApiError(ScenarioError):
    """An error response of the API: its HTTP `status`, and the field `error` of its body."""

    def __init__(self, method: str, path: str, status: int, error: dict[str, Any]):
        super().__init__(f"{method} {path} got status {status}: {error.get('message') or error}")
        self.status, self.error = status, error


@dataclass
class User:
    """A signed-in user."""

    name: str
    api: str
    token: str = field(repr=False)
    user: str
    session: requests.Session = field(default_factory=requests.Session, repr=False)
    email: str = ""
    password: str = field(default="", repr=False)

    def raw(self, method: str, path: str, body: Any = None, **headers: str) -> requests.Response:
        """Send one request and return the response."""
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
        """Return the response's JSON. Raises `ApiError` for an error response.

        Requests with status 429 or 503 are retried after `Retry-After`, for at most `patience` seconds.
        """
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


def _json(answer: requests.Response) -> dict[str, Any]:
    try:
        return answer.json()
    except ValueError:
        return {"message": answer.text[:300]}


P = TypeVar("P", bound=User)


@contextlib.contextmanager
def invited(outputs: Mapping[str, str], *names: str, kind: type[P]) -> Iterator[list[P]]:
    """Yield signed-in users with new accounts, which are deleted at the end."""
    cognito, pool = aws.client("cognito-idp"), outputs["UserPoolId"]
    addresses = [f"{name}.{secrets.token_hex(4)}@example.com" for name in names]
    people = []
    try:
        for name, address in zip(names, addresses, strict=True):
            password = base64.b64encode(secrets.token_bytes(18)).decode() + "aA1!"
            cognito.admin_create_user(
                UserPoolId=pool,
                Username=address,
                MessageAction="SUPPRESS",
                UserAttributes=[
                    {"Name": "email", "Value": address},
                    {"Name": "email_verified", "Value": "true"},
                ],
            )
            cognito.admin_set_user_password(
                UserPoolId=pool, Username=address, Password=password, Permanent=True
            )
            signed = cognito.initiate_auth(
                ClientId=outputs["UserPoolClientId"],
                AuthFlow="USER_PASSWORD_AUTH",
                AuthParameters={"USERNAME": address, "PASSWORD": password},
            )["AuthenticationResult"]
            known = cognito.admin_get_user(UserPoolId=pool, Username=address)["UserAttributes"]
            user = next(entry["Value"] for entry in known if entry["Name"] == "sub")
            api = aws.address(outputs["ApiUrl"])
            people.append(kind(name, api, signed["IdToken"], user, email=address, password=password))
        yield people
    finally:
        for address in addresses:
            with contextlib.suppress(cognito.exceptions.UserNotFoundException):
                cognito.admin_delete_user(UserPoolId=pool, Username=address)
