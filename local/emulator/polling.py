"""The CDK's command line looks at a stack that is being changed every five seconds. It is answered when the
change is over, so that it does not go on waiting after that."""

from __future__ import annotations

import asyncio
import time
from urllib.parse import parse_qs

from local.emulator import ministack
from local.emulator.callers import Admitted

CDK = "aws-cdk"
"""What the CDK's command line says of itself as a user agent."""
LONGEST_SECONDS = 4.0
"""Less than a client waits for an answer."""
LOOK_SECONDS = 0.05


async def hold(admitted: Admitted) -> None:
    """Wait while the stack that the CDK's command line asks for is being changed, but not for long."""
    request = admitted.request
    if b"DescribeStacks" not in request.body or CDK not in request.header("user-agent"):
        return
    asked = parse_qs(request.body.decode(errors="replace"))
    if asked.get("Action") != ["DescribeStacks"] or "StackName" not in asked:
        return
    until = time.monotonic() + LONGEST_SECONDS
    while ministack.changing(asked["StackName"][0]) and time.monotonic() < until:
        await asyncio.sleep(LOOK_SECONDS)
