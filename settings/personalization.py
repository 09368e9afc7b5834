"""The settings of `personalization`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from settings.base import ArchitectureSettings, Choices, Hyperparameters
from settings.instance_types import CUDA, GPU_TRAINING_INSTANCES, InstanceUse, cpu, cuda

REGISTRY = r"[a-z0-9][a-z0-9.-]*\.[a-z]{2,}(:[0-9]+)?(/[a-z0-9][a-z0-9._-]*)*"
HUGGING_FACE = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?"
S3_FOLDER = r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/([\w!.()-]+/)*"
_WORD = r"([^{}|\s]|\{trigger\}|\{subject\})"
PROMPT = rf"^{_WORD}+(\s+{_WORD}+)*$"
PROMPT_CHARS = 120
"""Maximum length of a prompt. With every `{trigger}` replaced, it still fits the container's limit."""
REQUESTS_PER_JOB = 30
"""Maximum number of training requests in a job. One transaction updates a job and all its requests, and
DynamoDB allows 100 items in a transaction."""

SERVING_INSTANCES = InstanceUse(
    "hosting",
    lambda family: cpu(family) or (cuda(family) and family.get("multi_model", False)),
    "an x86 instance type for SageMaker multi-model endpoints, without a GPU or with one that"
    f" CUDA {CUDA} supports",
    "ml.g5.xlarge",
)


def _split_prompts(value: object) -> object:
    """Return the items of a list from the command line, such as `one | another`."""
    return [part.strip() for part in value.split("|")] if isinstance(value, str) else value


class FineTuning(Hyperparameters):
    """Hyperparameters of `containers/personalization/finetune` except the base, with their defaults."""

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
    steps: int = Field(
        default=1000,
        ge=1,
        le=100_000,
        description="a whole number from 1 to 100000, the most training steps that a fine-tune gets",
    )
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


class Limits(Choices):
    """Limits of a user's resources and requests."""

    models: int = Field(default=10, ge=1, le=1000, description="a whole number of models from 1 to 1000")
    active: int = Field(
        default=2, ge=1, le=100, description="a whole number of fine-tunes at once from 1 to 100"
    )
    requests_per_minute: int = Field(
        default=60, ge=1, le=10_000, description="a whole number from 1 to 10000"
    )
    pictures_per_minute: int = Field(
        default=20,
        ge=4,  # a single request may be for up to 4 pictures
        le=10_000,
        description="a whole number of generated pictures from 4 to 10000",
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
        le=150_000_000,
        description="a whole number of pixels from 4096 to 150000000",
    )
    model_pixels: int = Field(
        default=500_000_000,
        ge=4096,
        le=15_000_000_000,
        description="a whole number of pixels from 4096 to 15000000000, of all pictures of a model together",
    )
    image_side: int = Field(
        default=64,
        ge=32,
        le=4096,
        description="a whole number of pixels from 32 to 4096, of the shorter side",
    )
    prompt_chars: int = Field(
        default=300, ge=1, le=2000, description="a whole number of characters from 1 to 2000"
    )


class Pace(Choices):
    """Rate of training jobs, and retries of requests."""

    rate: float = Field(
        default=0.5, gt=0, le=10, description="a number above 0 and at most 10, training jobs made a second"
    )
    burst: int = Field(default=2, ge=1, le=100, description="a whole number of jobs at once from 1 to 100")
    max_attempts: int = Field(default=3, ge=1, le=10, description="a whole number from 1 to 10")
    max_launches: int = Field(
        default=40,
        ge=1,
        le=1000,
        description="a whole number from 1 to 1000, how often the creation of a job may be put off by"
        " throttling or a full quota before its requests return to the queue; 40 take about three hours",
    )
    stale_seconds: int = Field(
        default=360,
        ge=1,
        le=86_400,
        description="a whole number of seconds from 1 to 86400 after which the sweeper looks again",
    )
    tombstone_seconds: int = Field(
        default=3600,
        ge=900,
        le=86_400,
        description="a whole number of seconds from 900 to 86400 for which a deleted model is remembered,"
        " to remove uploads that arrive late",
    )


