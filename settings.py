"""What a deployment may choose, per environment, and what is allowed for each choice.

    cdk deploy -c env=prod -c snowflake_training.hosts=4 -c snowflake_training.hyperparameters.eta=0.1

`load` turns the CDK's context into `Settings`, or says in one error what is wrong and what is allowed.
A field's `description` is both its documentation and the end of that sentence. Secrets and account ids
have no place here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

Environment = Literal["dev", "prod"]
LogRetention = Literal[1, 3, 5, 7, 14, 30, 60, 90, 180, 365, 731, 1827, 3653]

IDENTIFIER = r'([A-Za-z_][A-Za-z0-9_$]*|"([^"]|"")+")'
Objective = Literal[
    "reg:squarederror", "reg:absoluteerror", "reg:pseudohubererror", "reg:gamma", "count:poisson"
]

INSTANCE = r"ml\.[a-z0-9-]+\.[a-z0-9]+"


class SettingsError(ValueError):
    """One line for each wrong value: the field, what was given, what is allowed."""


def _split(value: object) -> object:
    """A list as the command line gives it: `a,b`; the empty text is the empty list."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _whole(value: object) -> object:
    """A literal number as the command line gives it."""
    return int(value) if isinstance(value, str) and value.strip().isdigit() else value


class Choices(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class XGBoostHyperparameters(Choices):
    """What `containers/snowflake_xgboost` reads, with its defaults; an execution may override each."""

    rounds: int = Field(default=1000, ge=1, le=100_000, description="a whole number from 1 to 100000")
    early_stopping_rounds: int = Field(
        default=200, ge=0, le=100_000, description="a whole number from 0 (never stop early) to 100000"
    )
    max_depth: int = Field(default=8, ge=1, le=30, description="a whole number from 1 to 30")
    eta: float = Field(default=0.05, gt=0, le=1, description="a number above 0 and at most 1")
    subsample: float = Field(default=0.8, gt=0, le=1, description="a number above 0 and at most 1")
    colsample_bytree: float = Field(default=0.3, gt=0, le=1, description="a number above 0 and at most 1")
    min_child_weight: float = Field(default=5, ge=0, le=1e9, description="a number from 0 to 1e9")
    gamma: float = Field(default=0, ge=0, le=1e9, description="a number from 0 to 1e9")
    lambda_: float = Field(default=1, ge=0, le=1e9, alias="lambda", description="a number from 0 to 1e9")
    alpha: float = Field(default=0, ge=0, le=1e9, description="a number from 0 to 1e9")
    objective: Objective = Field(
        default="reg:squarederror", description="one of " + ", ".join(get_args(Objective))
    )
    validation_fraction: float = Field(
        default=0.2, ge=0.01, le=0.9, description="a number from 0.01 to 0.9, the share of rows held out"
    )
    seed: int = Field(default=42, ge=0, le=2**31 - 1, description="a whole number from 0 to 2147483647")
    blanks: Literal["keep", "drop"] = Field(
        default="keep", description="keep or drop, for rows with blank cells"
    )
    coordinates: str = Field(
        default="LATITUDE,LONGITUDE",
        pattern=rf"^({IDENTIFIER},{IDENTIFIER})?$",
        description="two column names as LATITUDE,LONGITUDE, or empty for none",
    )
    checkpoint_every: int = Field(
        default=50, ge=0, le=100_000, description="a whole number of rounds from 0 (no checkpoints) to 100000"
    )
    record_rows: bool = Field(
        default=False, description="true or false, whether each host lists the rows it read"
    )
    timeout: int = Field(
        default=600,
        ge=5,
        le=86_400,
        description="a whole number from 5 to 86400, seconds that a host waits for the others",
    )
    nthread: int = Field(
        default=0, ge=0, le=1024, description="a whole number from 0 (all cores of the instance) to 1024"
    )

    def as_hyperparameters(self) -> dict[str, str]:
        """The fields as SageMaker wants them: texts by name."""
        return {
            name: str(value).lower()
            if isinstance(value, bool)
            else f"{value:g}"
            if isinstance(value, float)
            else str(value)
            for name, value in self.model_dump(by_alias=True).items()
        }


class Architecture(Choices):
    """What every architecture may choose."""

    retain: bool = Field(
        default=False, description="true or false, whether data, models and the secret outlive `cdk destroy`"
    )
    own_key: bool = Field(
        default=False,
        description="true or false, whether data is encrypted with a KMS key of the stack's own",
    )
    log_retention_days: Annotated[LogRetention, BeforeValidator(_whole)] = Field(
        default=30, description="one of " + ", ".join(str(days) for days in get_args(LogRetention))
    )
    alarm_email: str = Field(
        default="",
        pattern=r"^([^@\s]+@[^@\s]+\.[^@\s]+)?$",
        description="an e-mail address, or empty for none",
    )
    subnet_ids: Annotated[
        tuple[Annotated[str, Field(pattern=r"^subnet-[0-9a-f]{8,17}$")], ...], BeforeValidator(_split)
    ] = Field(
        default=(),
        max_length=16,
        description="ids such as subnet-0a1b2c3d, comma separated, or empty for no VPC",
    )
    security_group_ids: Annotated[
        tuple[Annotated[str, Field(pattern=r"^sg-[0-9a-f]{8,17}$")], ...], BeforeValidator(_split)
    ] = Field(
        default=(),
        max_length=5,
        description="ids such as sg-0a1b2c3d, comma separated, together with subnet_ids",
    )


class SnowflakeTraining(Architecture):
    """Train XGBoost straight from Snowflake, and serve the better model."""

    secret_name: str = Field(
        default="snowflake_credentials",
        pattern=r"^[A-Za-z0-9/_+=.@-]{1,255}$",
        description="a name for Secrets Manager: 1 to 255 letters, digits or /_+=.@-",
    )
    create_secret: bool = Field(
        default=True, description="true, or false to use the secret of that name which is there already"
    )
    table: str = Field(
        default="CALIFORNIA_HOUSING",
        pattern=rf"^{IDENTIFIER}(\.{IDENTIFIER}){{0,2}}$",
        max_length=255,
        description="a table's name as TABLE, SCHEMA.TABLE or DATABASE.SCHEMA.TABLE",
    )
    target: str = Field(
        default="MEDIAN_HOUSE_VALUE",
        pattern=rf"^{IDENTIFIER}$",
        max_length=255,
        description="a column's name",
    )
    hosts: int = Field(default=2, ge=1, le=64, description="a whole number from 1 to 64")
    instance_type: str = Field(
        default="ml.m5.xlarge",
        pattern=rf"^{INSTANCE}$",
        description="a SageMaker instance type such as ml.m5.xlarge",
    )
    volume_gb: int = Field(default=30, ge=1, le=16384, description="a whole number from 1 to 16384")
    max_runtime_minutes: int = Field(
        default=60, ge=1, le=40320, description="a whole number from 1 to 40320 (28 days)"
    )
    minimum_improvement: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="a number from 0, below 1: the share by which a new model's error must be lower",
    )
    endpoint_name: str = Field(
        default="",
        pattern=r"^([a-z0-9](-?[a-z0-9]){0,39})?$",
        description="1 to 40 lower-case letters, digits and single hyphens, or empty for the stack's name",
    )
    serverless_memory_mb: Annotated[Literal[1024, 2048, 3072, 4096, 5120, 6144], BeforeValidator(_whole)] = (
        Field(default=2048, description="one of 1024, 2048, 3072, 4096, 5120, 6144")
    )
    serverless_concurrency: int = Field(default=5, ge=1, le=200, description="a whole number from 1 to 200")
    deployment_minutes: int = Field(
        default=30,
        ge=1,
        le=240,
        description="a whole number from 1 to 240: how long an endpoint may take to change",
    )
    notebook: bool = Field(default=True, description="true or false, whether a notebook instance is created")
    notebook_instance_type: str = Field(
        default="ml.t3.medium",
        pattern=rf"^{INSTANCE}$",
        description="a SageMaker instance type such as ml.t3.medium",
    )
    hyperparameters: XGBoostHyperparameters = XGBoostHyperparameters()


