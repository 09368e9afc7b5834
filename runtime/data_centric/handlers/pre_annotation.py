"""The default pre-annotation function, with Ground Truth's request and response.

It returns the item unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from data_centric.core.hooks import task_input


def handler(event: Mapping[str, Any], context: LambdaContext) -> dict[str, Any]:
    return task_input(event)
