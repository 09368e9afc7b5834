"""Store a note."""

from __future__ import annotations

import os
from typing import Any


def name(text: str, longest: int) -> str:
    """Return the key of a note. Raise ValueError if the text is too long."""
    if len(text) > longest:
        raise ValueError(f"text must have at most {longest} characters, got {len(text)}")
    return f"notes/{len(text)}.txt"


def handler(event: dict[str, Any], context: Any) -> dict[str, str]:
    import boto3

    key = name(event["text"], int(os.environ["LONGEST"]))
    boto3.client("s3").put_object(Bucket=os.environ["BUCKET"], Key=key, Body=event["text"].encode())
    return {"key": key}
