"""The settings of the functions. They hold no secrets.

The stack sets every field, in environment variables that `aws/environment.py` reads.
There are no defaults here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class JobSettings:
    """`JOB_SETTINGS`: what a training job is made of."""

    image: str
    role: str
    instance_type: str
    device: str
    """`cuda` or `cpu`, which the container must find there."""
    hosts_max: int
    tasks_per_host: int
    volume_gb: int
    max_runtime: int
    """Seconds. A spot job may wait as long again for its instances."""
    spot: bool
    keep_alive: int
    """Seconds that instances wait for the next job while the queue is steady; 0 for never."""
    base: Mapping[str, str]
    """{"uri": an S3 prefix} or {"id": a Hugging Face id}."""
    hyperparameters: Mapping[str, Any]
    """The container's own. `steps` is the most that a fine-tune gets."""
    steps_per_image: int
    """Training steps for each picture, at most the hyperparameter `steps`; 0 for always that number."""
    prompts: tuple[str, ...]
    """Prompts of the preview pictures; `{trigger}` and `{subject}` are replaced."""
    seconds_per_step: float
    """Until the first fine-tunes have been measured."""
    metrics: Mapping[str, str]
    """Names and regular expressions for the job's log."""
    vpc: Mapping[str, Any]
    """{"subnets": [...], "security_groups": [...]}, or {} for none."""
    key: str
    """The ARN of the key that encrypts the output; "" for none."""
    volume_key: str
    """The ARN of the key that encrypts volumes; "" for none, and for instance types with local disks."""
    tags: Mapping[str, str]

    @property
    def capacity(self) -> int:
        """How many requests fit one job."""
        return self.hosts_max * self.tasks_per_host

    def steps(self, images: int) -> int:
        """The training steps of a fine-tune on this many pictures."""
        most = int(self.hyperparameters["steps"])
        return min(images * self.steps_per_image, most) if self.steps_per_image else most


@dataclass(frozen=True)
class Limits:
    """`LIMITS`: what one user may have and send."""

    models: int
    active: int
    requests_per_minute: int
    pictures_per_minute: int
    images_min: int
    images_max: int
    image_bytes: int
    image_pixels: int
    model_pixels: int
    """Of all pictures of a model together."""
    image_side: int
    """The shorter side, in pixels, at least."""
    prompt_chars: int


@dataclass(frozen=True)
class Pace:
    """`PACE`: how fast jobs are created, and how long anything may be silent."""

    rate: float
    """Jobs a second in the long run: below the one a second that CreateTrainingJob sustains."""
    burst: float
    max_attempts: int
    """Jobs that a request may be in before it fails."""
    max_launches: int
    """How often the creation of one job may be put off before its requests return to the queue."""
    stale_seconds: int
    """After so long without an event the sweeper asks for itself. Longer than any of the Lambdas runs."""
    tombstone_seconds: int
    """How long a deleted request is remembered, to remove what arrives late: longer than an upload's address
    is valid."""
