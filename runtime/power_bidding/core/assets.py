"""Settings of assets, market rules, and model maintenance. They contain no secrets.

The stack sets every field in environment variables that `aws/environment.py` reads. There are no defaults.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeVar

Mode = Literal["self_schedule", "curves", "managed_curves"]
MODES: tuple[Mode, ...] = ("self_schedule", "curves", "managed_curves")
RealTimePolicy = Literal["curve", "selected"]
REAL_TIME_POLICIES: tuple[RealTimePolicy, ...] = ("curve", "selected")
T = TypeVar("T")


@dataclass(frozen=True)
class Battery:
    """A battery. The model container has the same fields for an asset."""

    power: float
    """Maximum MW, the same for charging and discharging"""
    energy: float
    """MWh"""
    charge_efficiency: float
    discharge_efficiency: float
    retention: float
    """Share of the state of charge that is left after an hour"""
    lowest: float
    """Minimum state of charge in MWh"""
    degradation: float
    """Dollars for each MWh discharged"""

    @property
    def round_trip(self) -> float:
        """Share of the bought energy that can be sold after losses."""
        return self.charge_efficiency * self.discharge_efficiency


@dataclass(frozen=True)
class AssetSettings:
    """An asset: one entry of the environment variable `ASSETS`."""

    location: str
    mode: Mode
    real_time_policy: RealTimePolicy
    """In the mode `curves`: `curve` always offers a curve, `selected` uses the policy that would have earned
    most on the previous days"""
    keep_awards: bool
    """Whether real-time curves must deliver day-ahead awards; if not, the difference settles in real time"""
    battery: Battery


@dataclass(frozen=True)
class Rules:
    """Rules of a market, valid from a day."""

    since: str
    """First market day"""
    floor: float
    """$/MWh"""
    cap: float
    """$/MWh"""
    least_mw: float
    """Minimum MW of an offer other than 0, for charging and for discharging"""
    most_segments: int


@dataclass(frozen=True)
class MarketSettings:
    """The environment variable `MARKET`: the market's rules and deadlines."""

    time_zone: str
    lead_hours: int
    """Hours from the hour of a run of the state machine to the hour of its real-time offer"""
    lockout_minutes: float
    """Minutes from the deadline of a real-time offer to the offer's hour"""
    day_ahead_runs: int
    """Number of hourly runs that make day-ahead offers before their deadline; the last run sends them"""
    rules: Sequence[Rules]

    def rules_of(self, day: str) -> Rules:
        """Return the rules of a market day. Raises `ValueError` if none apply yet."""
        known = [each for each in self.rules if each.since <= day]
        if not known:
            raise ValueError(f"MARKET: rules must begin on or before {day}")
        return max(known, key=lambda each: each.since)


@dataclass(frozen=True)
class ModelSettings:
    """The environment variable `MODEL`: when, and on how much data, a model is trained."""

    max_age_hours: int
    """Maximum age of the newest training data; a model with older data is not current"""
    pause_hours: int
    """Minimum time from the last start of the pipeline until a model in service is trained again"""
    history_days: int
    """Number of days of data on which a model is trained"""


def built(kind: type[T], given: Mapping[str, Any], where: str) -> T:
    """Return the settings in a JSON object. Raises `ValueError` that names missing or unknown fields."""
    known = {item.name for item in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(set(given) - known):
        raise ValueError(
            f"{where} has unknown fields: {', '.join(unknown)}; allowed: {', '.join(sorted(known))}"
        )
    if missing := sorted(known - set(given)):
        raise ValueError(f"{where} has missing fields: {', '.join(missing)}")
    return kind(**given)


def assets_of(given: Mapping[str, Any]) -> dict[str, AssetSettings]:
    """Return the assets of the variable `ASSETS` by name. Each entry has the battery's fields at its top
    level."""
    found: dict[str, AssetSettings] = {}
    for name, entry in given.items():
        rest = {**entry}
        location, mode = rest.pop("location", ""), rest.pop("mode", "")
        policy, keep_awards = rest.pop("real_time_policy", ""), rest.pop("keep_awards", None)
        if not location:
            raise ValueError(f"ASSETS: {name}: location must not be empty")
        if mode not in MODES:
            raise ValueError(f"ASSETS: {name}: mode must be one of {', '.join(MODES)}, got {mode!r}")
        if policy not in REAL_TIME_POLICIES:
            allowed = ", ".join(REAL_TIME_POLICIES)
            raise ValueError(f"ASSETS: {name}: real_time_policy must be one of {allowed}, got {policy!r}")
        if not isinstance(keep_awards, bool):
            raise ValueError(f"ASSETS: {name}: keep_awards must be true or false, got {keep_awards!r}")
        found[name] = AssetSettings(
            location, mode, policy, keep_awards, built(Battery, rest, f"ASSETS: {name}")
        )
    return found


def market_of(given: Mapping[str, Any]) -> MarketSettings:
    """Return the settings of `MARKET`."""
    rules = [built(Rules, each, "MARKET: rules") for each in given.get("rules", [])]
    return built(MarketSettings, {**given, "rules": rules}, "MARKET")
