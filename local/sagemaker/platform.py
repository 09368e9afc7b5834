"""What the local SageMaker needs of the cloud around it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from local.images.store import Image


class Platform(Protocol):
    """One running local cloud, as SageMaker sees it. Every method may be called from any thread."""

    endpoint_url: str
    """Where AWS answers on this machine, such as `http://127.0.0.1:4566`."""

    home: Path
    """This cloud's folder. What a job or an endpoint puts on disk goes below it."""

    settings: dict[str, Any]
    """Quotas and paces that a test or a person may set; `local/sagemaker/quotas.py` names them all."""

    def credentials(self, account: str, region: str, role_arn: str, session: str) -> dict[str, str]:
        """The `AWS_*` environment of a process that acts as a role, the endpoint's address included."""
        ...

    def client(
        self,
        service: str,
        account: str,
        region: str,
        role_arn: str,
        session: str,
        read_timeout: float | None = None,
    ) -> Any:
        """A boto3 client that acts as a role, so that its policies are enforced on what is done for it.

        With an empty `role_arn` it acts as the cloud itself, for what AWS does without a role of the
        customer's, such as an endpoint's metrics. With a `read_timeout` in seconds it sends each request
        once.
        """
        ...

    def authorize(
        self,
        account: str,
        region: str,
        access_key: str,
        action: str,
        resource: str,
        about: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Raises `ApiError` when the caller's policies do not grant `action` on `resource`.

        `about` are the condition keys of the service's own that a policy may ask about.
        """
        ...

    def image(self, account: str, region: str, uri: str) -> Image:
        """The local image behind an ECR address; raises `ApiError` when nothing was pushed there."""
        ...

    def manifest_type(self, uri: str) -> str | None:
        """The media type of the manifest behind an ECR address; None when nothing was pushed there."""
        ...

    def publish(self, account: str, region: str, detail_type: str, detail: dict, *resources: str) -> None:
        """Put an `aws.sagemaker` event about resources, by their ARNs, on the default bus."""
        ...

    def adopt(self, process_group: int) -> None:
        """See to it that this process group ends when the cloud does, however it ends."""
        ...

    def release(self, process_group: int) -> None:
        """The process group has ended."""
        ...
