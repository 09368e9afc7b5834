"""A Lambda function's settings, from its environment variables, and its AWS clients.

Each client is made once, and every call has a timeout.
"""

from __future__ import annotations

import functools
import os
from typing import Any

import boto3
from botocore.config import Config

CONFIG = Config(connect_timeout=3, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 4})


def setting(name: str) -> str:
    """Return the environment variable `name`. Raises `ValueError` if it is not set."""
    value = os.environ.get(name)
    if not value:
        raise ValueError(f"the environment variable {name} is not set")
    return value


def settings_list(name: str) -> tuple[str, ...]:
    """Return the parts of a comma-separated variable. Raises `ValueError` if it is not set."""
    return tuple(part.strip() for part in setting(name).split(",") if part.strip())


def number(name: str) -> int:
    """Return a variable as a whole number. Raises `ValueError` if it is not set or not a whole number."""
    text = setting(name)
    if not text.isdigit():
        raise ValueError(f"the environment variable {name} must be a whole number, got {text!r}")
    return int(text)


@functools.cache
def client(service: Any) -> Any:  # `Any`, because boto3's type stubs accept only literal service names
    return boto3.client(service, config=CONFIG)
