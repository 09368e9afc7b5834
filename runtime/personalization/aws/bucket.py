"""An S3 bucket as `ports.SharedObjects`."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from personalization.core.rows import UploadForm

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectRequestTypeDef, ObjectIdentifierTypeDef

DELETED_AT_ONCE = 1_000
"""Maximum number of keys in a DeleteObjects request."""


class S3Bucket:
    """`ports.SharedObjects` in an S3 bucket."""

    def __init__(self, s3: S3Client, name: str):
        self.s3, self.name = s3, name

    def get(self, key: str) -> bytes | None:
        return self._read({"Bucket": self.name, "Key": key})

    def get_start(self, key: str, most: int) -> bytes | None:
        """Return at most the first `most` bytes of an object, or None if it does not exist.

        S3 refuses the request if the object is empty.
        """
        return self._read({"Bucket": self.name, "Key": key, "Range": f"bytes=0-{most - 1}"})

    def _read(self, asked: GetObjectRequestTypeDef) -> bytes | None:
        try:
            body = self.s3.get_object(**asked)["Body"]
        except ClientError as error:
            if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
                return None
            raise
        with body:
            return body.read()

    def size_and_type(self, key: str) -> tuple[int, str] | None:
        try:
            found = self.s3.head_object(Bucket=self.name, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
                return None
            raise
        return found["ContentLength"], found.get("ContentType", "")

    def put(self, key: str, body: bytes, content_type: str = "application/octet-stream") -> None:
        self.s3.put_object(Bucket=self.name, Key=key, Body=io.BytesIO(body), ContentType=content_type)

    def list(self, prefix: str) -> list[str]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def copy(self, source: str, target: str) -> None:
        self.s3.copy_object(Bucket=self.name, Key=target, CopySource={"Bucket": self.name, "Key": source})

    def delete(self, keys: Sequence[str]) -> None:
        for start in range(0, len(keys), DELETED_AT_ONCE):
            named: Sequence[ObjectIdentifierTypeDef] = [
                {"Key": key} for key in keys[start : start + DELETED_AT_ONCE]
            ]
            answer = self.s3.delete_objects(Bucket=self.name, Delete={"Objects": named, "Quiet": True})
            for failure in answer.get("Errors", [])[:1]:
                raise OSError(f"s3://{self.name}/{failure['Key']} cannot be deleted: {failure['Message']}")

    def picture(self, key: str, seconds: int) -> str:
        """Return a URL from which a browser can download the object, valid for `seconds`."""
        place = {"Bucket": self.name, "Key": key}
        return self.s3.generate_presigned_url("get_object", Params=place, ExpiresIn=seconds)

    def upload(self, key: str, content_type: str, size: int, seconds: int) -> UploadForm:
        """Return a form with which a browser can upload this object, of this type and size, within
        `seconds`."""
        form = self.s3.generate_presigned_post(
            self.name,
            key,
            Fields={"Content-Type": content_type},
            Conditions=[{"Content-Type": content_type}, ["content-length-range", size, size]],
            ExpiresIn=seconds,
        )
        return {"url": form["url"], "fields": form["fields"]}
