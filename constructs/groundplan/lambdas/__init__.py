"""Lambda functions behind the custom resources of this library, one folder each."""

from __future__ import annotations

from pathlib import Path

from aws_cdk import aws_lambda as lambda_


def code_of(name: str) -> lambda_.Code:
    """Return the code of a function; its handler is `handler.handler`."""
    return lambda_.Code.from_asset(str(Path(__file__).parent / name), exclude=["**/__pycache__", "**/.*"])
