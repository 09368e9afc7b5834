"""boto3 clients of a local cloud."""

from __future__ import annotations

from typing import Any

import boto3
from botocore.config import Config

from local.cloud import LocalCloud


def client(cloud: LocalCloud, service: Any, **credentials: Any) -> Any:
    """Return a client without retries, so that errors show at once."""
    keys = credentials or own_keys(cloud)
    return boto3.client(
        service,
        endpoint_url=cloud.endpoint_url,
        region_name=cloud.region,
        # S3 requires this signature version for presigned URLs; boto3's default is an older one.
        config=Config(
            retries={"total_max_attempts": 1}, signature_version="s3v4" if service == "s3" else None
        ),
        **keys,
    )


def own_keys(cloud: LocalCloud) -> dict[str, Any]:
    """Return the cloud's root access key as arguments of boto3."""
    key = cloud.key
    return {"aws_access_key_id": key.access_key_id, "aws_secret_access_key": key.secret_access_key}
