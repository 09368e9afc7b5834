"""Uploads a web page's files to its bucket at a deployment, and deletes them when the stack is deleted.

A custom resource. Its properties:

    SourceBucket, SourceKey   the CDK asset with the page, a zip file
    Bucket                    the page's bucket, which must have no other objects
    Config                    JSON text of an object: the page's settings, uploaded as `config.json`
    StorageBucket             optional: the bucket that the page's presigned URLs refer to
    Retain                    "true": the bucket is not emptied when the stack is deleted

The template does not have the endpoints of Amazon Cognito and S3. This function gets them from the AWS SDK,
and writes them to `config.json` (`cognitoEndpoint`) and to the page's content security policy, where they
replace `{{identity}}` and `{{storage}}`.

Requests are idempotent. The role needs s3:GetObject of the zip file; s3:ListBucket, s3:PutObject and
s3:DeleteObject in the page's bucket; and to empty a versioned bucket, s3:ListBucketVersions and
s3:DeleteObjectVersion.
"""

from __future__ import annotations

import io
import json
import logging
import stat
import time
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from groundplan.lambdas.custom_resource import Request, respond

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ObjectIdentifierTypeDef

log = logging.getLogger()

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
}
"""Content types by file name extension. Browsers reject scripts and style sheets of another type."""

MOST_FILES = 5000
MOST_BYTES = 64 * 2**20
"""Maximum size of an unpacked page, which is kept in the function's memory."""

_clients: dict[str, Any] = {}


def client(service: Any) -> Any:  # `Any`, because boto3's type stubs accept only literal service names
    """Return the client of a service: one for each Lambda execution environment."""
    if service not in _clients:
        _clients[service] = boto3.client(
            service, config=Config(retries={"mode": "standard", "max_attempts": 6})
        )
    return _clients[service]


@dataclass(frozen=True)
class Object:
    """A file of the page, as an object of the bucket."""

    key: str
    body: bytes
    content_type: str
    cache_control: str


def handler(event: dict[str, Any], context: Any) -> None:
    """Answer CloudFormation's request. The physical id is the bucket's name."""
    respond(event, context, identify=lambda properties: properties["Bucket"], work=_work)


def _work(request: Request) -> None:
    if not request.deletes:
        publish(request.properties, request.deadline)
    elif str(request.properties.get("Retain")).lower() != "true":
        empty(request.physical_id, request.deadline)


def publish(properties: Mapping[str, Any], ends: float) -> None:
    """Upload the page to the bucket, and delete all other objects.

    `ends` is the time to give up, on the monotonic clock. Raises `ValueError` for an invalid property or zip
    file, `TimeoutError`, and `ClientError` if AWS refuses a call.
    """
    bucket: str = properties["Bucket"]
    s3: S3Client = client("s3")
    source = s3.get_object(Bucket=properties["SourceBucket"], Key=properties["SourceKey"])
    identity = client("cognito-idp").meta.endpoint_url
    settings = _settings(properties.get("Config") or "{}") | {"cognitoEndpoint": identity}
    origins = {"identity": [_origin(identity)], "storage": _storage(properties.get("StorageBucket"))}
    page = objects(source["Body"].read(), settings, origins)
    for item in page:
        _in_time(ends, f"{item.key} is not published yet")
        s3.put_object(
            Bucket=bucket,
            Key=item.key,
            Body=item.body,
            ContentType=item.content_type,
            CacheControl=item.cache_control,
        )
    keys = {item.key for item in page}
    found = [
        item["Key"]
        for answer in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        for item in answer.get("Contents", [])
    ]
    gone: list[ObjectIdentifierTypeDef] = [{"Key": key} for key in found if key not in keys]
    for first in range(0, len(gone), 1000):
        _delete(bucket, gone[first : first + 1000])
    log.info("%d files in %s, %d taken away", len(page), bucket, len(gone))


