"""Users of the application, who create models and generate pictures."""

from __future__ import annotations

import secrets
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from scenarios import ScenarioError, people
from scenarios.people import SECONDS, ApiError

__all__ = ["ApiError", "Person", "fetched", "invited"]


@dataclass
class Person(people.User):
    """A user with models."""

    def create(self, name: str, subject: str, pictures: list[Path]) -> str:
        """Create a model and upload its pictures. Return its id."""
        images = [{"type": _type(path), "bytes": path.stat().st_size} for path in pictures]
        made = self.ask("POST", "/api/models", {"name": name, "subject": subject, "images": images})
        for path, upload in zip(pictures, made["uploads"], strict=True):
            files = {"file": (path.name, path.read_bytes(), _type(path))}
            answer = requests.post(upload["url"], data=upload["fields"], files=files, timeout=SECONDS)
            if answer.status_code >= 300:
                raise ScenarioError(
                    f"the upload of {path.name} got status {answer.status_code}: {answer.text[:300]}"
                )
        return made["model"]

    def start(self, model: str) -> dict[str, Any]:
        return self.ask("POST", f"/api/models/{model}/start")

    def model(self, model: str) -> dict[str, Any]:
        return self.ask("GET", f"/api/models/{model}")

    def generate(self, model: str, prompt: str, **more: Any) -> dict[str, Any]:
        key = secrets.token_hex(8)  # idempotency key of the retries
        path, headers = f"/api/models/{model}/generations", {"Idempotency-Key": key}
        return self.ask("POST", path, {"prompt": prompt, **more}, headers=headers)


def _type(path: Path) -> str:
    return {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png"}[path.suffix.lower()]


def fetched(url: str) -> bytes:
    """Return the content of a presigned URL. Raises `ScenarioError` for an error status."""
    answer = requests.get(url, timeout=SECONDS)
    if answer.status_code >= 300:
        raise ScenarioError(f"the download of a picture got status {answer.status_code}")
    return answer.content


def invited(outputs: dict[str, str], *names: str) -> AbstractContextManager[list[Person]]:
    """Yield signed-in users with new accounts, which are deleted at the end."""
    return people.invited(outputs, *names, kind=Person)
