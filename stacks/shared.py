"""Resources that all stacks create from the common settings of architectures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from aws_cdk import Duration, IgnoreMode
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecr_assets as assets
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

from groundplan import Network, removal
from settings.base import ArchitectureSettings

ROOT = Path(__file__).resolve().parents[1]
LAYER = ROOT / ".groundplan" / "layers" / "runtime"
"""The Lambda layer with the functions' dependencies. It exists before synthesis, which thus needs no
network."""
CONTAINERS = ROOT / "containers"
"""Build context of the images. A Dockerfile copies files from its folder and from `toolkit`."""

DOCKER_MANIFEST = ["type=docker,oci-mediatypes=false"]
"""Output options of `docker build`. By default, BuildKit 0.31 and later write OCI media types even for
`type=docker` (moby/buildkit#6824, #6844), which SageMaker's CreateModel refuses."""


def docker_image(
    scope: Construct, id: str, folder: Path, build_args: Mapping[str, str] | None = None
) -> assets.DockerImageAsset:
    """Create the image asset of a folder with a Dockerfile.

    The asset consists of the files that `Dockerfile.dockerignore` in the folder does not exclude: its hash,
    and so a rebuild, depends on them only. Docker reads the same ignore file.
    """
    context = CONTAINERS if folder.is_relative_to(CONTAINERS) else folder
    rules = folder / "Dockerfile.dockerignore"
    return assets.DockerImageAsset(
        scope,
        id,
        directory=str(context),
        file=str((folder / "Dockerfile").relative_to(context)),
        exclude=rules.read_text().splitlines() if rules.exists() else None,
        ignore_mode=IgnoreMode.DOCKER,
        build_args=build_args,
        outputs=DOCKER_MANIFEST,
        platform=assets.Platform.LINUX_AMD64,
    )


class LayerMissingError(Exception):
    """The Lambda layer does not exist. The message has the command that builds it."""


def network_of(scope: Construct, settings: ArchitectureSettings, vpc_id: str = "") -> Network | None:
    """Return the VPC of training jobs; None without subnets. `vpc_id` is only for a SageMaker domain."""
    if not settings.subnet_ids:
        return None
    return Network(
        subnets=[ec2.Subnet.from_subnet_id(scope, id, id) for id in settings.subnet_ids],
        security_groups=[
            ec2.SecurityGroup.from_security_group_id(scope, id, id) for id in settings.security_group_ids
        ],
        vpc_id=vpc_id,
    )


def key_of(scope: Construct, settings: ArchitectureSettings, of: str) -> kms.Key | None:
    """Create the stack's KMS key; None if the settings choose AWS's keys.

    :param of: the data that it encrypts, for the key's description.
    """
    if not settings.own_key:
        return None
    return kms.Key(
        scope,
        "Key",
        description=f"Groundplan: {of}",
        enable_key_rotation=True,
        removal_policy=removal(settings.retain),
        pending_window=Duration.days(7),
    )


def retention(days: int) -> logs.RetentionDays:
    """Return the CDK's constant for a log retention of this number of days."""
    names = {
        1: "ONE_DAY",
        3: "THREE_DAYS",
        5: "FIVE_DAYS",
        7: "ONE_WEEK",
        14: "TWO_WEEKS",
        30: "ONE_MONTH",
        60: "TWO_MONTHS",
        90: "THREE_MONTHS",
        180: "SIX_MONTHS",
        365: "ONE_YEAR",
        731: "TWO_YEARS",
        1827: "FIVE_YEARS",
        3653: "TEN_YEARS",
    }
    return logs.RetentionDays[names[days]]


def library_layer(scope: Construct) -> lambda_.LayerVersion:
    """Create the layer with the functions' dependencies. Raises `LayerMissingError` if it was not built."""
    if not (LAYER / "python").is_dir():
        raise LayerMissingError(f"{LAYER} does not exist: run `make setup` or `python -m tooling.layers`")
    return lambda_.LayerVersion(
        scope,
        "Libraries",
        code=lambda_.Code.from_asset(str(LAYER)),
        compatible_runtimes=[lambda_.Runtime.PYTHON_3_14],
        compatible_architectures=[lambda_.Architecture.ARM_64],
        description="What the functions import beside AWS's own Python",
    )


def runtime_code(name: str) -> lambda_.Code:
    """Return the code of an architecture's functions: its package in `runtime/`."""
    return lambda_.Code.from_asset(
        str(ROOT / "runtime"),
        exclude=["/*", f"!/{name}", f"/{name}/layer", "**/__pycache__", "**/.*", "*.md"],
        ignore_mode=IgnoreMode.GIT,
    )
