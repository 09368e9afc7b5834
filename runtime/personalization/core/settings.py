"""Settings of the Lambda functions. They contain no secrets.

The stack sets every field in environment variables that `aws/environment.py` reads. There are no defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class JobSettings:
    """`JOB_SETTINGS`: settings of training jobs."""

    image: str
    role: str
    instance_type: str
    device: str
    """`cuda` or `cpu`; the container fails if the instance does not have it."""
    hosts_max: int
    tasks_per_host: int
    volume_gb: int
    max_runtime: int
    """Maximum duration of a job in seconds. A spot job may take twice this time, including its waits for
    instances."""
    spot: bool
    keep_alive: int
    """Seconds that instances are kept alive for the next job while jobs follow each other; 0: never."""
    base: Mapping[str, str]
    """{"uri": an S3 prefix} or {"id": a Hugging Face id}."""
    hyperparameters: Mapping[str, Any]
    """Hyperparameters of the container. `steps` is the maximum for a fine-tune."""
    steps_per_image: int
    """Training steps for each picture, in total at most the hyperparameter `steps`; 0: always `steps`."""
    prompts: tuple[str, ...]
    """Prompts of the preview pictures; `{trigger}` and `{subject}` are replaced."""
    seconds_per_step: float
    """Estimate that is used until the first fine-tune has been measured."""
    metrics: Mapping[str, str]
    """Metric names and their regular expressions for the job's log."""
    vpc: Mapping[str, Any]
    """{"subnets": [...], "security_groups": [...]}, or {} for none."""
    key: str
    """ARN of the key that encrypts the output; "" for none."""
    volume_key: str
    """ARN of the key that encrypts volumes; "" for none, and for instance types with local disks."""
    tags: Mapping[str, str]

    @property
    def capacity(self) -> int:
        """Maximum number of requests in a job."""
        return self.hosts_max * self.tasks_per_host

    def steps(self, images: int) -> int:
        """Return the number of training steps of a fine-tune on `images` pictures."""
        most = int(self.hyperparameters["steps"])
        return min(images * self.steps_per_image, most) if self.steps_per_image else most


@dataclass(frozen=True)
class Limits:
    """`LIMITS`: limits for each user."""

    models: int
    active: int
    requests_per_minute: int
    pictures_per_minute: int
    images_min: int
    images_max: int
    image_bytes: int
    image_pixels: int
    model_pixels: int
    """Maximum number of pixels of all pictures of a model together."""
    image_side: int
    """Minimum length of a picture's shorter side, in pixels."""
    prompt_chars: int


@dataclass(frozen=True)
class Pace:
    """`PACE`: rate of job creations, retries and timeouts."""

    rate: float
    """Mean rate of job creations per second, below the one per second that CreateTrainingJob sustains."""
    burst: float
    max_attempts: int
    """Maximum number of jobs in which a request is tried before it fails."""
    max_launches: int
    """Maximum number of attempts to create a job before its requests return to the queue or fail."""
    stale_seconds: int
    """Time without an event after which the sweeper acts. Longer than the timeouts of all functions."""
    tombstone_seconds: int
    """Time that the row of a deleted request is kept to remove late objects: longer than an upload form is
    valid."""
