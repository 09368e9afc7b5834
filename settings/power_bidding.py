"""The settings of `power_bidding`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from settings.base import ArchitectureSettings, Choices, split, whole
from settings.instance_types import InstanceUse, cpu
from settings.models import TRAINING_INSTANCES

Mode = Literal["self_schedule", "curves", "managed_curves"]
RealTimePolicy = Literal["curve", "selected"]
Hosting = Literal["serverless", "provisioned"]
NetworkLoss = Literal["error", "decision"]
ASSET = r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?@[A-Za-z0-9_.-]{1,64}$"
HOSTING_INSTANCES = InstanceUse(
    "hosting", cpu, "an x86 instance type for SageMaker endpoints, without a GPU", "ml.m5.large"
)


def _zone(given: str) -> str:
    allowed = "a time zone of the IANA database, such as America/Chicago"
    try:
        ZoneInfo(given)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise PydanticCustomError("time_zone", "{allowed}", {"allowed": allowed}) from None
    return given


class Battery(Choices):
    """The storage asset. All assets of a deployment are alike."""

    power: float = Field(default=8, gt=0, le=1e6, description="a number of MW above 0 and at most 1000000")
    energy: float = Field(default=32, gt=0, le=1e6, description="a number of MWh above 0 and at most 1000000")
    charge_efficiency: float = Field(default=0.85, gt=0, le=1, description="a number above 0 and at most 1")
    discharge_efficiency: float = Field(default=1, gt=0, le=1, description="a number above 0 and at most 1")
    retention: float = Field(
        default=1, gt=0, le=1, description="a number above 0 and at most 1, what an hour leaves of the charge"
    )
    lowest: float = Field(default=0, ge=0, le=1e6, description="a number of MWh from 0, below energy")
    degradation: float = Field(
        default=0, ge=0, le=1e6, description="a number of dollars from 0 for each MWh discharged"
    )


class MarketRules(Choices):
    """Rules of the market."""

    floor: float = Field(default=-250, ge=-10_000, le=0, description="a price in $/MWh from -10000 to 0")
    cap: float = Field(default=5000, gt=0, le=20_000, description="a price in $/MWh above 0, to 20000")
    least_mw: float = Field(default=0.1, gt=0, le=10, description="a number of MW above 0 and at most 10")
    most_segments: int = Field(default=10, ge=3, le=10, description="a whole number from 3 to 10")
    offer_minutes: int = Field(
        default=75, ge=5, le=1440, description="a whole number of minutes from 5 to 1440 before the hour"
    )
    day_ahead_runs: int = Field(
        default=2,
        ge=1,
        le=24,
        description="a whole number from 1 to 24: the last runs before the day-ahead market closes at 10:00,"
        " which make its offers. The last one sends them",
    )
    since: str = Field(
        default="2015-01-01",
        pattern=r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$",
        description="the first day of these rules, such as 2021-03-20",
    )


class PowerBidding(ArchitectureSettings):
    """Bid storage into an electricity market every hour, by forecasts that a pipeline keeps current."""

    ENVIRONMENTS: ClassVar = {
        "prod": {
            "retain": True,
            "own_key": True,
            "log_retention_days": 365,
            "scheduled": True,
            "minimum_capture": 0.7,
        },
    }

    assets: Annotated[tuple[Annotated[str, Field(pattern=ASSET)], ...], BeforeValidator(split)] = Field(
        default=("battery-1@HB_NORTH",),
        max_length=20,
        description="NAME@LOCATION, comma separated, such as battery-1@HB_NORTH,battery-2@HB_WEST",
    )
    battery: Battery = Battery()
    market: MarketRules = MarketRules()
    time_zone: Annotated[str, AfterValidator(_zone)] = Field(
        default="America/Chicago", description="a time zone of the IANA database, such as America/Chicago"
    )
    mode: Mode = Field(default="curves", description="one of " + ", ".join(get_args(Mode)))
    real_time_policy: RealTimePolicy = Field(
        default="curve",
        description="one of "
        + ", ".join(get_args(RealTimePolicy))
        + ": with the mode curves, always a curve, or whichever of curve, rolling schedule and the day's"
        " schedule earned most in the 84 days before",
    )
    keep_awards: bool = Field(
        default=True,
        description="true or false, whether real-time curves deliver what was sold day-ahead",
    )
    lead_hours: int = Field(
        default=2,
        ge=2,
        le=24,
        description="a whole number from 2 to 24: a run offers for the hour so many later",
    )
    scheduled: bool = Field(default=False, description="true or false, whether a run starts every hour")
    deletion_protection: bool = Field(
        default=False,
        description="true or false, whether DynamoDB refuses to delete tables; for a stack that is there"
        " already, because a first deployment that fails could not be rolled back",
    )
    late_minutes: int = Field(
        default=20,
        ge=1,
        le=60,
        description="a whole number of minutes from 1 to 60 that a late feed is waited for",
    )
    model_max_age_hours: int = Field(
        default=168,
        ge=24,
        le=8760,
        description="a whole number of hours from 24 to 8760, before a model is retrained",
    )
    retrain_pause_hours: int = Field(
        default=24,
        ge=1,
        le=8760,
        description="a whole number of hours from 1 to 8760 between two starts of the pipeline",
    )
    minimum_capture: float = Field(
        default=0.5,
        ge=0,
        lt=1,
        description="a number from 0, below 1: the share of perfect foresight that a new model must reach",
    )
    training_days: int = Field(
        default=392,
        ge=78,  # the training needs 77 whole market days, and a history begins and ends within a day
        le=1500,
        description="a whole number of days from 78 to 1500 that models learn from",
    )
    network_loss: NetworkLoss = Field(
        default="error", description="one of " + ", ".join(get_args(NetworkLoss))
    )
    training_instance_type: Annotated[str, AfterValidator(TRAINING_INSTANCES)] = Field(
        default="ml.m5.xlarge", description=TRAINING_INSTANCES.description
    )
    endpoint_name: str = Field(
        default="",
        pattern=r"^([a-z0-9](-?[a-z0-9]){0,39})?$",
        description="1 to 40 lower-case letters, digits and single hyphens, or empty for the stack's name",
    )
    hosting: Hosting = Field(default="serverless", description="one of " + ", ".join(get_args(Hosting)))
    hosting_instance_type: Annotated[str, AfterValidator(HOSTING_INSTANCES)] = Field(
        default="ml.m5.large", description=HOSTING_INSTANCES.description
    )
    serverless_memory_mb: Annotated[Literal[1024, 2048, 3072, 4096, 5120, 6144], BeforeValidator(whole)] = (
        Field(default=2048, description="one of 1024, 2048, 3072, 4096, 5120, 6144")
    )
    serverless_concurrency: int = Field(default=2, ge=1, le=200, description="a whole number from 1 to 200")

    @property
    def serverless_units(self) -> int:
        # three endpoints: of the model in service, of the previous model and of the model on trial
        return 3 * self.serverless_concurrency if self.hosting == "serverless" else 0

    def contradictions(self) -> list[str]:
        found = super().contradictions()
        if self.battery.lowest >= self.battery.energy:
            found.append(
                f"battery.lowest must be less than battery.energy ({self.battery.energy:g}), got"
                f" {self.battery.lowest:g}"
            )
        if self.mode == "self_schedule" and not self.keep_awards:
            found.append("keep_awards must be true with the mode self_schedule, got false")
        if self.mode != "curves" and self.real_time_policy != "curve":
            found.append(
                f"real_time_policy must be curve with the mode {self.mode}, got {self.real_time_policy}"
            )
        if not self.assets:
            found.append("assets must have at least one NAME@LOCATION, got none")
        names = [asset.partition("@")[0] for asset in self.assets]
        if len(set(names)) < len(names):
            found.append(f"assets must have different names, got {', '.join(names)}")
        if 60 * self.lead_hours - self.market.offer_minutes < self.late_minutes + 5:
            found.append(
                f"late_minutes must be at most {60 * self.lead_hours - self.market.offer_minutes - 5}, which"
                f" leaves 5 minutes before the deadline of a run's offers, got {self.late_minutes}"
            )
        return found
