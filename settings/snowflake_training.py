"""The settings of `snowflake_training`."""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

from pydantic import Field

from settings.base import Hyperparameters
from settings.models import ModelSettings

# Snowflake's grammar and maximum length of identifiers. The training image has a copy; a test compares both.
IDENTIFIER = r'([A-Za-z_][A-Za-z0-9_$]{0,254}|"([^"\x00]|""){1,255}")'
NAME = 'a NAME of up to 255 letters, digits, _ and $, or any "name in double quotes"'
Objective = Literal[
    "reg:squarederror", "reg:absoluteerror", "reg:pseudohubererror", "reg:gamma", "count:poisson"
]


class XGBoostHyperparameters(Hyperparameters):
    """Hyperparameters of the training image. Each execution of the state machine can override them."""

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
        pattern=rf"^({IDENTIFIER} *, *{IDENTIFIER})?$",
        description=f"two columns as LATITUDE,LONGITUDE, each {NAME}, or empty for none",
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


class SnowflakeTraining(ModelSettings):
    """Train XGBoost straight from Snowflake, and serve the better model."""

    ENVIRONMENTS: ClassVar = {
        "prod": {
            "retain": True,
            "own_key": True,
            "log_retention_days": 365,
            "minimum_improvement": 0.01,
            "notebook": False,
        },
    }

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
        description=f"a table as TABLE, SCHEMA.TABLE or DATABASE.SCHEMA.TABLE, each {NAME}",
    )
    target: str = Field(
        default="MEDIAN_HOUSE_VALUE",
        pattern=rf"^{IDENTIFIER}$",
        description=f"a column, {NAME}",
    )
    hosts: int = Field(default=2, ge=1, le=64, description="a whole number from 1 to 64")
    notebook: bool = Field(default=True, description="true or false, whether a notebook instance is created")
    hyperparameters: XGBoostHyperparameters = XGBoostHyperparameters()
