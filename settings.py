"""What a deployment may choose, per environment, and what is allowed for each choice.

    cdk deploy -c env=prod -c snowflake_training.hosts=4 -c personalization.hyperparameters.rank=16

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
# The images are built for x86: no Graviton. GPU families as multi-model endpoints take them, and training.
X86 = r"t3|m5|m5d|m6i|m7i|c5|c5d|c6i|c7i|r5|r5d|r6i|r7i"
SERVING_INSTANCE = rf"ml\.({X86}|g4dn|g5|p3)\.[a-z0-9]+"
TRAINING_INSTANCE = rf"ml\.({X86}|g4dn|g5|g6|g6e|p3|p4d|p4de|p5)\.[a-z0-9]+"
HUGGING_FACE = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?"
S3_FOLDER = r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/([\w!.()-]+/)*"
REQUESTS_PER_JOB = 30
"""One transaction moves a job and all its requests, and DynamoDB takes 100 items in one."""


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
        return _texts(self)


class FineTuning(Choices):
    """What `containers/personalization_finetune` reads besides the base, with its defaults."""

    method: Literal["lora", "full"] = Field(
        default="lora", description="lora, or full for a whole copy of the base per user"
    )
    targets: Literal["attention", "attention+convolutions"] = Field(
        default="attention+convolutions", description="attention or attention+convolutions"
    )
    rank: int = Field(default=8, ge=1, le=256, description="a whole number from 1 to 256")
    alpha: float = Field(default=8, gt=0, le=1024, description="a number above 0 and at most 1024")
    rank_falloff: float = Field(
        default=0, ge=0, le=4, description="a number from 0 (the same rank everywhere) to 4"
    )
    train_text_encoder: bool = Field(
        default=False, description="true or false, whether the text encoder learns too"
    )
    steps: int = Field(default=500, ge=1, le=100_000, description="a whole number from 1 to 100000")
    batch_size: int = Field(default=4, ge=1, le=256, description="a whole number from 1 to 256")
    optimizer: Literal["adamw", "muon"] = Field(default="adamw", description="adamw or muon")
    learning_rate: float = Field(default=3e-4, gt=0, le=1, description="a number above 0 and at most 1")
    warmup: float = Field(
        default=0.05, ge=0, le=0.5, description="a number from 0 to 0.5, the share of steps to the full rate"
    )
    resolution: int = Field(
        default=0, ge=0, le=2048, description="a whole number of pixels from 0 (the base's own) to 2048"
    )
    variants: int = Field(
        default=8, ge=1, le=256, description="a whole number from 1 to 256, different copies of each picture"
    )
    prior_weight: float = Field(
        default=0.5, ge=0, le=10, description="a number from 0 (no prior preservation) to 10"
    )
    prior_images: int = Field(default=16, ge=0, le=1000, description="a whole number from 0 to 1000")
    prior_batch: int = Field(default=1, ge=0, le=256, description="a whole number from 0 to 256")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        default="auto", description="one of auto, fp32, bf16, fp16"
    )
    previews: int = Field(default=4, ge=0, le=16, description="a whole number from 0 to 16")
    preview_steps: int = Field(default=30, ge=1, le=200, description="a whole number from 1 to 200")
    guidance: float = Field(default=5, ge=1, le=30, description="a number from 1 to 30")
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="a whole number from 0 to 2147483647")
    checkpoint_every: int = Field(
        default=100,
        ge=0,
        le=100_000,
        description="a whole number of steps from 0 (only when stopped) to 100000",
    )
    threads: int = Field(
        default=0, ge=0, le=1024, description="a whole number from 0 (all cores of the instance) to 1024"
    )

    def as_hyperparameters(self) -> dict[str, str]:
        """The fields as SageMaker wants them: texts by name."""
        return _texts(self)


class Limits(Choices):
    """What one user may have and send."""

    models: int = Field(default=10, ge=1, le=1000, description="a whole number of models from 1 to 1000")
    active: int = Field(
        default=2, ge=1, le=100, description="a whole number of fine-tunes at once from 1 to 100"
    )
    requests_per_minute: int = Field(
        default=60, ge=1, le=10_000, description="a whole number from 1 to 10000"
    )
    images_min: int = Field(default=3, ge=1, le=100, description="a whole number of images from 1 to 100")
    images_max: int = Field(default=20, ge=1, le=100, description="a whole number of images from 1 to 100")
    image_bytes: int = Field(
        default=10_485_760,
        ge=1024,
        le=104_857_600,
        description="a whole number of bytes from 1024 to 104857600",
    )
    image_pixels: int = Field(
        default=50_000_000,
        ge=4096,
        le=200_000_000,
        description="a whole number of pixels from 4096 to 200000000",
    )
    image_side: int = Field(
        default=64, ge=1, le=4096, description="a whole number of pixels from 1 to 4096, of the shorter side"
    )
    prompt_chars: int = Field(
        default=300, ge=1, le=2000, description="a whole number of characters from 1 to 2000"
    )


class Pace(Choices):
    """How fast training jobs are made, and how often a request is tried."""

    rate: float = Field(
        default=0.5, gt=0, le=10, description="a number above 0 and at most 10, training jobs made a second"
    )
    burst: int = Field(default=2, ge=1, le=100, description="a whole number of jobs at once from 1 to 100")
    max_attempts: int = Field(default=3, ge=1, le=10, description="a whole number from 1 to 10")
    stale_seconds: int = Field(
        default=360,
        ge=1,
        le=86_400,
        description="a whole number of seconds from 1 to 86400 after which the sweeper looks again",
    )


def _texts(chosen: BaseModel) -> dict[str, str]:
    return {
        name: str(value).lower()
        if isinstance(value, bool)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
        for name, value in chosen.model_dump(by_alias=True).items()
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


class Personalization(Architecture):
    """Fine-tune a text-to-image model for every user, and serve all of them from one endpoint."""

    base: str = Field(
        default="stable-diffusion-v1-5/stable-diffusion-v1-5",
        pattern=rf"^({HUGGING_FACE}|{S3_FOLDER})$",
        max_length=512,
        description="a text-to-image pipeline of diffusers: a Hugging Face id such as owner/name or"
        " owner/name@revision, or a folder such as s3://bucket/base/",
    )
    endpoint_name: str = Field(
        default="",
        pattern=r"^([a-z0-9](-?[a-z0-9])*)?$",
        max_length=36,
        description="1 to 36 lower-case letters, digits and hyphens, or empty for the stack's name;"
        " training jobs are named after it too",
    )
    training_instance_type: str = Field(
        default="ml.g5.2xlarge",
        pattern=rf"^{TRAINING_INSTANCE}$",
        description="an x86 SageMaker instance type such as ml.g5.2xlarge, ml.g6e.xlarge or ml.m5.xlarge",
    )
    hosts_max: int = Field(
        default=2, ge=1, le=REQUESTS_PER_JOB, description=f"a whole number from 1 to {REQUESTS_PER_JOB}"
    )
    tasks_per_host: int = Field(
        default=8, ge=1, le=REQUESTS_PER_JOB, description=f"a whole number from 1 to {REQUESTS_PER_JOB}"
    )
    volume_gb: int = Field(default=50, ge=1, le=16_384, description="a whole number of GB from 1 to 16384")
    max_runtime_minutes: int = Field(
        default=240, ge=1, le=40_320, description="a whole number of minutes from 1 to 40320 (28 days)"
    )
    spot: bool = Field(
        default=True,
        description="true or false, whether jobs run on spot capacity; those of a warm pool do not",
    )
    keep_alive_seconds: int = Field(
        default=0,
        ge=0,
        le=3600,
        description="a whole number from 0 (no warm pool) to 3600, seconds that instances wait for more",
    )
    serving_instance_type: str = Field(
        default="ml.g5.xlarge",
        pattern=rf"^{SERVING_INSTANCE}$",
        description="an x86 instance type that multi-model endpoints take: ml.g5, ml.g4dn or ml.p3 with a"
        " GPU, such as ml.g5.xlarge, or one without, such as ml.m5.xlarge",
    )
    min_instances: int = Field(default=1, ge=1, le=1000, description="a whole number from 1 to 1000")
    max_instances: int = Field(default=2, ge=1, le=1000, description="a whole number from 1 to 1000")
    invocations_per_instance: float = Field(
        default=20,
        gt=0,
        le=100_000,
        description="a number above 0 and at most 100000, invocations a minute that an instance should get",
    )
    serving_memory_mb: int = Field(
        default=4096,
        ge=16,
        le=1_048_576,
        description="a whole number of MB from 16 to 1048576, what users' adapters may take beside the base",
    )
    sweep_minutes: int = Field(
        default=5, ge=1, le=60, description="a whole number of minutes from 1 to 60 between two sweeps"
    )
    self_sign_up: bool = Field(
        default=False, description="true or false, whether anybody may make an account"
    )
    point_in_time_recovery: bool = Field(
        default=False, description="true or false, whether tables can be put back to any second of 35 days"
    )
    limits: Limits = Limits()
    pace: Pace = Pace()
    hyperparameters: FineTuning = FineTuning()


class Settings(Choices):
    env: Environment = Field(default="dev", description="dev or prod")
    snowflake_training: SnowflakeTraining = SnowflakeTraining()
    personalization: Personalization = Personalization()


ENVIRONMENTS: dict[str, dict[str, dict[str, Any]]] = {
    "dev": {"snowflake_training": {}, "personalization": {}},
    "prod": {
        "snowflake_training": {
            "retain": True,
            "own_key": True,
            "log_retention_days": 365,
            "minimum_improvement": 0.01,
            "serverless_concurrency": 20,
            "notebook": False,
        },
        "personalization": {
            "retain": True,
            "own_key": True,
            "log_retention_days": 365,
            "point_in_time_recovery": True,
            "hosts_max": 4,
            "tasks_per_host": 7,
            "keep_alive_seconds": 600,
            "min_instances": 2,
            "max_instances": 20,
        },
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
            problems.append(f"{key} is set one field at a time, such as {key}.retain=true")
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
    found = []
    for name in ENVIRONMENTS[settings.env]:
        chosen: Architecture = getattr(settings, name)
        if bool(chosen.subnet_ids) != bool(chosen.security_group_ids):
            missing = "security_group_ids" if chosen.subnet_ids else "subnet_ids"
            found.append(
                f"{name}.{missing} is empty, allowed is: both subnet_ids and security_group_ids, or neither"
            )
    return found + [f"personalization.{problem}" for problem in _at_odds(settings.personalization)]


def _at_odds(chosen: Personalization) -> list[str]:
    found = []
    if chosen.hosts_max * chosen.tasks_per_host > REQUESTS_PER_JOB:
        found.append(
            f"tasks_per_host is {chosen.tasks_per_host}, allowed is: at most {REQUESTS_PER_JOB} tasks on the"
            f" {chosen.hosts_max} hosts of a job together"
        )
    if chosen.min_instances > chosen.max_instances:
        found.append(
            f"max_instances is {chosen.max_instances}, allowed is: min_instances"
            f" ({chosen.min_instances}) or more"
        )
    if chosen.limits.images_min > chosen.limits.images_max:
        found.append(
            f"limits.images_max is {chosen.limits.images_max}, allowed is: limits.images_min"
            f" ({chosen.limits.images_min}) or more"
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
