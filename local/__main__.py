"""Start, stop and inspect a local cloud.

python -m local up                  # start it
eval "$(python -m local env)"       # point this shell's AWS tools to it
python -m local status
python -m local iam on              # check every call against its caller's policies; off: check none
python -m local down                # stop it; its deployed resources are kept for the next up
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from local.cloud import CloudError, LocalCloud
from tooling import envs

PYTHON = envs.MACHINE_PYTHON.name
"""Python executable in the printed command. With another Python version, all environments would be
recreated."""

HOME = envs.home() / "cloud"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m local", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["up", "down", "status", "env", "iam"])
    parser.add_argument(
        "state", nargs="?", choices=["on", "off"], help="for iam: whether to check IAM policies"
    )
    parser.add_argument(
        "--home", type=Path, default=HOME, help="folder of the cloud's state (default: %(default)s)"
    )
    parser.add_argument("--port", type=int, help="port on 127.0.0.1 (default: the last one, or a free one)")
    parser.add_argument("--region", help="AWS Region of the cloud (default: the last one, or eu-west-1)")
    asked = parser.parse_args()
    if (asked.command == "iam") != bool(asked.state):
        parser.error("iam must be followed by on or off, and other commands by neither")
    if asked.command == "up" and (problem := envs.unwritable()):
        print(problem, file=sys.stderr)
        return 1
    cloud = LocalCloud(asked.home, asked.port, asked.region)
    try:
        if asked.command == "iam":
            return iam(cloud, asked.state == "on")
        return {"up": up, "down": down, "status": status, "env": env}[asked.command](cloud)
    except CloudError as error:
        print(error, file=sys.stderr)
        if asked.command == "env":
            print("false")  # `eval` of an empty output would succeed, and the shell would still talk to AWS
        return 1


def up(cloud: LocalCloud) -> int:
    if not cloud.running:
        envs.say("starting the local cloud")
        cloud.start()
    print(f"The local cloud answers at {cloud.endpoint_url}. To use it in this shell:\n")
    home = [] if cloud.home == HOME.resolve() else ["--home", str(cloud.home)]
    print(f'  eval "$({shlex.join([PYTHON, "-m", "local", "env", *home])})"\n\nor set:\n')
    return env(cloud)


def down(cloud: LocalCloud) -> int:
    was = cloud.running
    cloud.stop()
    print("The local cloud has stopped; its state is kept." if was else "The local cloud is not running.")
    return 0


def env(cloud: LocalCloud) -> int:
    if not cloud.running:
        raise CloudError("The local cloud is not running: start it with `make up`")
    for name, value in cloud.env().items():
        print(f"export {name}={shlex.quote(value)}" if value else f"unset {name}")
    print("unset AWS_PROFILE")
    return 0


def iam(cloud: LocalCloud, on: bool) -> int:
    if not cloud.running:
        raise CloudError("The local cloud is not running: start it with `make up`")
    cloud.enforce_iam(on)
    print("IAM is enforced." if on else "IAM is not enforced. Calls must still be signed.")
    return 0


def status(cloud: LocalCloud) -> int:
    if not cloud.running:
        print(f"The local cloud in {cloud.home} is not running.")
        return 1
    now = cloud.status()
    rows = {
        "address": now["endpoint_url"],
        "account, Region": f"{now['account']}, {now['region']}",
        "IAM": "enforced" if now["iam_enforced"] else "not enforced",
        "containers": now["containers"],
        "Snowflake": f"127.0.0.1:{now['snowflake']}, connection settings in {cloud.snowflake}",
        "stacks": ", ".join(f"{one['name']} ({one['status']})" for one in now["stacks"]),
        "training jobs": ", ".join(now["training_jobs_running"]),
        "processing jobs": ", ".join(now["processing_jobs_running"]),
        "transform jobs": ", ".join(now["transform_jobs_running"]),
        "tuning jobs": ", ".join(now["tuning_jobs_running"]),
        "labeling jobs": ", ".join(now["labeling_jobs_running"]),
        "endpoints": ", ".join(f"{one['name']} ({one['status']})" for one in now["endpoints"]),
        "executions": str(now["executions_running"]),
        "functions warm": str(now["functions_warm"]),
        "state": str(cloud.home),
        "log": str(cloud.log),
    }
    for name, value in rows.items():
        print(f"{name:<16} {value or 'none'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
