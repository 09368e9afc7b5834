"""What the stack tells the Lambdas, from their environment. Sizes and paces, never a secret."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class JobSettings:
    """`JOB_SETTINGS`: what a training job is made of."""

    image: str
    role: str
    instance_type: str
    hosts_max: int = 4
    tasks_per_host: int = 4
    volume_gb: int = 50
    max_runtime: int = 14_400
    """Seconds. A spot job may wait as long again for its instances."""
    spot: bool = True
    keep_alive: int = 0
    """Seconds that instances wait for the next job while the queue is steady; 0 for never."""
    base: Mapping[str, str] = field(default_factory=dict)
    """{"uri": an S3 prefix} or {"id": a Hugging Face id}."""
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    steps_per_image: int = 0
    """Training steps for each picture, at most the hyperparameter `steps`; 0 for always that number."""
    prompts: tuple[str, ...] = ("a photo of {trigger}",)
    """For the first pictures."""
    seconds_per_step: float = 0.5
    """Until the first fine-tunes have been measured."""
    metrics: Mapping[str, str] = field(default_factory=dict)
    """Names and regular expressions for the job's log."""
    vpc: Mapping[str, Any] = field(default_factory=dict)
    """{"subnets": [...], "security_groups": [...]}."""
    key: str = ""
    """The ARN of the key that encrypts volumes and output."""
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def capacity(self) -> int:
        """How many requests fit one job: they are claimed in one transaction, of 100 items at most."""
        return min(30, self.hosts_max * self.tasks_per_host)

    def steps(self, images: int) -> int:
        """The steps of a fine-tune on so many pictures; 0 for the job's own number."""
        most = int(self.hyperparameters.get("steps", 0))
        wanted = images * self.steps_per_image
        return min(wanted, most) if wanted and most else wanted


@dataclass(frozen=True)
class Limits:
    """`LIMITS`: what one user may have and send."""

    models: int = 20
    active: int = 3
    requests_per_minute: int = 120
    images_min: int = 3
    images_max: int = 20
    image_bytes: int = 10_000_000
    image_pixels: int = 40_000_000
    image_side: int = 64
    """The shorter side, in pixels, at least."""
    prompt_chars: int = 400


@dataclass(frozen=True)
class Pace:
    """`PACE`: how fast jobs are created, and how long anything may be silent."""

    rate: float = 0.8
    """Jobs a second in the long run: below the one a second that CreateTrainingJob sustains."""
    burst: float = 2
    max_attempts: int = 3
    """Jobs that a request may be in before it fails."""
    max_launches: int = 40
    """How often the creation of one job may be put off: throttling and quotas, about three hours."""
    stale_seconds: int = 120
    """After so long without an event the sweeper asks for itself. Longer than any of the Lambdas runs."""
    tombstone_seconds: int = 3_600
    """So long what was deleted is remembered, to remove what came late: longer than an upload's address."""


def read(kind: type[T], name: str) -> T:
    """The settings in the JSON of the variable `name`. Raises `ValueError` naming what is unknown."""
    given = json.loads(os.environ.get(name) or "{}")
    known = {item.name for item in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(set(given) - known):
        raise ValueError(f"{name}: {', '.join(unknown)} not known, allowed are: {', '.join(sorted(known))}")
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})
