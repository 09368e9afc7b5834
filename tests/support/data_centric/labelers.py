"""Labelers of a deployed stack: users who sign in and call the HTTP API."""

from __future__ import annotations

import json
import random
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from local.cloud import LocalCloud

PASSWORD = "Long-enough-1234"
Told = tuple[int, Any]
"""Status and JSON of a response"""


def sign_up(cognito: Any, outputs: Mapping[str, str], name: str, *groups: str) -> str:
    """Create a user and return their id token."""
    pool, user = outputs["UserPoolId"], f"{name}@example.com"
    cognito.admin_create_user(UserPoolId=pool, Username=user, MessageAction="SUPPRESS")
    cognito.admin_set_user_password(UserPoolId=pool, Username=user, Password=PASSWORD, Permanent=True)
    for group in groups:
        cognito.admin_add_user_to_group(UserPoolId=pool, Username=user, GroupName=group)
    signed_in = cognito.initiate_auth(
        ClientId=outputs["UserPoolClientId"],
        AuthFlow="USER_PASSWORD_AUTH",
        AuthParameters={"USERNAME": user, "PASSWORD": PASSWORD},
    )
    return signed_in["AuthenticationResult"]["IdToken"]


@dataclass
class Client:
    """Calls the API through the origin of the page."""

    cloud: LocalCloud
    site: str
    """The site's address on AWS"""

    def __call__(self, method: str, path: str, token: str = "", body: Any = None) -> Told:
        headers = {
            "Host": urlsplit(self.cloud.local_url(self.site)).netloc,
            "content-type": "application/json",
        }
        headers |= {"authorization": f"Bearer {token}"} if token else {}
        data = None if body is None else json.dumps(body).encode()
        url = self.cloud.endpoint_url + path
        request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null")


@dataclass
class Labeler:
    """A labeler who loses responses, submits twice and requests the tasks of other labelers."""

    ask: Client
    token: str
    run: str
    choose: Callable[[str], int | None]
    """Returns the answer to an item"""
    draw: random.Random
    kept: list[str] = field(default_factory=list)
    """Items whose answers were acknowledged, once for each acknowledgement"""
    problems: list[str] = field(default_factory=list)
    """Responses that the API must not return"""

    def work(self, until: Callable[[], bool]) -> None:
        """Label until the run is over, or `until` returns true."""
        while not until():
            status, task = self.ask("POST", f"/api/runs/{self.run}/task", self.token)
            if status == 200:
                self._answer(task["item"])
            elif status == 204:
                time.sleep(0.5)
            elif status == 404:  # the run is closed
                return
            elif status != 503:
                self.problems.append(f"task: {status} {task}")
                return

    def _answer(self, item: str) -> None:
        if self.draw.random() < 0.2:  # as if the labeler closed the page and opened it again
            status, again = self.ask("POST", f"/api/runs/{self.run}/task", self.token)
            if status == 200 and again["item"] != item:
                self.problems.append("another task before the lease expired")
        body = {"item": item, "choice": self.choose(item)}
        for _ in range(2 if self.draw.random() < 0.3 else 1):
            status, told = self.ask("POST", f"/api/runs/{self.run}/answers", self.token, body)
            if status == 200 and told["result"] == "kept":
                self.kept.append(item)
            elif status not in (200, 404, 409, 503):
                self.problems.append(f"answer: {status} {told}")
