"""Objects of the stack's bucket in S3."""

from __future__ import annotations

from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from data_centric.core.places import INPUTS, Places

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class ObjectError(ValueError):
    """An object does not exist, or is too large."""


class Objects:
    def __init__(self, client: S3Client, places: Places) -> None:
        self.client, self.places = client, places

    def read(self, key: str, most: int | None = None) -> bytes:
        """Return an object. Raises `ObjectError` if it does not exist, or has more than `most` bytes."""
        try:
            found = self.client.get_object(Bucket=self.places.bucket, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
                raise ObjectError(f"there is no object {self.places.url(key)}") from None
            raise
        with found["Body"] as body:
            if most is not None and found["ContentLength"] > most:
                raise ObjectError(
                    f"{self.places.url(key)} must have at most {most} bytes, got {found['ContentLength']}"
                )
            return body.read()

    def write(self, key: str, body: bytes, content_type: str) -> None:
        self.client.put_object(Bucket=self.places.bucket, Key=key, Body=body, ContentType=content_type)

    def address(self, reference: str, seconds: int) -> str:
        """Return a URL from which a browser can download the object at an S3 address, valid for `seconds`.

        Raises `ValueError` unless the object is in the folder that labelers may see.
        """
        place = {"Bucket": self.places.bucket, "Key": self.places.key(reference, INPUTS)}
        return self.client.generate_presigned_url("get_object", Params=place, ExpiresIn=seconds)
