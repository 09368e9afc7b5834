"""Transfers between S3 and a job's instances: input channels, output archives and output files."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import BotoCoreError, ClientError

from local.sagemaker import beneath

S3_ERRORS = (ClientError, BotoCoreError, S3UploadFailedError)

TRANSFER = TransferConfig(use_threads=False)


class TransferError(Exception):
    """Data cannot be downloaded or uploaded. The message is the job's failure reason."""


def split(uri: str) -> tuple[str, str]:
    """Return the bucket and key of `s3://bucket/key`. Raises ValueError."""
    parts = urlsplit(uri)
    if parts.scheme != "s3" or not parts.netloc:
        raise ValueError(f"{uri} is not an S3 address (s3://bucket/key)")
    return parts.netloc, uri.partition(parts.netloc)[2].lstrip("/")


def list_keys(s3: Any, bucket: str, prefix: str) -> Iterator[str]:
    """Yield the keys with a prefix in S3's order, without the folder markers that the S3 console creates."""
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for item in page.get("Contents", []):
            if not item["Key"].endswith("/"):
                yield item["Key"]


def relative(key: str, prefix: str) -> PurePosixPath:
    """Return the path of an object in its channel.

    The path is relative to the prefix if the prefix is a folder, else to the prefix's part before its last
    slash. Raises TransferError for a key that would leave the channel."""
    if key == prefix:
        path = key.rpartition("/")[2]
    elif prefix == "" or prefix.endswith("/") or key.startswith(prefix + "/"):
        path = key[len(prefix) :].lstrip("/")
    else:
        path = key[len(prefix.rpartition("/")[0]) :].lstrip("/")
    parts = PurePosixPath(path)
    if ".." in parts.parts or parts.is_absolute() or not parts.parts:
        raise TransferError(
            f"ClientError: Data download failed:The key {key} is not a path below the channel's folder"
        )
    return parts


SourceObject = tuple[str, str, PurePosixPath]
"""An object to download: its bucket, its key, and the path of its file in the channel."""


def listed(s3: Any, source: Mapping[str, Any], role: str) -> list[SourceObject]:
    """Return the objects of a data source, at least one. Raises TransferError.

    :param source: dictionary with `S3Uri`, and with `S3DataType`, either S3Prefix or ManifestFile
    :param role: ARN, for the error message
    """
    uri = source["S3Uri"]
    manifest = source["S3DataType"] == "ManifestFile"
    try:
        objects = list(_manifest(s3, uri) if manifest else _below_prefix(s3, uri))
    except S3_ERRORS as error:
        raise TransferError(_no_objects(uri, role, s3, error)) from error
    if not objects:
        raise TransferError(_no_objects(uri, role, s3))
    return objects


def fetch_object(s3: Any, bucket: str, key: str, target: Path, role: str) -> None:
    """Download an object into the file `target`. Raises TransferError."""
    try:
        s3.download_file(bucket, key, str(target), Config=TRANSFER)
    except S3_ERRORS as error:
        raise TransferError(
            f"ClientError: Data download failed:Cannot download s3://{bucket}/{key}: {error}. Please "
            f'ensure that the role "{role}" has "s3:GetObject" permission on it.'
        ) from error


def fetch_channel(
    s3: Any, source: Mapping[str, Any], folders: Sequence[Path], role: str, stopped: Callable[[], bool]
) -> None:
    """Download the objects of a data source into the instances' folders. Raises TransferError.

    With `ShardedByS3Key` the objects are distributed among the folders in turn. Otherwise each folder gets
    all objects, which are downloaded once.

    :param source: the request's `S3DataSource` or `S3Input`
    :param folders: one for each instance
    :param role: ARN, for error messages
    :param stopped: function that returns True if no further objects should be downloaded
    """
    sharded = source.get("S3DataDistributionType") == "ShardedByS3Key"
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    for index, (bucket, key, path) in enumerate(listed(s3, source, role)):
        if stopped():
            return
        targets = [folder / path for folder in ([folders[index % len(folders)]] if sharded else folders)]
        try:
            for target in targets:
                target.parent.mkdir(parents=True, exist_ok=True)
                if target.exists():
                    raise FileExistsError
            fetch_object(s3, bucket, key, targets[0], role)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise TransferError(
                f"ClientError: Data download failed:Cannot download s3://{bucket}/{key}, a previously "
                "downloaded file/folder clashes with it"
            ) from error
        for target in targets[1:]:
            shutil.copyfile(targets[0], target)


def _below_prefix(s3: Any, uri: str) -> Iterator[SourceObject]:
    bucket, prefix = split(uri)
    for key in list_keys(s3, bucket, prefix):
        yield bucket, key, relative(key, prefix)