class Settings(Choices):
    env: Environment = Field(default="dev", description="dev or prod")
    snowflake_training: SnowflakeTraining = SnowflakeTraining()


ENVIRONMENTS: dict[str, dict[str, dict[str, Any]]] = {
    "dev": {"snowflake_training": {}},
    "prod": {
        "snowflake_training": {
            "retain": True,
            "own_key": True,
            "log_retention_days": 365,
            "minimum_improvement": 0.01,
            "serverless_concurrency": 20,
            "notebook": False,
        }
    },
}
"""Where an environment differs from the defaults above."""


def load(context: Mapping[str, Any]) -> Settings:
    """The settings that the CDK's context names: `env`, then single fields as `architecture.field`.

    The CDK's own keys, which have other signs in them, are left alone, and so are plain words that are
    no field's name. Raises `SettingsError`.
    """
    architectures = [name for name in Settings.model_fields if name != "env"]
    env = context.get("env", "dev")
    values: dict[str, Any] = {"env": env, **_copy(ENVIRONMENTS.get(env, {}) if isinstance(env, str) else {})}
    problems = []
    for key, value in sorted(context.items()):
        architecture, *path = key.split(".")
        if architecture not in architectures:
            # A misspelt setting would otherwise deploy the default, and nobody would be told.
            meant = f"{architectures[0]}.hosts" if path else _owner(key)
            if meant and re.fullmatch(r"\w+(\.\w+)*", key):
                problems.append(f"{key} is not a setting, they begin with an architecture's name: {meant}")
            continue
        if not path:
            problems.append(f"{key} is set one field at a time, such as {key}.hosts=2")
            continue
        *groups, field = path
        inner = values.setdefault(architecture, {})
        for group in groups:
            if not isinstance(inner.get(group), dict):
                inner[group] = {}
            inner = inner[group]
        inner[field] = value
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        problems += dict.fromkeys(_sentence(dict(detail)) for detail in error.errors())
        settings = None
    if settings is not None:
        problems += _contradictions(settings)
    if problems or settings is None:
        raise SettingsError("\n".join(problems))
    return settings


