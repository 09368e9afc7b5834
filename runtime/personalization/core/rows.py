"""Models and generations as their tables hold them and the API reads them."""

from __future__ import annotations

from typing import NotRequired, TypedDict


class ImageRow(TypedDict):
    """A picture that its user has announced."""

    type: str
    bytes: int


class ModelRow(TypedDict):
    user: str
    model: str
    request: str
    name: str
    subject: str
    images: list[ImageRow]
    status: str
    reason: str
    target: str
    """Name of the model at the endpoint."""
    previews: int
    created: str
    updated: str
    job: NotRequired[str]
    """Set once a job has been claimed for it."""


class GenerationRow(TypedDict):
    user: str
    generation: str
    model: str
    prompt: str
    seed: int
    count: int
    status: str
    created: str
    updated: str


class GenerationRequest(TypedDict):
    """What the endpoint is sent."""

    prompt: str
    seed: int
    count: int


class UploadForm(TypedDict):
    """A presigned POST."""

    url: str
    fields: dict[str, str]
