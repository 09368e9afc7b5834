"""Puts a web page's files into its bucket when CloudFormation deploys its stack, and takes them out with it.

A custom resource. Its properties:

    SourceBucket, SourceKey   the zip file with the page, as the CDK's asset has it
    Bucket                    the page's own bucket; nothing else may be kept there
    Config                    a JSON object in a text: what the page is told, in its `config.json`
    StorageBucket             optional: the bucket that the page's presigned addresses name
    Retain                    "true": the bucket is left as it is when the stack goes

Where Amazon Cognito and S3 answer is not in the template: the AWS SDK knows it, so it is asked here, and the
answers go into `config.json` (`cognitoEndpoint`) and into the content security policy of the page, in the
place of `{{identity}}` and `{{storage}}`.

Each request may be repeated. What the role needs: s3:GetObject of the zip; s3:ListBucket, s3:PutObject and
s3:DeleteObject in the page's bucket, and for the deletion of a bucket with versions s3:ListBucketVersions
and s3:DeleteObjectVersion.
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
"""What browsers must be told: they run no script and apply no style sheet of another type."""

MOST_FILES = 5000
MOST_BYTES = 64 * 2**20
"""Of a page, unpacked: it is held in the function's memory."""

_clients: dict[str, Any] = {}


def client(service: Any) -> Any:  # boto3's types know a client by a literal name only
    """One client per service and Lambda container."""
    if service not in _clients:
        _clients[service] = boto3.client(
            service, config=Config(retries={"mode": "standard", "max_attempts": 6})
        )
    return _clients[service]


@dataclass(frozen=True)
class Object:
    """A file of the page, as it is put into the bucket."""

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
    """Make the bucket hold the page and nothing else.

    `ends`: when to give up, on the monotonic clock. Raises `ValueError` for a bad property or zip,
    `TimeoutError`, and `ClientError` when AWS refuses.
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
    """What the bucket is to hold: the files of a zip, with `settings` as `config.json`.

    In HTML files `{{name}}` becomes the origins of that name. The HTML comes last, so that a page that is
    being read never names a file that is not there yet. Raises `ValueError` when it is no zip, a name in it
    leads out of it, it holds no `index.html`, or its HTML asks for an origin that nobody knows.
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
    """The files of a zip by name. Raises `ValueError` when it is not whole, is too large, or holds a link or
    a name that leads out of it."""
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            members = opened.infolist()
            if len(members) > MOST_FILES or sum(member.file_size for member in members) > MOST_BYTES:
                raise ValueError(f"the page has more than {MOST_FILES} files, or {MOST_BYTES} bytes")
            for member in members:
                name = member.filename
                kind = stat.S_IFMT(member.external_attr >> 16)  # 0 where no Unix made the zip
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise ValueError(f"{name[:80]!r} is neither a file nor a folder")
                if name.startswith("/") or ".." in PurePosixPath(name).parts or len(name.encode()) > 1024:
                    raise ValueError(f"{name[:80]!r} is not a name inside the page")
            return {member.filename: opened.read(member) for member in members if not member.is_dir()}
    # NotImplementedError: an unsupported compression; RuntimeError: an encrypted member
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"the page's asset is not a whole zip file: {error}") from None


def empty(bucket: str, ends: float) -> None:
    """Delete every version of every object; a bucket that is gone is empty. Raises as `publish` does."""
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
        raise ValueError(f"{name} asks for {missing!r}; known are {', '.join(origins)}")
    return body


def _type(name: str) -> str:
    return TYPES.get(PurePosixPath(name).suffix.lower(), "application/octet-stream")


def _cache(name: str) -> str:
    """Files keep their names from one release to the next, and a script must not meet another release's:
    a browser asks each time, and is told in a few bytes that nothing changed. Pictures may be a day old."""
    return "public, max-age=86400" if _type(name).startswith(("image/", "font/")) else "no-cache"


def _settings(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ValueError(f"Config is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"Config is a JSON object, not {type(found).__name__}")
    return found


def _storage(bucket: str | None) -> list[str]:
    """The origins that presigned addresses of the bucket have: in its Region, and S3's global one, which the
    SDK names when it is not asked for the other."""
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
