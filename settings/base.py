"""Settings that all architectures share, and the parsing of list and number values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Environment = Literal["dev", "prod"]
LogRetention = Literal[1, 3, 5, 7, 14, 30, 60, 90, 180, 365, 731, 1827, 3653]


class SettingsError(ValueError):
    """Invalid settings. The message has a line for each error: field, allowed values, given value."""


def split(value: object) -> object:
    """Return the items of a text from the command line, such as `a,b`; any other value unchanged."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def whole(value: object) -> object:
    """Return the number in a text of digits from the command line; any other value unchanged."""
    return int(value) if isinstance(value, str) and value.strip().isdigit() else value


class Choices(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Hyperparameters(Choices):
    """Hyperparameters of a training image, with the image's defaults."""

    def as_texts(self) -> dict[str, str]:
        """Return the fields in SageMaker's format: strings by name."""
        return {
            name: str(value).lower()
            if isinstance(value, bool)
            else f"{value:g}"
            if isinstance(value, float)
            else str(value)
            for name, value in self.model_dump(by_alias=True).items()
        }


class ArchitectureSettings(Choices):
    """Settings of every architecture."""

    ENVIRONMENTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Values that differ from the defaults, by environment."""

    retain: bool = Field(
        default=False, description="true or false, whether data, models and the secret outlive `cdk destroy`"
    )
    own_key: bool = Field(
        default=False,
        description="true or false, whether data is encrypted with a KMS key of the stack's own",
    )
    log_retention_days: Annotated[LogRetention, BeforeValidator(whole)] = Field(
        default=30, description="one of " + ", ".join(str(days) for days in get_args(LogRetention))
    )
    alarm_email: str = Field(
        default="",
        pattern=r"^([^@\s]+@[^@\s]+\.[^@\s]+)?$",
        description="an e-mail address, or empty for none",
    )
    subnet_ids: Annotated[
        tuple[Annotated[str, Field(pattern=r"^subnet-[0-9a-f]{8,17}$")], ...], BeforeValidator(split)
    ] = Field(
        default=(),
        max_length=16,
        description="ids such as subnet-0a1b2c3d, comma separated, or empty for no VPC",
    )
    security_group_ids: Annotated[
        tuple[Annotated[str, Field(pattern=r"^sg-[0-9a-f]{8,17}$")], ...], BeforeValidator(split)
    ] = Field(
        default=(),
        max_length=5,
        description="ids such as sg-0a1b2c3d, comma separated, together with subnet_ids",
    )

    @property
    def serverless_units(self) -> int:
        """Return the total maximum concurrency of the serverless endpoints, which counts toward a quota."""
        return 0

    def contradictions(self) -> list[str]:
        """Return one message for each combination of values that is not allowed."""
        if bool(self.subnet_ids) == bool(self.security_group_ids):
            return []
        given, missing = "subnet_ids", "security_group_ids"
        if self.security_group_ids:
            given, missing = missing, given
        return [f"{missing} must be given together with {given}, got none"]
