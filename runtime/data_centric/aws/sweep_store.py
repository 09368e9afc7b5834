"""S3: the datasets of sweeps, the output of their jobs, and their results."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from data_centric.core import archive

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ABSENT = ("NoSuchKey", "404")
BLOCK = 1 << 20
"""Number of bytes in each ranged read of an object."""
ARCHIVE = "output.tar.gz"
RESULTS, EPOCHS, LINES = "results.json", "epochs.parquet", "epochs.jsonl"
FILES = (RESULTS, EPOCHS, LINES)
MOST_MEMBER = 256 << 20
"""Maximum size of a file in a job's archive, in bytes."""


@dataclass(frozen=True)
class JobFiles:
    """Output files of a training job."""

    results: dict[str, Any]
    epochs: bytes
    """Parquet: a row for each epoch of each seed"""
    rows: list[dict[str, Any]]
    """The rows of `epochs`"""


class SweepBucket:
    """The bucket in which sweeps keep their files."""

    def __init__(self, s3: S3Client, name: str) -> None:
        self.s3, self.name = s3, name

    def url(self, key: str) -> str:
        return f"s3://{self.name}/{key}"

    def names(self, folder: str) -> Iterator[str]:
        """Yield the path of each file below a folder, relative to the folder. Empty files are omitted."""
        prefix = f"{folder}/"
        for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix):
            for item in page.get("Contents", []):
                if item.get("Size"):
                    yield item.get("Key", "").removeprefix(prefix)

    def get(self, key: str) -> bytes | None:
        try:
            with self.s3.get_object(Bucket=self.name, Key=key)["Body"] as body:
                return body.read()
        except ClientError as error:
            if error.response["Error"]["Code"] in ABSENT:
                return None
            raise

    def put(self, key: str, body: bytes | str, content_type: str) -> None:
        content = body.encode() if isinstance(body, str) else body
        self.s3.put_object(Bucket=self.name, Key=key, Body=content, ContentType=content_type)

    def opened(self, key: str) -> IO[bytes]:
        """Open an object to be read at any position, without downloading all of it."""
        return io.BufferedReader(_Ranges(self.s3, self.name, key), BLOCK)  # pyright: ignore[reportReturnType]

    def job_files(self, folder: str) -> JobFiles:
        """Return the output files of a training job. Raises `ValueError` if its archive lacks a file.

        :param folder: the job's folder, which contains `output/`
        """
        body = self.get(f"{folder}/output/{ARCHIVE}")
        if body is None:
            raise ValueError(f"{folder} has no {ARCHIVE}")
        try:
            found = archive.tar_files(body, FILES, MOST_MEMBER)
        except ValueError as error:
            raise ValueError(f"{ARCHIVE} of {folder}: {error}") from None
        if missing := [name for name in FILES if name not in found]:
            raise ValueError(f"{ARCHIVE} of {folder} has no {' and no '.join(missing)}")
        rows = [json.loads(line) for line in found[LINES].splitlines()]
        return JobFiles(json.loads(found[RESULTS]), found[EPOCHS], rows)


class _Ranges(io.RawIOBase):
    """An S3 object as a file that is read in byte ranges."""

    def __init__(self, s3: S3Client, bucket: str, key: str) -> None:
        self.s3, self.bucket, self.key, self.at = s3, bucket, key, 0
        head = s3.head_object(Bucket=bucket, Key=key)
        self.size, self.tag = head["ContentLength"], head["ETag"]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.size}[whence]
        return self.at

    def tell(self) -> int:
        return self.at

    def readinto(self, buffer: Any) -> int:
        end = min(self.at + len(buffer), self.size)
        if end <= self.at:
            return 0
        # `IfMatch` reads only the version that was opened, so that parts of two versions are never mixed
        found = self.s3.get_object(
            Bucket=self.bucket, Key=self.key, Range=f"bytes={self.at}-{end - 1}", IfMatch=self.tag
        )
        with found["Body"] as body:
            content = body.read()
        buffer[: len(content)] = content
        self.at += len(content)
        return len(content)
