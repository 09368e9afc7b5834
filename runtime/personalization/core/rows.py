"""Types of rows in the tables `models` and `generations`, and of messages."""

from __future__ import annotations

from typing import NotRequired, TypedDict


class ImageRow(TypedDict):
    """A picture that the user will upload, as announced when the model was created."""

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
    """Name of the training job; absent until the model's request is assigned to one."""


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
    """Body of a request to the endpoint."""

    prompt: str
    seed: int
    count: int


class UploadForm(TypedDict):
    """URL and form fields of a presigned POST to S3."""

    url: str
    fields: dict[str, str]