def _contradictions(settings: Settings) -> list[str]:
    """What no single field can know."""
    chosen, name, found = settings.snowflake_training, "snowflake_training", []
    if bool(chosen.subnet_ids) != bool(chosen.security_group_ids):
        missing = "security_group_ids" if chosen.subnet_ids else "subnet_ids"
        found.append(
            f"{name}.{missing} is empty, allowed is: both subnet_ids and security_group_ids, or neither"
        )
    return found


def _owner(field: str) -> str:
    """The whole name of a setting of which only the last part was given, "" when there is none."""
    for name, info in Settings.model_fields.items():
        known = getattr(info.annotation, "model_fields", {})  # none for what is no architecture
        if field in known:
            return f"{name}.{field}"
    return ""


def _copy(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, Mapping) else value for key, value in values.items()}


def _sentence(detail: dict[str, Any]) -> str:
    """What is wrong with one field, from pydantic's finding."""
    model: type[BaseModel] = Settings
    path, field = [], None
    for part in detail["loc"]:
        path.append(str(part))
        found = _field(model, str(part))
        if found is None:
            if detail["type"] == "extra_forbidden":
                known = ", ".join(info.alias or name for name, info in model.model_fields.items())
                return f"{'.'.join(path)} is not a setting, allowed are: {known}"
            path.pop()  # a position inside a list: the list is what has a name
            break
        field = found
        if isinstance(found.annotation, type) and issubclass(found.annotation, BaseModel):
            model = found.annotation
    allowed = field.description if field and field.description else "its fields, one at a time"
    given = detail["input"]
    return f"{'.'.join(path)} is {given!r}, allowed is: {allowed}"


def _field(model: type[BaseModel], name: str) -> FieldInfo | None:
    return next((info for key, info in model.model_fields.items() if name in (key, info.alias)), None)
