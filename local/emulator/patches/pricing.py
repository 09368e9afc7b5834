"""The AWS Price List, which MiniStack does not have."""

from __future__ import annotations

from local.emulator.reach import Cloud, hook, put, touch
from local.sagemaker import prices
from local.sagemaker.http import PRICES


@hook
def price_list_service(cloud: Cloud) -> None:
    """MiniStack has no price list. This hook routes requests to `local.sagemaker`."""
    put("app.SERVICE_HANDLERS", prices.SERVICE, value=touch("app.SERVICE_HANDLERS")["sagemaker"])
    put("core.router.SERVICE_PATTERNS", prices.SERVICE, value={"target_prefixes": [f"{PRICES}."]})
