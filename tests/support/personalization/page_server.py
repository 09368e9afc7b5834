"""Serve the page of `personalization` on this machine for development, with an API in memory.

    python -m tests.support.personalization.page_server  # sign in as ada@example.org, password "Groundplan-1"

Training is simulated by the clock, and generation by tinting an uploaded picture.
"""

from __future__ import annotations

import functools
import io
import json
import re
import secrets
import threading
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import fastjsonschema
from PIL import Image, ImageEnhance, ImageOps

from settings.personalization import Limits
from tests.support import sites
from tests.support.sites import Site

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "web" / "personalization"
DOCUMENT = json.loads((ROOT / "runtime" / "personalization" / "openapi.json").read_text())
LIMITS = Limits().model_dump() | {"models": 6, "images_min": 4, "image_bytes": 3_000_000}
STEPS = 300


@functools.cache
def schema(name: str) -> Any:
    """Return the function that validates a body with the schema `name` of the API's OpenAPI document.

    For an invalid body the function raises `fastjsonschema.JsonSchemaException`.
    """
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
class Service(Site):
    """Users, models and pictures in memory. `seconds`: time of a model from its start to READY."""

    seconds: float = 8
    uploads_lost: int = 0
    """How many of the next uploads are refused as if their form had expired"""
    busy_seconds: int = 0
    """If not 0, each request for a generation gets status 429 and this retry time in seconds"""
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    generations: dict[str, dict[str, Any]] = field(default_factory=dict)
    promised: dict[str, dict[str, Any]] = field(default_factory=dict)
    breaches: list[str] = field(default_factory=list)
    """Requests and responses that violate the API's document"""
    calls: list[str] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def request(
        self, method: str, path: str, query: str, user: str, body: bytes
    ) -> tuple[int, Any, Mapping[str, str]]:
        try:
            status, found = self.api(method, path, query, user, json.loads(body or b"null"))
        except fastjsonschema.JsonSchemaException as error:
            self.breaches.append(f"{method} {path}: {error}")
            return 500, {}, {}
        except ServiceError as error:
            schema("Error")(error.body)
            return error.status, error.body, {"Retry_After": str(error.wait)} if error.wait else {}
        return status, found, {}

    def upload(self, fields: Mapping[str, bytes]) -> tuple[int, bytes]:
        key, data = fields["key"].decode(), fields["file"]
        promise = self.promised[key]
        if self.uploads_lost > 0:
            self.uploads_lost -= 1
            return super().upload(fields)
        if len(data) != promise["bytes"] or fields["Content-Type"].decode() != promise["type"]:
            return 400, b"<Error><Code>EntityTooLarge</Code></Error>"
        self.objects[key] = data
        return 204, b""

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


def served(service: Service, port: int = 0) -> AbstractContextManager[str]:
    """Serve the page, and yield its address."""
    return sites.served(service, PAGE, {"limits": LIMITS}, port)


if __name__ == "__main__":
    with served(Service(), 8000) as address:
        print(address, flush=True)
        threading.Event().wait()
