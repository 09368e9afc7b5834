"""The page of an architecture on this machine, with a user pool in memory.

There are two origins, as on AWS: one serves the page and `/api`, the other simulates Cognito and S3. CORS and
the page's content security policy must allow the second origin. The page's files are prepared by the function
that publishes them.
"""

from __future__ import annotations

import base64
import io
import json
import secrets
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from groundplan.lambdas.site_files import handler as publisher

JSON = {"Content_Type": "application/json"}


def packed(folder: Path) -> bytes:
    """Return the folder as a zip file, in the form of a CDK asset."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder).as_posix())
    return buffer.getvalue()


@dataclass
class Pool:
    """Users and sessions, as in Cognito."""

    passwords: dict[str, str] = field(
        default_factory=lambda: {"ada@example.org": "Groundplan-1", "bob@example.org": "Groundplan-2"}
    )
    temporary: dict[str, str] = field(default_factory=lambda: {"eve@example.org": "Lent-once-1"})
    token_seconds: int = 3600
    codes: dict[str, tuple[str, str]] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    refreshes: dict[str, str] = field(default_factory=dict)

    def cognito(self, action: str, body: dict[str, Any]) -> dict[str, Any]:
        if action == "InitiateAuth" and body["AuthFlow"] == "USER_PASSWORD_AUTH":
            user, password = (body["AuthParameters"][key] for key in ("USERNAME", "PASSWORD"))
            if user in self.temporary and self.temporary[user] == password:
                return {"ChallengeName": "NEW_PASSWORD_REQUIRED", "Session": user, "ChallengeParameters": {}}
            if self.passwords.get(user) != password:
                raise PermissionError("NotAuthorizedException", "Incorrect username or password.")
            return {"AuthenticationResult": self._tokens(user)}
        if action == "InitiateAuth":
            user = self.refreshes.get(body["AuthParameters"]["REFRESH_TOKEN"])
            if not user:
                raise PermissionError("NotAuthorizedException", "Refresh Token has been revoked")
            renewed = self._tokens(user)
            del self.refreshes[renewed.pop("RefreshToken")]  # no new refresh token; the old one stays valid
            return {"AuthenticationResult": renewed}
        if action == "RespondToAuthChallenge":
            user, chosen = body["Session"], body["ChallengeResponses"]["NEW_PASSWORD"]
            if len(chosen) < 12:
                raise PermissionError("InvalidPasswordException", "Password not long enough: 12 characters")
            del self.temporary[user]
            self.passwords[user] = chosen
            return {"AuthenticationResult": self._tokens(user)}
        if action in ("SignUp", "ForgotPassword"):
            if action == "SignUp" and body["Username"] in self.passwords:
                raise PermissionError("UsernameExistsException", "An account with the given email exists.")
            self.codes[body["Username"]] = ("314159", body.get("Password", ""))
            return {}
        if action in ("ConfirmSignUp", "ConfirmForgotPassword"):
            code, password = self.codes[body["Username"]]
            if body["ConfirmationCode"] != code:
                raise PermissionError("CodeMismatchException", "Invalid verification code provided.")
            self.passwords[body["Username"]] = body.get("Password", password)
            return {}
        self.refreshes.pop(body.get("Token", ""), None)
        return {}

    def _tokens(self, user: str) -> dict[str, Any]:
        claims = {"sub": f"sub-{user}", "email": user, "n": secrets.token_hex(4)}
        text = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
        token, refresh = f"e30.{text}.x", secrets.token_hex(8)
        self.tokens[token], self.refreshes[refresh] = user, user
        names = {"IdToken": token, "AccessToken": "a", "RefreshToken": refresh}
        return names | {"ExpiresIn": self.token_seconds}


@dataclass
class Site(Pool):
    """The backend of a page: users, API, and objects of a bucket."""

    objects: dict[str, bytes] = field(default_factory=dict)
    storage: str = ""
    """Origin of the bucket, once it is served"""

    def request(
        self, method: str, path: str, query: str, user: str, body: bytes
    ) -> tuple[int, Any, Mapping[str, str]]:
        """Answer a request of a signed-in user: status, JSON or None for no content, headers."""
        raise NotImplementedError

    def upload(self, fields: Mapping[str, bytes]) -> tuple[int, bytes]:
        """Answer a form that uploads an object: status, body."""
        return 403, b"<Error><Code>AccessDenied</Code></Error>"


class _Answers(BaseHTTPRequestHandler):
    site: Site
    protocol_version = "HTTP/1.1"

    def handle_one_request(self) -> None:
        with suppress(ConnectionError):  # the page that sent the request was closed
            super().handle_one_request()

    def log_message(self, format: str, *args: object) -> None:
        pass

    def send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))


class _Page(_Answers):
    files: Mapping[str, publisher.Object]

    def answer(self) -> None:
        parts, body = urlsplit(self.path), self.body()
        if not parts.path.startswith("/api/"):
            found = self.files.get(parts.path.lstrip("/") or "index.html")
            if not found:
                return self.send(404, b"", Content_Type="text/plain")
            headers = {"Content_Type": found.content_type, "Cache_Control": found.cache_control}
            return self.send(200, found.body, **headers)
        user = self.site.tokens.get((self.headers.get("Authorization") or "").removeprefix("Bearer "))
        if not user:
            return self.send(401, b'{"message":"Unauthorized"}', **JSON)
        status, told, headers = self.site.request(self.command, parts.path, parts.query, user, body)
        self.send(status, b"" if told is None else json.dumps(told).encode(), **JSON, **headers)

    do_GET = do_POST = do_DELETE = answer


class _Amazon(_Answers):
    """Cognito and S3, which the page reaches over another origin."""

    def send(self, status: int, body: bytes, **headers: str) -> None:
        allowed = {"Access_Control_Allow_Origin": "*", "Access_Control_Allow_Headers": "*"}
        super().send(status, body, **allowed, **headers)

    def do_OPTIONS(self) -> None:
        self.send(204, b"")

    def do_GET(self) -> None:
        found = self.site.objects.get(urlsplit(self.path).path.lstrip("/"))
        self.send(200 if found else 404, found or b"", Content_Type="image/png")

    def do_POST(self) -> None:
        text = self.body()
        if target := self.headers.get("X-Amz-Target"):
            try:
                found = self.site.cognito(target.rpartition(".")[2], json.loads(text))
            except PermissionError as error:
                code, message = error.args
                return self.send(400, json.dumps({"__type": code, "message": message}).encode())
            return self.send(200, json.dumps(found).encode(), Content_Type="application/x-amz-json-1.1")
        fields: dict[str, bytes] = {}
        for part in text.split(b"--" + self.headers["Content-Type"].partition("boundary=")[2].encode())[1:-1]:
            head, _, content = part.partition(b"\r\n\r\n")
            fields[head.partition(b'name="')[2].partition(b'"')[0].decode()] = content.removesuffix(b"\r\n")
        self.send(*self.site.upload(fields))


@contextmanager
def served(site: Site, folder: Path, settings: Mapping[str, Any], port: int = 0) -> Iterator[str]:
    """Serve the page of a folder, and yield its address."""
    amazon = ThreadingHTTPServer(("127.0.0.1", 0), type("Amazon", (_Amazon,), {"site": site}))
    site.storage = f"http://127.0.0.1:{amazon.server_port}"
    told = {"clientId": "page", "selfSignUp": True, "cognitoEndpoint": site.storage, **settings}
    origins = {"identity": [site.storage], "storage": [site.storage]}
    files = {item.key: item for item in publisher.objects(packed(folder), told, origins)}
    page = ThreadingHTTPServer(("127.0.0.1", port), type("Page", (_Page,), {"site": site, "files": files}))
    for server in (amazon, page):
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{page.server_port}/"
    finally:
        for server in (amazon, page):
            server.shutdown()
            server.server_close()
