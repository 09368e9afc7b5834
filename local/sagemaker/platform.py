"""The part of the local cloud's interface that the local SageMaker uses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from local.images.store import Image


class Platform(Protocol):
    """One running local cloud. Its methods are thread-safe."""

    endpoint_url: str
    """Address of the local AWS API, such as `http://127.0.0.1:4566`"""

    home: Path
    """The cloud's folder. Jobs and endpoints put their files below it"""

    settings: dict[str, Any]
    """Quotas and intervals that differ from their defaults in `local/sagemaker/quotas.py`"""

    def credentials(self, account: str, region: str, role_arn: str, session: str) -> dict[str, str]:
        """Return the `AWS_*` environment variables of a process that acts as a role. They include the local
        AWS API's address."""
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
        """Return a boto3 client that acts as a role, so that the role's policies are enforced.

        :param role_arn: empty: the cloud itself, for work that AWS does without a customer's role, such as an
            endpoint's metrics
        :param read_timeout: seconds. With it, requests are not retried
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
        """Raise `ApiError` if the caller's policies do not grant `action` on `resource`.

        :param about: values of the service's condition keys
        """
        ...

    def image(self, account: str, region: str, uri: str) -> Image:
        """Return the local image at an ECR address. Raises `ApiError` if none was pushed there."""
        ...

    def manifest_type(self, uri: str) -> str | None:
        """Return the media type of the manifest at an ECR address, or None if no image was pushed there."""
        ...

    def publish(self, account: str, region: str, detail_type: str, detail: dict, *resources: str) -> None:
        """Send an `aws.sagemaker` event to the default event bus.

        :param resources: ARNs of the resources concerned
        """
        ...

    def adopt(self, process_group: int) -> None:
        """Register a process group, to be ended when the cloud ends for any reason."""
        ...

    def release(self, process_group: int) -> None:
        """Stop tracking a process group that has ended."""
        ...
