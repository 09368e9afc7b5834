"""Checkpoints of a training run."""

from __future__ import annotations

import hashlib
import io
import json
import logging
from pathlib import Path
from typing import Any

import torch

from toolkit.sagemaker import write_bytes

from .hosts import Hosts
from .settings import Settings

log = logging.getLogger(__name__)

FREE_TO_CHANGE = ("seeds", "checkpoint_every", "threads", "timeout", "most_unreadable")
"""Hyperparameters that may differ between a checkpoint and the job that resumes from it."""


def key_of(settings: Settings, digest: str) -> str:
    """Return a hash of settings and data. A job resumes only from a checkpoint with the same hash."""
    chosen = {name: value for name, value in settings.as_dict().items() if name not in FREE_TO_CHANGE}
    return hashlib.sha256(json.dumps([chosen, digest], sort_keys=True).encode()).hexdigest()


def write(path: Path, key: str, state: dict[str, Any]) -> None:
    content = io.BytesIO()
    torch.save({"key": key, "state": state}, content)
    write_bytes(path, content.getvalue())


def read(path: Path, key: str, hosts: Hosts | None = None) -> dict[str, Any] | None:
    """Return the saved state of a run; None if there is no checkpoint, or if it is unusable, which is logged.

    :param hosts: the hosts, which all use the checkpoint of rank 0. Default: only this host
    """
    content = b"+" + path.read_bytes() if path.exists() else b"-"
    shared = (hosts or Hosts()).broadcast(torch.frombuffer(bytearray(content), dtype=torch.uint8))
    content = shared.numpy().tobytes()
    if content == b"-":
        return None
    try:
        found = torch.load(io.BytesIO(content[1:]), map_location="cpu", weights_only=True)
        fits, state = found["key"] == key, found["state"]
    except Exception:  # torch.load raises many types of errors for a damaged file
        log.warning("checkpoint %s cannot be read: training starts from the beginning", path.name)
        return None
    if not fits:
        log.warning(
            "checkpoint %s was made with other hyperparameters or data: training starts from the beginning",
            path.name,
        )
        return None
    return state
