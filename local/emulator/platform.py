"""What the local cloud provides to the local SageMaker: credentials, clients, IAM checks, images, events."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from boto3.session import Session
from botocore.config import Config

from local import faults
from local.emulator import callers, ministack
from local.images import store as images
from local.images.store import Image
from local.reaper import Reaper
from local.sagemaker.api import ApiError

_ECR = re.compile(r"(\d{12})\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com/([^:@]+)(?::([^@]+))?(?:@(sha256:\w+))?")


def _own(account: str) -> dict[str, str]:
    """Return the environment variables with the cloud's own key in an account."""
    key = callers.own_key(account)
    return {
        "AWS_ACCESS_KEY_ID": key.access_key_id,
        "AWS_SECRET_ACCESS_KEY": key.secret_access_key,
        "AWS_SESSION_TOKEN": "",
    }


class LocalPlatform:
    """Implementation of `local.sagemaker.platform.Platform`. Thread-safe."""

    def __init__(self, endpoint_url: str, home: Path, reaper: Reaper):
        self.endpoint_url, self.home, self._reaper = endpoint_url, home, reaper
        self.settings: dict[str, Any] = {}
        self._clients: dict[tuple[Any, ...], Any] = {}
        self._lock = threading.Lock()

    def credentials(self, account: str, region: str, role_arn: str, session: str) -> dict[str, str]:
        # As on AWS, whether SageMaker may assume a role is checked when the role is used
        if ministack.enforcing() and not ministack.assumable(account, role_arn, "sagemaker.amazonaws.com"):
            raise ApiError(
                "ValidationException",
                f"Could not assume role {role_arn}. Please ensure that the role exists and allows principal "
                "'sagemaker.amazonaws.com' to assume the role.",
            )
        return ministack.role_session(account, role_arn, session) | {
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "SAGEMAKER_MLFLOW_CUSTOM_ENDPOINT": self.endpoint_url,
            "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",
        }

    def client(
        self,
        service: Any,
        account: str,
        region: str,
        role_arn: str,
        session: str,
        read_timeout: float | None = None,
    ) -> Any:
        acting = self.credentials(account, region, role_arn, session) if role_arn else _own(account)
        key = (service, region, acting["AWS_ACCESS_KEY_ID"], read_timeout)
        once = Config(read_timeout=read_timeout, retries={"total_max_attempts": 1}) if read_timeout else None
        with self._lock:  # creating a client is not thread-safe, using one is
            if key not in self._clients:
                self._clients[key] = Session().client(
                    service,
                    region_name=region,
                    endpoint_url=self.endpoint_url,
                    config=once,
                    aws_access_key_id=acting["AWS_ACCESS_KEY_ID"],
                    aws_secret_access_key=acting["AWS_SECRET_ACCESS_KEY"],
                    aws_session_token=acting["AWS_SESSION_TOKEN"] or None,
                )
            return self._clients[key]

    def authorize(
        self,
        account: str,
        region: str,
        access_key: str,
        action: str,
        resource: str,
        about: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        if ministack.enforcing() and not access_key:
            # MiniStack refuses unsigned requests only to its own services, and SageMaker is not one of them
            raise ApiError("MissingAuthenticationTokenException", "Missing Authentication Token", 403)
        denied = ministack.denial(account, region, access_key, action, resource, about)
        if denied:
            raise ApiError("AccessDeniedException", denied)

    def image(self, account: str, region: str, uri: str) -> Image:
        address = _ECR.fullmatch(uri)
        if address is None:
            raise ApiError("ValidationException", f"{uri} is not the address of an image in Amazon ECR")
        owner, place, repository, tag, digest = address.groups()
        manifest = ministack.image_manifest(owner, place, repository, digest or tag or "latest")
        if manifest is None:
            raise ApiError("ValidationException", f"Requested image {uri} not found.")
        try:
            return images.resolve(manifest)
        except (KeyError, ValueError, OSError) as error:
            raise ApiError(
                "ValidationException", f"The image {uri} is not on this machine: {error}"
            ) from error

    def manifest_type(self, uri: str) -> str | None:
        address = _ECR.fullmatch(uri)
        if address is None:
            return None
        owner, place, repository, tag, digest = address.groups()
        manifest = ministack.image_manifest(owner, place, repository, digest or tag or "latest")
        try:
            return json.loads(manifest or "{}").get("mediaType")
        except (ValueError, AttributeError):
            return None

    def publish(self, account: str, region: str, detail_type: str, detail: dict, *resources: str) -> None:
        if faults.take(self, "fault_lose_events"):
            return
        ministack.put_event(account, region, "aws.sagemaker", detail_type, detail, *resources)

    def adopt(self, process_group: int) -> None:
        self._reaper.adopt(process_group)

    def release(self, process_group: int) -> None:
        self._reaper.release(process_group)
