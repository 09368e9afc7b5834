"""Settings as environment variables of the Lambda functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from settings.power_bidding import PowerBidding

RULES = {"since", "floor", "cap", "least_mw", "most_segments"}
HORIZON_HOURS = 48
"""Number of hours ahead for which feeds are read."""


def locations(chosen: PowerBidding) -> dict[str, str]:
    """Return the location of each asset."""
    return dict(asset.split("@") for asset in chosen.assets)


def assets(chosen: PowerBidding) -> dict[str, Any]:
    """Return the value of the environment variable `ASSETS`."""
    battery = chosen.battery.model_dump()
    return {
        name: {
            "location": location,
            "mode": chosen.mode,
            "real_time_policy": chosen.real_time_policy,
            "keep_awards": chosen.keep_awards,
            **battery,
        }
        for name, location in locations(chosen).items()
    }


def market(chosen: PowerBidding) -> dict[str, Any]:
    """Return the value of the environment variable `MARKET`."""
    return {
        "time_zone": chosen.time_zone,
        "lead_hours": chosen.lead_hours,
        "lockout_minutes": chosen.market.offer_minutes,
        "day_ahead_runs": chosen.market.day_ahead_runs,
        "rules": [chosen.market.model_dump(include=RULES)],
    }


def model(chosen: PowerBidding) -> dict[str, int]:
    """Return the value of the environment variable `MODEL`."""
    return {
        "max_age_hours": chosen.model_max_age_hours,
        "pause_hours": chosen.retrain_pause_hours,
        "history_days": chosen.training_days,
    }


def hosting(
    chosen: PowerBidding,
    *,
    tags: Mapping[str, str],
    vpc: Mapping[str, Sequence[str]] | None,
    key: str,
    log_key: str,
) -> dict[str, Any]:
    """Return the value of the environment variable `HOSTING`.

    Subnets and the ARNs of the keys may be CDK tokens. A serverless endpoint supports no VPC and no
    key for its storage.
    """
    shared = {"tags": dict(tags), "log_days": chosen.log_retention_days, "log_key": log_key}
    if chosen.hosting == "serverless":
        serverless = {
            "MemorySizeInMB": chosen.serverless_memory_mb,
            "MaxConcurrency": chosen.serverless_concurrency,
        }
        return {"variant": {"ServerlessConfig": serverless}, "vpc": {}, "key": "", **shared}
    instances = {"InstanceType": chosen.hosting_instance_type, "InitialInstanceCount": 1}
    return {"variant": instances, "vpc": dict(vpc or {}), "key": key, **shared}
