"""Push of an image to the local cloud's ECR."""

from __future__ import annotations

import ipaddress
import os
import re
import urllib.parse

from local.images.dockerfile import BuildError
from local.images.store import Image

ADDRESS = re.compile(r"(\d{12})\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?/([^:@]+):([^:@/]+)")
"""ACCOUNT.dkr.ecr.REGION.amazonaws.com/REPOSITORY:TAG"""


def push(image: Image, address: str) -> None:
    """Store the image's manifest at an address in ECR. Raises `BuildError` if ECR refuses it."""
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    match = ADDRESS.fullmatch(address)
    if match is None:
        raise BuildError(
            f"the image name {address} is not ACCOUNT.dkr.ecr.REGION.amazonaws.com/REPOSITORY:TAG"
        )
    endpoint = os.environ.get("AWS_ENDPOINT_URL_ECR") or os.environ.get("AWS_ENDPOINT_URL")
    if not _is_local(endpoint):
        where = endpoint or "AWS, as AWS_ENDPOINT_URL is not set"
        raise BuildError(
            f"images built without a container engine can be pushed only to the local cloud, not to {where}"
        )
    account, region, repository, tag = match.groups()
    ecr = boto3.client("ecr", region_name=region, endpoint_url=endpoint)
    known = {"registryId": account, "repositoryName": repository}
    try:
        manifest = {"imageManifest": image.manifest, "imageManifestMediaType": image.manifest_type}
        ecr.put_image(**known, **manifest, imageTag=tag)
    except ecr.exceptions.ImageAlreadyExistsException:
        return
    except ecr.exceptions.ImageTagAlreadyExistsException as error:
        there = ecr.batch_get_image(**known, imageIds=[{"imageTag": tag}])["images"]
        if not there or there[0]["imageManifest"] != image.manifest:
            raise BuildError(f"{address}: {error}") from None
    except (ClientError, BotoCoreError) as error:
        raise BuildError(f"{address}: {error}") from None


def _is_local(endpoint: str | None) -> bool:
    host = urllib.parse.urlsplit(endpoint or "").hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
