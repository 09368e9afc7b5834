"""The default post-annotation function, with Ground Truth's request and response.

It consolidates the answers with the Dawid-Skene model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from data_centric.aws import environment
from data_centric.core.hooks import consolidated


def handler(event: Mapping[str, Any], context: LambdaContext) -> list[dict[str, Any]]:
    bucket, _, key = event["payload"]["s3Uri"].removeprefix("s3://").partition("/")
    with environment.client("s3").get_object(Bucket=bucket, Key=key)["Body"] as body:
        payload = json.loads(body.read())
    return consolidated(event, payload)
