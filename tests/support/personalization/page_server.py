"""The page of `personalization` on this machine, with an API in memory behind it: to work on the page.

    python -m tests.support.personalization.page_server  # sign in as ada@example.org, password "Groundplan-1"

Two origins, as there are on AWS: one serves the page and `/api`, the other stands for Cognito and S3 and has
to be allowed by CORS and by the page's content security policy. The page's files come through the same
function that publishes them. Models "train" by the clock; what is "generated" is a tint of an upload.
"""

from __future__ import annotations

import base64
import functools
import io
import json
import re
import secrets
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import fastjsonschema
from PIL import Image, ImageEnhance, ImageOps

from groundplan.lambdas.site_files import handler as publisher
from settings.personalization import Limits

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "web" / "personalization"
DOCUMENT = json.loads((ROOT / "runtime" / "personalization" / "openapi.json").read_text())
LIMITS = Limits().model_dump() | {"models": 6, "images_min": 4, "image_bytes": 3_000_000}
STEPS = 300


def packed(folder: Path) -> bytes:
    """The folder as a zip file, as the CDK makes an asset of it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder).as_posix())
    return buffer.getvalue()


@functools.cache
def schema(name: str) -> Any:
    """What checks a body against the API's document. Raises `fastjsonschema.JsonSchemaException`."""
    found = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    return fastjsonschema.compile(found)


class ServiceError(Exception):
    def __init__(self, status: int, code: str, message: str, field: str = "", wait: int = 0):
        super().__init__(message)
        self.status, self.wait = status, wait
        self.body = {"error": {"code": code, "field": field, "message": message}}


def _id() -> str:
    alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
    clock, name = time.time_ns() // 1000, ""
    for _ in range(12):
        clock, digit = divmod(clock, 32)
        name = alphabet[digit] + name
    return name + "".join(secrets.choice(alphabet) for _ in range(14))


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


