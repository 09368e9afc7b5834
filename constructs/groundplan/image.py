"""Container images that the constructs accept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from aws_cdk import aws_ecr as ecr


class ContainerImage(Protocol):
    """An image in Amazon ECR: a `DockerImageAsset`, or `RepositoryImage` for an existing image."""

    @property
    def image_uri(self) -> str:
        """The image's URI with tag or digest."""
        ...

    @property
    def repository(self) -> ecr.IRepository:
        """The image's repository."""
        ...


@dataclass(frozen=True, kw_only=True)
class RepositoryImage:
    """An existing image in Amazon ECR."""

    repository: ecr.IRepository
    """The image's repository."""
    tag: str
    """Tag of the image, or its digest, `sha256:...`."""

    @property
    def image_uri(self) -> str:
        """The image's URI with tag or digest."""
        return self.repository.repository_uri_for_tag_or_digest(self.tag)
