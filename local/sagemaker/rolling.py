"""Rolling deployments: an endpoint's instances are replaced in batches instead of all at once.

Each batch of new instances gets requests before a batch of old instances is stopped. So during an update only
one additional batch of instances runs, not a whole second fleet.
"""

from __future__ import annotations

import logging
import math
import random
import time
from typing import Any

from local.sagemaker.api import Context, invalid
from local.sagemaker.serving import Fleet, Variant
from local.sagemaker.serving_container import ServingError
from local.sagemaker.store import Record

LEAST, MOST = 5, 50
"""Minimum and maximum size of a batch, in percent of the variant's instances."""

logger = logging.getLogger(__name__)


def policy(params: dict[str, Any], variants: list[Record]) -> Record | None:
    """Return the rolling policy of a request that deploys these variants, or None if none applies.

    SageMaker updates serverless endpoints and endpoints with several variants all at once, despite a policy.
    Raises `ApiError` for a policy that SageMaker refuses.
    """
    given = params.get("DeploymentConfig", {})
    rolling = given.get("RollingUpdatePolicy")
    if rolling is None:
        return None
    if given.get("BlueGreenUpdatePolicy"):
        raise invalid("Only one update policy should be used in the deployment configuration.")
    if len(variants) > 1 or variants[0].get("ServerlessConfig"):
        return None
    size, total = rolling["MaximumBatchSize"], variants[0]["InitialInstanceCount"]
    share = size["Value"] if size["Type"] == "CAPACITY_PERCENT" else 100 * size["Value"] / total
    if not LEAST <= share <= MOST:
        raise invalid(
            f"MaximumBatchSize must be between {LEAST}% and {MOST}% of the variant's total instance count"
            f" ({total}), got {size['Value']} ({size['Type']})."
        )
    return rolling


def applies(fleet: Fleet) -> bool:
    """Return whether the fleet can be replaced in batches: it has one variant, which is not serverless."""
    return len(fleet.variants) == 1 and not any(variant.serverless for variant in fleet.variants.values())


class RollingFleet(Fleet):
    """Two fleets of one endpoint during an update. Each gets requests in proportion to its instances."""

    def __init__(self, old: Fleet, new: Fleet):
        self.old, self.new = old, new
        self.variants, self.weights = old.variants, old.weights

    def choose(self, target: str | None = None) -> Variant | None:
        fleets = (self.old, self.new)
        running = [sum(variant.running for variant in fleet.variants.values()) for fleet in fleets]
        chosen = random.choices(fleets, running)[0] if any(running) else self.old  # noqa: S311 - traffic
        return chosen.choose(target)

    def close(self, drain: float = 0.0) -> None:
        for fleet in (self.new, self.old):
            fleet.close(drain)


def roll(
    context: Context, key: tuple[str, ...], endpoint: str, old: Fleet, spec: Record, policy: Record
) -> Fleet:
    """Replace the old fleet, batch by batch, by a fleet of `spec`, and return the complete new fleet.

    The caller closes the old fleet, which still has its last batch. Raises `ServingError` if a batch does not
    start; the old fleet then gets all its instances again.
    """
    store = context.store.store
    (before,) = (variant.spec for variant in old.variants.values())
    total = spec["InitialInstanceCount"]
    batch = _instances(policy["MaximumBatchSize"], total)
    until = time.monotonic() + policy.get("MaximumExecutionTimeoutInSeconds", math.inf)
    done = min(batch, total)
    new = Fleet(context, endpoint, [spec | {"InitialInstanceCount": done}])
    with store.exclusive():
        store.live[key] = RollingFleet(old, new)
    try:
        new.start()
        while True:
            time.sleep(policy["WaitIntervalInSeconds"])
            if done == total:
                return new
            if time.monotonic() > until:
                raise ServingError("The deployment took longer than MaximumExecutionTimeoutInSeconds.")
            left = math.ceil(before["InitialInstanceCount"] * (total - done) / total)
            old.adjust([before | {"InitialInstanceCount": left}])
            done = min(done + batch, total)
            new.adjust([spec | {"InitialInstanceCount": done}])
    except Exception:
        with store.exclusive():
            store.live[key] = old
        new.close()
        try:
            old.adjust([before])
        except ServingError as error:  # the running instances serve; the next request starts the others
            logger.warning("Could not restore all instances of endpoint %s: %s", endpoint, error)
        raise


def _instances(size: Record, total: int) -> int:
    """Return the number of instances of a batch, at least 1."""
    return max(1, size["Value"] if size["Type"] == "INSTANCE_COUNT" else total * size["Value"] // 100)