class Personalization(ArchitectureSettings):
    """Fine-tune a text-to-image model for every user, and serve all of them from one endpoint."""

    ENVIRONMENTS: ClassVar = {
        "prod": {
            "retain": True,
            "own_key": True,
            "log_retention_days": 365,
            "point_in_time_recovery": True,
            "hosts_max": 4,
            "tasks_per_host": 7,
            "min_instances": 2,
            "max_instances": 20,
        },
    }

    base: str = Field(
        # The id has a revision. Without one, each instance would load the latest commit at its start
        default="stable-diffusion-v1-5/stable-diffusion-v1-5@451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
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
    training_instance_type: Annotated[str, AfterValidator(GPU_TRAINING_INSTANCES)] = Field(
        default="ml.g5.2xlarge", description=GPU_TRAINING_INSTANCES.description
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
        description="true or false, whether jobs run on spot capacity, except those of a warm pool. Where the"
        " account has no quota for one kind of capacity, jobs run on the other: raise 'TYPE for spot training"
        " job usage' or 'TYPE for training job usage' in Service Quotas",
    )
    keep_alive_seconds: int = Field(
        default=0,
        ge=0,
        le=3600,
        description="a whole number from 0 (no warm pool) to 3600, seconds that instances wait for more; it"
        " needs the quotas 'TYPE for training warm pool usage' and 'TYPE for training job usage'",
    )
    steps_per_image: int = Field(
        default=50,
        ge=0,
        le=10_000,
        description="a whole number from 0 (always hyperparameters.steps) to 10000, training steps for each"
        " picture, at most hyperparameters.steps in all",
    )
    seconds_per_step: float = Field(
        default=0.5,
        gt=0,
        le=3600,
        description="a number above 0 and at most 3600, seconds a training step takes; used for estimates"
        " until the first jobs have been measured",
    )
    prompts: Annotated[
        tuple[Annotated[str, Field(pattern=PROMPT, max_length=PROMPT_CHARS)], ...],
        BeforeValidator(_split_prompts),
    ] = Field(
        default=("a photo of {trigger}",),
        max_length=4,
        description=f"1 to 4 texts of at most {PROMPT_CHARS} characters for the first pictures,"
        " separated by |, in which {trigger} and {subject} are replaced",
    )
    serving_instance_type: Annotated[str, AfterValidator(SERVING_INSTANCES)] = Field(
        default="ml.g5.xlarge", description=SERVING_INSTANCES.description
    )
    serving_registry: str = Field(
        default="",
        pattern=rf"^({REGISTRY})?$",
        max_length=255,
        description="a registry that holds sagemaker-tritonserver, the base of the serving image, such as"
        " ACCOUNT.dkr.ecr.REGION.amazonaws.com, or empty for the one that its Dockerfile names",
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
    reserved_concurrency: int = Field(
        default=0,
        ge=0,
        le=10_000,
        description="a whole number from 0 (none) to 10000, concurrent executions of Lambda that are reserved"
        " for the API, which gets no more then. AWS wants 100 left unreserved, so an account with less must"
        " raise 'Concurrent executions' in Service Quotas first",
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
    deletion_protection: bool = Field(
        default=False,
        description="true or false, whether DynamoDB and Amazon Cognito refuse to delete tables and accounts;"
        " for a stack that is there already, because a first deployment that fails could not be rolled back",
    )
    limits: Limits = Limits()
    pace: Pace = Pace()
    hyperparameters: FineTuning = FineTuning()

    def contradictions(self) -> list[str]:
        found = super().contradictions()
        if self.hosts_max * self.tasks_per_host > REQUESTS_PER_JOB:
            found.append(
                f"tasks_per_host must be at most {REQUESTS_PER_JOB // self.hosts_max} with hosts_max"
                f" {self.hosts_max}, because a job has at most {REQUESTS_PER_JOB} tasks, got"
                f" {self.tasks_per_host}"
            )
        if self.min_instances > self.max_instances:
            found.append(
                f"max_instances must be at least min_instances ({self.min_instances}), got"
                f" {self.max_instances}"
            )
        if self.limits.images_min > self.limits.images_max:
            found.append(
                f"limits.images_max must be at least limits.images_min ({self.limits.images_min}), got"
                f" {self.limits.images_max}"
            )
        return found
