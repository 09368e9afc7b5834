"""`tasks.json`: the job's tasks, one for each user's model."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.failure import FatalError

TRIGGER = "sks"
"""A word without a meaning for the base. Training gives it the meaning of the user's subject."""

REQUEST = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
IMAGE = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_.-]*[A-Za-z0-9_-])+")
SUBJECT = re.compile(r"[\w][\w '-]{0,59}")
PROMPT_CHARACTERS = 1000


@dataclass(frozen=True)
class Task:
    """A fine-tune.

    `images` are paths below the channel `images`. If `steps` is 0, the hyperparameter `steps` is used.
    """

    request: str
    images: tuple[str, ...]
    subject: str
    prompts: tuple[str, ...]
    seed: int
    host: int
    steps: int = 0

    @property
    def trigger(self) -> str:
        return f"{TRIGGER} {self.subject}"


def read(path: Path, hosts: int) -> list[Task]:
    """Return all tasks of the job. Raises `FatalError` if the file, which is not written by users, is
    invalid."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise FatalError(f"could not read tasks.json of channel tasks: {type(error).__name__}") from None
    if not isinstance(found, dict) or found.get("version") != 1 or not isinstance(found.get("tasks"), list):
        raise FatalError('tasks.json must be {"version": 1, "tasks": [...]}')
    tasks = [_task(f"tasks.json, task {number}", given, hosts) for number, given in enumerate(found["tasks"])]
    if len({task.request for task in tasks}) < len(tasks):
        raise FatalError("the tasks of tasks.json must have different values of request, got one twice")
    return tasks


def _task(where: str, given: Any, hosts: int) -> Task:
    def wrong(name: str, allowed: str) -> FatalError:
        return FatalError(f"{where}: {name} must be {allowed}")

    if not isinstance(given, dict):
        raise FatalError(f"{where} must be an object")
    if unknown := sorted(set(given) - set(Task.__dataclass_fields__)):
        raise FatalError(f"{where}: field {unknown[0]} is unknown")

    def text(name: str, shape: re.Pattern[str]) -> str:
        value = given.get(name)
        if not isinstance(value, str) or not shape.fullmatch(value):
            raise wrong(name, f"text that matches {shape.pattern}")
        return value

    def integer(name: str, least: int, most: int, default: int) -> int:
        value = given.get(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise wrong(name, f"a whole number from {least} to {most}")
        return value

    images, prompts = given.get("images"), given.get("prompts", [])
    if not isinstance(images, list) or not all(
        isinstance(image, str) and IMAGE.fullmatch(image) for image in images
    ):
        raise wrong("images", "a list of paths below the channel images")
    if not isinstance(prompts, list) or not all(
        isinstance(prompt, str) and 0 < len(prompt) <= PROMPT_CHARACTERS for prompt in prompts
    ):
        raise wrong("prompts", f"a list of texts of up to {PROMPT_CHARACTERS} characters")
    return Task(
        text("request", REQUEST),
        tuple(images),
        text("subject", SUBJECT),
        tuple(prompts),
        integer("seed", 0, 2**63 - 1, 0),
        integer("host", 0, hosts - 1, 0),
        integer("steps", 0, 100_000, 0),
    )
