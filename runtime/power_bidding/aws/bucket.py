"""An S3 bucket, as `datasets.Objects` and as the `Store` of the feeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ABSENT = ("NoSuchKey", "404")
EXISTS = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")


class S3Bucket:
    def __init__(self, s3: S3Client, name: str) -> None:
        self.s3, self.name = s3, name

    def get(self, key: str) -> bytes | None:
        try:
            body = self.s3.get_object(Bucket=self.name, Key=key)["Body"]
        except ClientError as error:
            if error.response["Error"]["Code"] in ABSENT:
                return None
            raise
        with body:
            return body.read()

    def put(self, key: str, body: bytes, content_type: str) -> None:
        self.s3.put_object(Bucket=self.name, Key=key, Body=body, ContentType=content_type)

    def put_new(self, key: str, body: bytes, content_type: str) -> bool:
        """Write the object unless it exists; return whether it was written."""
        try:
            self.s3.put_object(
                Bucket=self.name, Key=key, Body=body, ContentType=content_type, IfNoneMatch="*"
            )
        except ClientError as error:
            if error.response["Error"]["Code"] in EXISTS:
                return False
            raise
        return True

    def copy(self, source: str, key: str) -> None:
        """Copy an object of this bucket, given by its address `s3://BUCKET/KEY`, to another key."""
        there = source.removeprefix(f"s3://{self.name}/")
        if there == source:
            raise ValueError(f"{source} is not in the bucket {self.name}")
        self.s3.copy_object(Bucket=self.name, Key=key, CopySource={"Bucket": self.name, "Key": there})

    def list(self, prefix: str) -> list[str]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]
