"""Long polling for the CDK CLI.

The CLI calls DescribeStacks every five seconds during a deployment, and so notices its end up to five seconds
late. This module delays the response until the stack is no longer changing.
"""

from __future__ import annotations

import asyncio
import time
from urllib.parse import parse_qs

from local.emulator import ministack
from local.emulator.callers import Admitted

CDK = "aws-cdk"
"""Part of the CDK CLI's user agent."""
LONGEST_SECONDS = 4.0
"""Maximum delay of a response. It must be shorter than the CLI's timeout."""
LOOK_SECONDS = 0.05


async def hold(admitted: Admitted) -> None:
    """Delay a DescribeStacks request of the CDK CLI while its stack is changing, up to `LONGEST_SECONDS`."""
    request = admitted.request
    if b"DescribeStacks" not in request.body or CDK not in request.header("user-agent"):
        return
    asked = parse_qs(request.body.decode(errors="replace"))
    if asked.get("Action") != ["DescribeStacks"] or "StackName" not in asked:
        return
    until = time.monotonic() + LONGEST_SECONDS
    while ministack.changing(asked["StackName"][0]) and time.monotonic() < until:
        await asyncio.sleep(LOOK_SECONDS)
