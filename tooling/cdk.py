"""The CDK CLI with its environment set up: `python -m tooling.cdk deploy` runs `cdk deploy`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from tooling import assembly, envs, layers, registries

ELSEWHERE = {"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_ECR"}
"""Environment variables that direct requests to an endpoint other than AWS."""

BUILDS = {"deploy", "watch", "publish-assets"}
"""Commands of the CDK CLI that build images."""


def environ() -> dict[str, str]:
    """Return this process's environment, with the app's Python and Node first in PATH."""
    path = [str(envs.environment("app").parent), str(envs.node()), os.environ.get("PATH", "")]
    return os.environ | {
        "PATH": os.pathsep.join(path),
        "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "20",
        "CDK_DISABLE_CLI_TELEMETRY": "true",
    }


def prepare(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Before a deployment to AWS, log in to the base images' registries and check the names of secrets.

    Does nothing for a command that is not in `BUILDS`, with `--help` or `--version`, or if a variable in
    `ELSEWHERE` is set, because the target is then not AWS. Raises `assembly.PreparationError`.
    """
    line = assembly.parse(arguments)
    flags = {name for name, _ in line.options}
    elsewhere = ELSEWHERE & set(environment)
    if line.command not in BUILDS or elsewhere or {"help", "version"} & flags:
        return
    from tooling import secret_names

    profile = line.option("profile")
    region = line.option("region") or environment.get("AWS_REGION")
    with assembly.synthesized(line, environment) as folder:
        stacks = assembly.selected(folder, line)
        registries.log_in(stacks, environment, profile)
        if line.command != "publish-assets":
            secret_names.check(stacks, profile, region)


def main() -> None:
    layers.layer()
    environment = environ()
    try:
        prepare(sys.argv[1:], environment)
    except assembly.PreparationError as error:
        sys.exit(str(error))
    os.execve(envs.cdk(), [str(envs.cdk()), *sys.argv[1:]], environment)  # noqa: S606 - the pinned CLI


if __name__ == "__main__":
    main()