@dataclass
class Service:
    """Users, models and pictures in memory. `seconds`: how long a model takes from its start to READY."""

    seconds: float = 8
    passwords: dict[str, str] = field(
        default_factory=lambda: {"ada@example.org": "Groundplan-1", "bob@example.org": "Groundplan-2"}
    )
    temporary: dict[str, str] = field(default_factory=lambda: {"eve@example.org": "Lent-once-1"})
    token_seconds: int = 3600
    uploads_lost: int = 0
    """So many uploads from now on are refused, as if their time were over."""
    busy_seconds: int = 0
    """When not 0: every creation of pictures is answered with 429, to be tried again after so many."""
    codes: dict[str, tuple[str, str]] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    refreshes: dict[str, str] = field(default_factory=dict)
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    generations: dict[str, dict[str, Any]] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    promised: dict[str, dict[str, Any]] = field(default_factory=dict)
    breaches: list[str] = field(default_factory=list)
    """What was asked, or answered, otherwise than the API's document says."""
    calls: list[str] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)
    storage: str = ""

    # Cognito ----------------------------------------------------------------------------------------

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
            del self.refreshes[renewed.pop("RefreshToken")]  # the one that was used stays
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
        claims = base64.urlsafe_b64encode(json.dumps({"email": user, "n": secrets.token_hex(4)}).encode())
        token, refresh = f"e30.{claims.decode().rstrip('=')}.x", secrets.token_hex(8)
        self.tokens[token], self.refreshes[refresh] = user, user
        names = {"IdToken": token, "AccessToken": "a", "RefreshToken": refresh}
        return names | {"ExpiresIn": self.token_seconds}

    # The API ----------------------------------------------------------------------------------------

    def api(self, method: str, path: str, query: str, user: str, body: Any) -> tuple[int, Any]:
        routes = (
            ("GET", r"/models", self.list, "Models"),
            ("POST", r"/models", self.create, "CreatedModel"),
            ("GET", r"/models/(\w+)", self.show, "Model"),
            ("DELETE", r"/models/(\w+)", self.remove, "DeletedModel"),
            ("POST", r"/models/(\w+)/start", self.start, "StartedModel"),
            ("POST", r"/models/(\w+)/generations", self.generate, "Generation"),
            ("GET", r"/models/(\w+)/generations", self.made, "Generations"),
            ("GET", r"/generations/(\w+)", self.one, "Generation"),
        )
        with self.lock:
            self.calls.append(f"{method} {path}")
            for wanted, pattern, function, answer in routes:
                if wanted == method and (found := re.fullmatch(f"/api{pattern}", path)):
                    if body is not None:
                        schema("NewModel" if answer == "CreatedModel" else "NewGeneration")(body)
                    status, told = function(user, *found.groups(), body=body, query=parse_qs(query))
                    schema(answer)(told)
                    return status, told
        raise ServiceError(404, "not_found", "There is nothing here.")

    def _own(self, user: str, model: str) -> dict[str, Any]:
        if (found := self.models.get(model)) and found["user"] == user:
            return found
        raise ServiceError(404, "not_found", "There is nothing here.")

    def _public(self, model: dict[str, Any], whole: bool) -> dict[str, Any]:
        part = (time.monotonic() - model["started"]) / self.seconds if model["started"] else 0
        times = (("QUEUED", 0.1), ("LAUNCHED", 0.2), ("TRAINING", 0.85), ("PREPARING", 1))
        status = next((name for name, end in times if part < end), "READY") if model["started"] else "CREATED"
        if model["subject"] == "ghost" and status in ("TRAINING", "PREPARING", "READY"):
            status = "FAILED"
        shown = {key: model[key] for key in ("model", "name", "subject", "created", "updated")}
        shown |= {"status": status, "images": len(model["images"]), "trigger": f"sks {model['subject']}"}
        if status == "FAILED":
            shown["reason"] = "The pictures do not show the same thing. Choose others, and try again."
        if whole:
            done = min(1.0, max(0.0, (part - 0.2) / 0.6))
            stage = "waiting" if part < 0.2 else "training" if part < 0.8 else "previews"
            steps = {"stage": stage, "step": int(done * STEPS), "steps": STEPS, "done": round(done, 3)}
            previews = range(2) if part > 0.8 else ()
            shown["progress"] = steps if part < 1 else steps | {"stage": "done"}
            shown["previews"] = [self._picture(model, f"previews/{model['model']}/{n}", n) for n in previews]
        return shown

    def _picture(self, model: dict[str, Any], key: str, seed: int) -> str:
        if key not in self.objects:
            image = Image.open(io.BytesIO(self.objects[model["images"][seed % len(model["images"])]]))
            image = ImageOps.fit(image.convert("RGB"), (512, 512))
            image = ImageEnhance.Color(image).enhance(0.5 + seed % 7 / 4)
            image = ImageOps.mirror(image) if seed % 2 else image
            buffer = io.BytesIO()
            image.save(buffer, "PNG")
            self.objects[key] = buffer.getvalue()
        return f"{self.storage}/{key}"

    def list(self, user: str, **_: Any) -> tuple[int, Any]:
        own = [model for model in self.models.values() if model["user"] == user]
        return 200, {"models": [self._public(model, False) for model in reversed(own)]}

    def create(self, user: str, body: Any, **_: Any) -> tuple[int, Any]:
        if len(body["images"]) < LIMITS["images_min"]:
            raise ServiceError(422, "invalid", "At least 4 pictures are needed.", "images")
        if body["name"].lower() == "taken":
            raise ServiceError(422, "invalid", "You have a model of this name.", "name")
        name = _id()
        keys = [f"uploads/{name}/{place:02}" for place in range(len(body["images"]))]
        for key, image in zip(keys, body["images"], strict=True):
            self.promised[key] = image
        self.models[name] = {
            **{"model": name, "user": user, "name": body["name"], "subject": body["subject"]},
            **{"images": keys, "created": _now(), "updated": _now(), "started": None},
        }
        fields = [
            {"key": key, "Content-Type": image["type"], "policy": "signed"}
            for key, image in zip(keys, body["images"], strict=True)
        ]
        uploads = [{"url": f"{self.storage}/", "fields": values} for values in fields]
        return 201, {"model": name, "uploads": uploads, "expires": _now()}

    def show(self, user: str, model: str, **_: Any) -> tuple[int, Any]:
        return 200, self._public(self._own(user, model), True)

    def start(self, user: str, model: str, **_: Any) -> tuple[int, Any]:
        found = self._own(user, model)
        for place, key in enumerate(found["images"]):
            if key not in self.objects:
                raise ServiceError(422, "invalid", "This picture has not arrived.", f"images[{place}]")
        found["started"] = found["started"] or time.monotonic()
        return 202, {"model": model}

    def remove(self, user: str, model: str, **_: Any) -> tuple[int, Any]:
        self._own(user, model)
        del self.models[model]
        for name in [name for name, item in self.generations.items() if item["model"] == model]:
            del self.generations[name]
        for key in [key for key in self.objects if model in key]:
            del self.objects[key]
        return 202, {"model": model, "status": "DELETED"}

    def generate(self, user: str, model: str, body: Any, **_: Any) -> tuple[int, Any]:
        found = self._own(user, model)
        if self._public(found, False)["status"] != "READY":
            raise ServiceError(409, "not_ready", "The model is not ready yet.")
        if self.busy_seconds:
            raise ServiceError(429, "too_many", "You have made many pictures.", wait=self.busy_seconds)
        if "forbidden" in body["prompt"]:
            raise ServiceError(422, "invalid", "The prompt has a word that may not be used.", "prompt")
        name, seed = _id(), body.get("seed", secrets.randbelow(2**32))
        keys = [f"generations/{model}/{name}/{n}.png" for n in range(body.get("count", 1))]
        self.generations[name] = {
            **{"generation": name, "model": model, "status": "DONE", "prompt": body["prompt"], "seed": seed},
            **{"count": len(keys), "created": _now()},
            "images": [self._picture(found, key, seed + n) for n, key in enumerate(keys)],
        }
        return 201, self.generations[name]

    def made(self, user: str, model: str, query: dict[str, list[str]], **_: Any) -> tuple[int, Any]:
        self._own(user, model)
        last = query.get("before", ["~"])[0]
        names = sorted((name for name in self.generations if name < last), reverse=True)
        found = [self.generations[name] for name in names if self.generations[name]["model"] == model]
        page = {"generations": found[:3]}
        return 200, page | ({"next": found[2]["generation"]} if len(found) > 3 else {})

    def one(self, user: str, generation: str, **_: Any) -> tuple[int, Any]:
        if not (found := self.generations.get(generation)):
            raise ServiceError(404, "not_found", "There is nothing here.")
        self._own(user, found["model"])
        return 200, found


