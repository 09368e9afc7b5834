"""The plain CDK command line, made ready: `python -m tooling.cdk deploy` is `cdk deploy`."""

from __future__ import annotations

import os
import sys

from tooling import envs, layers


def environ() -> dict[str, str]:
    """This process's environment with the app's Python and Node first on the path."""
    path = [str(envs.environment("app").parent), str(envs.node()), os.environ.get("PATH", "")]
    return os.environ | {
        "PATH": os.pathsep.join(path),
        "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "20",
        "CDK_DISABLE_CLI_TELEMETRY": "true",
    }


def main() -> None:
    layers.layer()
    os.execve(envs.cdk(), [str(envs.cdk()), *sys.argv[1:]], environ())  # noqa: S606 - the pinned CLI


if __name__ == "__main__":
    main()
