"""Settings of the container from environment variables, and validation of requests."""

from __future__ import annotations

import os
import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from toolkit.failure import FatalError


class RequestError(Exception):
    """An error of a request, which is answered with `status` and the message."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status = status


def _number(value: str | None, default: Any, kind: type, least: float, name: str) -> Any:
    if not value:
        return default
    try:
        found = kind(value)
    except ValueError:
        found = None
    if found is None or not found >= least:
        raise FatalError(f"{name} must be a number from {least:g}, got {value!r}")
    return found


@dataclass(frozen=True)
class Settings:
    base: str
    """The pipeline that all adapters change: `s3://bucket/prefix/`, a Hugging Face id, or a folder."""
    device: str
    """`cuda` or `cpu`, which PyTorch must find; empty for either."""
    host: str
    port: int
    memory: int | None
    """Maximum bytes of all loaded models; None: half of the memory that is free when the base is resident."""
    adapter_bytes: int
    """Maximum bytes of an adapter's file."""
    batch: int
    """Maximum number of pictures in a denoising batch, and of requests in a batch of Triton."""
    delay: float
    """Seconds that Triton waits for more requests to join a batch."""
    queue: int
    """Maximum number of waiting requests. Further requests get status 503."""
    steps: int
    """Default number of denoising steps of a request."""
    guidance: float
    """Default guidance scale of a request."""
    prompt: int
    """Maximum length of a prompt in characters."""

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Read the environment variables. Raises `FatalError` that names an invalid variable."""

        def number(name: str, default: Any, kind: type = int, least: float = 1) -> Any:
            return _number(environment.get(name), default, kind, least, name)

        base = environment.get("GROUNDPLAN_BASE", "").strip()
        if not base:
            raise FatalError(
                "GROUNDPLAN_BASE is missing, must be s3://bucket/prefix/, a Hugging Face id or a folder"
            )
        return cls(
            base=base,
            device=environment.get("GROUNDPLAN_DEVICE", ""),
            host=environment.get("BIND_HOST", "0.0.0.0"),  # noqa: S104 - SageMaker calls from outside
            port=number("SAGEMAKER_BIND_TO_PORT", 8080),
            memory=number("GROUNDPLAN_MEMORY", None),
            adapter_bytes=number("GROUNDPLAN_ADAPTER_BYTES", 256 * 2**20),
            batch=number("GROUNDPLAN_BATCH", 8),
            delay=number("GROUNDPLAN_BATCH_DELAY", 0.02, float, 0),
            queue=number("GROUNDPLAN_QUEUE", 64),
            steps=number("GROUNDPLAN_STEPS", 25),
            guidance=number("GROUNDPLAN_GUIDANCE", 7.5, float, 0),
            prompt=number("GROUNDPLAN_PROMPT", 500),
        )


SEEDS = 2**32
IMAGES = 4
STEPS = 100
GUIDANCE = 30


def generation(given: Any, settings: Settings) -> dict[str, Any]:
    """Return the body of an invocation, validated and with defaults.

    Raises `RequestError` (400) with the field and what is allowed.
    """
    if not isinstance(given, dict):
        raise RequestError(
            400, 'the body must be an object such as {"prompt": "a photo of sks cat", "seed": 7, "count": 1}'
        )
    known = {"prompt", "seed", "count", "steps", "guidance"}
    if unknown := sorted(set(given) - known):
        raise RequestError(
            400, f"field {unknown[0][:40]} is unknown, must be one of {', '.join(sorted(known))}"
        )

    def whole(field: str, default: int, least: int, most: int) -> int:
        value = given.get(field, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise RequestError(400, f"{field} must be a whole number from {least} to {most}")
        return value

    prompt = given.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip() or len(prompt) > settings.prompt:
        raise RequestError(400, f"prompt must be text of 1 to {settings.prompt} characters")
    if re.search(f"[^{re.escape(string.whitespace)}\\x20-\\U0010ffff]|[\\ud800-\\udfff]", prompt):
        raise RequestError(400, "prompt must be text without control characters")
    guidance = given.get("guidance", settings.guidance)
    if isinstance(guidance, bool) or not isinstance(guidance, int | float) or not 0 <= guidance <= GUIDANCE:
        raise RequestError(400, f"guidance must be a number from 0 to {GUIDANCE}")
    return {
        "prompt": prompt,
        "seed": whole("seed", 0, 0, SEEDS - 1),
        "count": whole("count", 1, 1, IMAGES),
        "steps": whole("steps", settings.steps, 1, STEPS),
        "guidance": float(guidance),
    }