class _Answers(BaseHTTPRequestHandler):
    service: Service
    protocol_version = "HTTP/1.1"

    def handle_one_request(self) -> None:
        with suppress(ConnectionError):  # a page that is left asks no further
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
    files: dict[str, publisher.Object]

    def answer(self) -> None:
        parts, text = urlsplit(self.path), self.body()
        if not parts.path.startswith("/api/"):
            found = self.files.get(parts.path.lstrip("/") or "index.html")
            if not found:
                return self.send(404, b"", Content_Type="text/plain")
            headers = {"Content_Type": found.content_type, "Cache_Control": found.cache_control}
            return self.send(200, found.body, **headers)
        user = self.service.tokens.get((self.headers.get("Authorization") or "").removeprefix("Bearer "))
        json_type = {"Content_Type": "application/json"}
        if not user:
            return self.send(401, b'{"message":"Unauthorized"}', **json_type)
        try:
            status, found = self.service.api(
                self.command, parts.path, parts.query, user, json.loads(text or b"null")
            )
        except fastjsonschema.JsonSchemaException as error:
            self.service.breaches.append(f"{self.command} {parts.path}: {error}")
            return self.send(500, b"{}", **json_type)
        except ServiceError as error:
            schema("Error")(error.body)
            wait = {"Retry_After": str(error.wait)} if error.wait else {}
            return self.send(error.status, json.dumps(error.body).encode(), **json_type, **wait)
        self.send(status, json.dumps(found).encode(), **json_type)

    do_GET = do_POST = do_DELETE = answer


class _Amazon(_Answers):
    """Cognito and S3, which the page reaches over another origin."""

    def send(self, status: int, body: bytes, **headers: str) -> None:
        allowed = {"Access_Control_Allow_Origin": "*", "Access_Control_Allow_Headers": "*"}
        super().send(status, body, **allowed, **headers)

    def do_OPTIONS(self) -> None:
        self.send(204, b"")

    def do_GET(self) -> None:
        found = self.service.objects.get(urlsplit(self.path).path.lstrip("/"))
        self.send(200 if found else 404, found or b"", Content_Type="image/png")

    def do_POST(self) -> None:
        text = self.body()
        if target := self.headers.get("X-Amz-Target"):
            try:
                found = self.service.cognito(target.rpartition(".")[2], json.loads(text))
            except PermissionError as error:
                code, message = error.args
                return self.send(400, json.dumps({"__type": code, "message": message}).encode())
            return self.send(200, json.dumps(found).encode(), Content_Type="application/x-amz-json-1.1")
        fields: dict[str, bytes] = {}
        for part in text.split(b"--" + self.headers["Content-Type"].partition("boundary=")[2].encode())[1:-1]:
            head, _, content = part.partition(b"\r\n\r\n")
            fields[head.partition(b'name="')[2].partition(b'"')[0].decode()] = content.removesuffix(b"\r\n")
        key, data = fields["key"].decode(), fields["file"]
        promise = self.service.promised[key]
        if self.service.uploads_lost > 0:
            self.service.uploads_lost -= 1
            return self.send(403, b"<Error><Code>AccessDenied</Code></Error>")
        if len(data) != promise["bytes"] or fields["Content-Type"].decode() != promise["type"]:
            return self.send(400, b"<Error><Code>EntityTooLarge</Code></Error>")
        self.service.objects[key] = data
        self.send(204, b"")


@contextmanager
def served(service: Service, port: int = 0) -> Iterator[str]:
    """The page's address while it is served; ends with the block."""
    amazon = ThreadingHTTPServer(("127.0.0.1", 0), type("Amazon", (_Amazon,), {"service": service}))
    service.storage = f"http://127.0.0.1:{amazon.server_port}"
    settings = {"clientId": "page", "selfSignUp": True, "limits": LIMITS, "cognitoEndpoint": service.storage}
    origins = {"identity": [service.storage], "storage": [service.storage]}
    files = {item.key: item for item in publisher.objects(packed(PAGE), settings, origins)}
    kind = type("Page", (_Page,), {"service": service, "files": files})
    page = ThreadingHTTPServer(("127.0.0.1", port), kind)
    for server in (amazon, page):
        threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{page.server_port}/"
    finally:
        for server in (amazon, page):
            server.shutdown()
            server.server_close()


if __name__ == "__main__":
    with served(Service(), 8000) as address:
        print(address, flush=True)
        threading.Event().wait()
