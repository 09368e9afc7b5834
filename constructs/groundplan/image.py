"""Images that a construct may be given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from aws_cdk import aws_ecr as ecr


class ContainerImage(Protocol):
    """An image in Amazon ECR: a `DockerImageAsset`, or `RepositoryImage` for one that exists already."""

    @property
    def image_uri(self) -> str:
        """The image's address, with tag or digest."""
        ...

    @property
    def repository(self) -> ecr.IRepository:
        """The repository that it is pulled from."""
        ...


@dataclass(frozen=True, kw_only=True)
class RepositoryImage:
    """An image that exists already. `tag` may be a digest, `sha256:...`."""

    repository: ecr.IRepository
    tag: str

    @property
    def image_uri(self) -> str:
        """The image's address."""
        return self.repository.repository_uri_for_tag_or_digest(self.tag)
