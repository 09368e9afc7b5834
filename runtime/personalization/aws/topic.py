"""An SNS topic as `ports.Topic`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_sns import SNSClient


@dataclass(frozen=True)
class SnsTopic:
    client: SNSClient
    arn: str

    def publish(self, subject: str, message: Mapping[str, str], attributes: Mapping[str, str]) -> None:
        self.client.publish(
            TopicArn=self.arn,
            Subject=subject,
            Message=json.dumps(message),
            MessageAttributes={
                name: {"DataType": "String", "StringValue": str(value)} for name, value in attributes.items()
            },
        )