def _manifest(s3: Any, uri: str) -> Iterator[SourceObject]:
    bucket, key = split(uri)
    body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    try:
        (head, *names) = json.loads(body)
        bucket, prefix = split(head["prefix"])
        if not all(isinstance(name, str) for name in names):
            raise TypeError
    except (ValueError, TypeError, KeyError):
        raise TransferError(
            f"ClientError: Data download failed:The manifest {uri} must be a JSON list: "
            '{"prefix": "s3://bucket/prefix/"}, then names below the prefix'
        ) from None
    for name in names:
        yield bucket, prefix + name, relative(prefix + name, prefix)


def _no_objects(uri: str, role: str, s3: Any, error: Exception | None = None) -> str:
    said = f" Error message from S3: {error}" if error else ""
    return (
        f'ClientError: No S3 objects found under S3 URL "{uri}" given in input data source. Please ensure '
        f"that the bucket exists in the selected region ({s3.meta.region_name}), that objects exist under "
        f'that S3 prefix, and that the role "{role}" has "s3:ListBucket" permissions on bucket '
        f'"{split(uri)[0]}".{said}'
    )


def merged(folders: Iterable[Path]) -> dict[str, Path]:
    """Merge the files of the instances' folders, by relative path. Of files with equal paths, the first is
    used.

    Raises TransferError if a folder cannot be read.
    """
    files: dict[str, Path] = {}
    for folder in folders:
        try:
            for path in sorted(files_below(folder)):
                files.setdefault(path.relative_to(folder).as_posix(), path)
        except OSError as error:
            raise unreadable("Artifact", folder, folder, error) from error
    return files


def files_below(folder: Path) -> Iterator[Path]:
    """Yield all files and links below a folder, without following links to folders.

    Unlike `rglob`, raises OSError for an unreadable folder and skips a folder that is removed meanwhile."""

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise error

    for at, folders, names in os.walk(folder, onerror=refuse):
        yield from (Path(at, name) for name in names)
        yield from (path for name in folders if (path := Path(at, name)).is_symlink())


def unreadable(what: str, folder: Path, file: Path, error: OSError) -> TransferError:
    """Return the error for a file that cannot be uploaded. The message names the path in `error`; if it has
    none, `file`."""
    named = Path(error.filename) if isinstance(error.filename, str) else file
    name = (named if named.is_relative_to(folder) else file).relative_to(folder)
    hint = ". Please ensure that the container leaves its files and folders readable to their owner"
    return TransferError(
        f"ClientError: {what} upload failed:{name}: {error.strerror or error}"
        f"{hint if isinstance(error, PermissionError) else ''}"
    )


def store_output(
    s3: Any, files: dict[str, Path], uri: str, compress: bool, kms_key: str, scratch: Path
) -> str:
    """Upload files as the archive `<uri>.tar.gz`, or without an archive below `<uri>/`. Return the URI of the
    archive or folder.

    Raises TransferError.

    :param files: paths on this machine by relative path
    :param scratch: folder for the archive
    """
    extra = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key} if kms_key else {}
    if compress:
        archive = scratch / f"{uri.rpartition('/')[2]}.tar.gz"
        with tarfile.open(archive, "w:gz", compresslevel=6) as tar:
            for name, path in files.items():
                try:
                    tar.add(path, name, recursive=False, filter=_of_nobody)
                except OSError as error:
                    raise unreadable("Artifact", _folder_of(name, path), path, error) from error
        uploads, address = {f"{uri}.tar.gz": archive}, f"{uri}.tar.gz"
    else:
        plain = {name: path for name, path in files.items() if beneath.stays(_folder_of(name, path), path)}
        uploads, address = {f"{uri}/{name}": path for name, path in plain.items()}, f"{uri}/"
    for target, path in uploads.items():
        bucket, key = split(target)
        try:
            s3.upload_file(str(path), bucket, key, ExtraArgs=extra, Config=TRANSFER)
        except S3_ERRORS as error:
            raise TransferError(
                f"ClientError: Artifact upload failed:{error}. Please ensure that the bucket exists and that "
                f'the job\'s role has "s3:PutObject" permission on {target}.'
            ) from error
        except OSError as error:
            folder = path.parent if compress else _folder_of(target.removeprefix(f"{uri}/"), path)
            raise unreadable("Artifact", folder, path, error) from error
    return address


def _folder_of(name: str, path: Path) -> Path:
    return path.parents[len(PurePosixPath(name).parts) - 1]


def _of_nobody(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member
