"""boto3 clients of a local cloud."""

from __future__ import annotations

from typing import Any

import boto3
from botocore.config import Config

from local.cloud import LocalCloud


def client(cloud: LocalCloud, service: Any, **credentials: Any) -> Any:
    """A client whose mistakes show at once: it does not try again."""
    keys = credentials or own_keys(cloud)
    return boto3.client(
        service,
        endpoint_url=cloud.endpoint_url,
        region_name=cloud.region,
        # S3 takes no other version for presigned addresses, and boto3's default is the older one.
        config=Config(
            retries={"total_max_attempts": 1}, signature_version="s3v4" if service == "s3" else None
        ),
        **keys,
    )


def own_keys(cloud: LocalCloud) -> dict[str, Any]:
    """The person's own key, as boto3 takes it."""
    key = cloud.key
    return {"aws_access_key_id": key.access_key_id, "aws_secret_access_key": key.secret_access_key}
