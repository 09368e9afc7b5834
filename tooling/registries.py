"""Logins to the registries of base images, before a deployment builds images."""

from __future__ import annotations

import base64
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tooling.assembly import PreparationError, Stack

ECR = re.compile(r"\d{12}\.dkr\.ecr(?:-fips)?\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?")


class RegistryError(PreparationError):
    """The login to a registry failed. The message has the registry, the reason and the remedy."""


def log_in(stacks: Sequence[Stack], environment: Mapping[str, str], profile: str | None = None) -> None:
    """Log Docker in to the private ECR registries of the base images in the stacks' Dockerfiles.

    The Docker program is the one in CDK_DOCKER, or else `docker`. Raises `RegistryError`.
    """
    program = environment.get("CDK_DOCKER") or "docker"
    for registry, stack in sorted(needed(stacks).items()):
        try:
            _docker_login(program, registry, password(registry, profile))
        except RegistryError as error:
            raise RegistryError(
                f"Could not log in to {registry}, which has a base image of {stack}: {error}"
            ) from None


def needed(stacks: Sequence[Stack]) -> dict[str, str]:
    """Return the private ECR registries in the stacks' Dockerfiles, each with a stack that uses it."""
    return {
        registry: stack.name
        for stack in stacks
        for dockerfile, given in stack.dockerfiles
        for image in bases(dockerfile, given)
        if ECR.fullmatch(registry := image.partition("/")[0])
    }


def bases(dockerfile: Path, given: Mapping[str, str] | None = None) -> list[str]:
    """Return the images after FROM, with build arguments replaced by `given` or by the default in ARG."""
    arguments: dict[str, str] = {}
    found = []
    for line in dockerfile.read_text().splitlines():
        if match := re.match(r"ARG\s+(\w+)=(\S+)", line):
            arguments[match[1]] = (given or {}).get(match[1], match[2])
        elif match := re.match(r"FROM\s+(?:--\S+\s+)*(\S+)", line):
            found.append(re.sub(r"\$\{(\w+)\}", lambda name: arguments[name[1]], match[1]))
    return found


def password(registry: str, profile: str | None = None) -> str:
    """Return the password of the user AWS, from ECR in the registry's Region. Raises `RegistryError`."""
    from boto3.session import Session
    from botocore.exceptions import BotoCoreError, ClientError

    region = ECR.fullmatch(registry)
    try:
        client: Any = Session(profile_name=profile).client("ecr", region_name=region[1] if region else None)
        token = client.get_authorization_token()["authorizationData"][0]["authorizationToken"]
    except (BotoCoreError, ClientError) as error:
        raise RegistryError(f"ECR did not return a password: {error}") from None
    return base64.b64decode(token).decode().partition(":")[2]


def _docker_login(program: str, registry: str, password: str) -> None:
    command = [program, "login", "--username", "AWS", "--password-stdin", registry]
    try:
        done = subprocess.run(command, input=password, capture_output=True, text=True)
    except OSError as error:
        raise RegistryError(f"{program} cannot be started ({error.strerror}); is Docker installed?") from None
    if done.returncode:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise RegistryError(f"{program} login: {said[-1] if said else f'exit code {done.returncode}'}")