def objects(
    archive: bytes, settings: Mapping[str, Any], origins: Mapping[str, Iterable[str]]
) -> list[Object]:
    """Return the bucket's objects: the files of a zip, and `settings` as `config.json`.

    In HTML files, `{{name}}` is replaced by the web origins `origins[name]`. HTML files come last, so that a
    page never refers to a file that was not uploaded yet. Raises `ValueError` for an invalid zip file, for a
    file name that leads out of its folder, for a page without `index.html`, and for an unknown name in its
    HTML.
    """
    files = _unzipped(archive)
    if "index.html" not in files:
        raise ValueError("the page's asset has no index.html")
    files["config.json"] = json.dumps(settings, indent=1, sort_keys=True).encode()
    return [
        Object(name, _filled(name, body, origins), _type(name), _cache(name))
        for name, body in sorted(files.items(), key=lambda file: (file[0].endswith(".html"), file[0]))
    ]


def _unzipped(archive: bytes) -> dict[str, bytes]:
    """Return the files of a zip by name. Raises `ValueError` for a damaged or too large zip file, and for
    links and names that lead out of its folder."""
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            members = opened.infolist()
            if len(members) > MOST_FILES or sum(member.file_size for member in members) > MOST_BYTES:
                raise ValueError(f"the page must have at most {MOST_FILES} files and {MOST_BYTES} bytes")
            for member in members:
                name = member.filename
                kind = stat.S_IFMT(member.external_attr >> 16)  # 0 if the zip was not made on Unix
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise ValueError(f"{name[:80]!r} is neither a file nor a folder")
                if name.startswith("/") or ".." in PurePosixPath(name).parts or len(name.encode()) > 1024:
                    raise ValueError(f"{name[:80]!r} is not a name inside the page")
            return {member.filename: opened.read(member) for member in members if not member.is_dir()}
    # NotImplementedError: an unsupported compression; RuntimeError: an encrypted member
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"the page's asset is not a whole zip file: {error}") from None


def empty(bucket: str, ends: float) -> None:
    """Delete all versions of all objects. A bucket that does not exist is empty. Raises as `publish` does."""
    s3: S3Client = client("s3")
    try:
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
            _in_time(ends, f"bucket {bucket} is not empty yet; delete the stack again to go on")
            found = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
            _delete(bucket, [{"Key": item["Key"], "VersionId": item["VersionId"]} for item in found])
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchBucket":
            raise


def _filled(name: str, body: bytes, origins: Mapping[str, Iterable[str]]) -> bytes:
    if not name.endswith(".html"):
        return body
    for key, hosts in origins.items():
        body = body.replace(f"{{{{{key}}}}}".encode(), " ".join(hosts).encode())
    if b"{{" in body:
        missing = body.partition(b"{{")[2].partition(b"}}")[0].decode(errors="replace")[:40]
        raise ValueError(f"{name}: the placeholder {missing!r} must be one of {', '.join(origins)}")
    return body


def _type(name: str) -> str:
    return TYPES.get(PurePosixPath(name).suffix.lower(), "application/octet-stream")


def _cache(name: str) -> str:
    """Return the Cache-Control of a file.

    Files have the same names in all releases, and the files of a page must be of one release. So browsers
    revalidate each file on every load. Pictures and fonts may be a day old.
    """
    return "public, max-age=86400" if _type(name).startswith(("image/", "font/")) else "no-cache"


def _settings(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ValueError(f"Config must be JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"Config must be a JSON object, got {type(found).__name__}")
    return found


def _storage(bucket: str | None) -> list[str]:
    """Return the web origins of the bucket's presigned URLs: the regional one, and S3's global one, which is
    the SDK's default."""
    if not bucket:
        return []
    regional = Config(signature_version="s3v4", s3={"addressing_style": "virtual"})
    addresses = [
        s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "key"})
        for s3 in (boto3.client("s3", config=regional), client("s3"))
    ]
    return sorted({_origin(address) for address in addresses})


def _origin(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"


def _in_time(ends: float, waiting_for: str) -> None:
    if time.monotonic() > ends:
        raise TimeoutError(waiting_for)


def _delete(bucket: str, found: list[ObjectIdentifierTypeDef]) -> None:
    if not found:
        return
    s3: S3Client = client("s3")
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": found, "Quiet": True})
    for failure in answer.get("Errors", [])[:1]:
        raise OSError(f"s3://{bucket}/{failure['Key']} cannot be deleted: {failure.get('Message')}")
