"""The files of a labeling job in S3, read and written with its role."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from local.sagemaker.artifacts import S3_ERRORS, TransferError, split
from local.sagemaker.jobs.job import JobError

Parsed = TypeVar("Parsed")


@dataclass(frozen=True)
class JobFiles:
    """Access to a labeling job's files.

    :param s3: client with the job's role
    :param role: ARN, for error messages
    :param key: KMS key for written objects; empty: the bucket's default encryption
    """

    s3: Any
    role: str
    key: str

    def read(self, what: str, uri: str, parse: Callable[[bytes], Parsed]) -> Parsed:
        """Read and parse an object. Raises TransferError, or JobError if `parse` raises ValueError.

        :param what: description of the object for error messages
        """
        bucket, key = split(uri)
        try:
            body = self.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        except S3_ERRORS as error:
            raise TransferError(
                f"ClientError: Cannot read the {what} {uri}: {error}. Please ensure that it exists and that"
                f' the role "{self.role}" has "s3:GetObject" permission on it.'
            ) from error
        try:
            return parse(body)
        except ValueError as error:
            raise JobError(f"ClientError: The {what} {uri} is invalid: {error}") from None

    def problem(self, uri: str) -> str:
        """Return why an object cannot be read; empty if it can."""
        bucket, key = split(uri)
        try:
            self.s3.head_object(Bucket=bucket, Key=key)
        except S3_ERRORS as error:
            return str(error)
        return ""

    def write(self, uri: str, body: bytes) -> str:
        """Write an object and return its URI. Raises TransferError."""
        bucket, key = split(uri)
        extra = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": self.key} if self.key else {}
        try:
            self.s3.put_object(Bucket=bucket, Key=key, Body=body, **extra)
        except S3_ERRORS as error:
            raise TransferError(
                f"ClientError: Cannot write {uri}: {error}. Please ensure that the bucket exists and that"
                f' the role "{self.role}" has "s3:PutObject" permission on it.'
            ) from error
        return uri
