"""Compare training from Snowflake by our scheme and by the scheme of the AWS sample.

    python -m benchmarks.snowflake_training.schemes --hosts 2 4 8 --seeds 5 --json out/benchmark.json

Measures in a separate Python environment, with the Snowflake account of `--connection`, or with a local
Snowflake that is started for the run and removed afterwards. benchmarks/README.md explains each figure.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from local.reaper import Reaper, ended_with_us
from tooling import envs
from tooling.containers import CONTAINERS, import_path

IMAGE = CONTAINERS / "snowflake_training" / "train_and_serve"
STARTUP_SECONDS = 60


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    python = envs.environment("benchmarks-snowflake_training")
    given = []
    for name in ("hosts", "seeds", "rounds", "rows_memory", "memory_repeats", "collective_rounds", "json"):
        value = getattr(options, name)
        if value is not None:
            values = value if isinstance(value, list) else [value]
            given += [f"--{name.replace('_', '-')}", *map(str, values)]
    with tempfile.TemporaryDirectory(prefix="groundplan-benchmark-") as folder, ended_with_us() as reaper:
        connection = options.connection or local_snowflake(Path(folder), reaper)
        command = [str(python), "-m", "benchmarks.snowflake_training.side_by_side"]
        command += ["--connection", str(connection), *given]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(envs.ROOT), import_path(IMAGE)))}
        if options.data:
            environment["GROUNDPLAN_DATA"] = str(options.data.resolve())
        return start(command, reaper, env=environment).wait()


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.snowflake_training.schemes", description=(__doc__ or "").partition("\n")[0]
    )
    add = parser.add_argument
    add("--hosts", type=int, nargs="+", default=[2, 4, 8], metavar="N", help="numbers of hosts to measure")
    add("--seeds", type=int, default=10, help="number of repetitions, each with its own test split")
    add("--rounds", type=int, help="maximum number of boosting rounds (default: the image's)")
    add(
        "--rows-memory",
        type=int,
        default=1_000_000,
        help="rows of the table for the memory measurement; 0: do not measure memory",
    )
    add("--memory-repeats", type=int, default=3, help="number of reads of that table by each scheme")
    add(
        "--collective-rounds",
        type=int,
        default=20,
        help="boosting rounds with a process for each host; 0: skip this check",
    )
    add("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    add(
        "--connection",
        type=Path,
        metavar="FILE",
        default=os.environ.get("GROUNDPLAN_SNOWFLAKE"),
        help="JSON file with a Snowflake connection (GROUNDPLAN_SNOWFLAKE; default: a local Snowflake)",
    )
    add("--data", type=Path, metavar="FOLDER", help="folder with california_housing.csv (GROUNDPLAN_DATA)")
    options = parser.parse_args(arguments)
    if min(options.hosts) < 2:
        parser.error("--hosts must be whole numbers from 2: one host has nothing to share")
    if options.seeds < 2:
        parser.error("--seeds must be a whole number from 2: one repetition has no interval")
    if options.connection and not options.connection.is_file():
        parser.error(f"there is no connection file {options.connection}")
    if options.json:
        options.json = options.json.resolve()
    if options.connection:
        options.connection = options.connection.resolve()
    return options


def start(command: list[str], reaper: Reaper, **options: Any) -> subprocess.Popen:
    process = subprocess.Popen(command, cwd=envs.ROOT, start_new_session=True, **options)
    reaper.adopt(process.pid)
    return process


def local_snowflake(folder: Path, reaper: Reaper) -> Path:
    """Start a local Snowflake on a free loopback port; return the file with its connection."""
    connection, log = folder / "connection.json", folder / "log"
    command = [str(envs.environment("snowflake")), "-m", "local.snowflake.server"]
    command += ["--home", str(folder / "data"), "--credentials", str(connection)]
    with log.open("wb") as output:
        own = os.environ | {"TMPDIR": str(folder)}  # the server's temporary files are removed with the folder
        server = start(command, reaper, stdout=output, stderr=output, env=own)
    await_answer(server, connection, log)
    return connection


def await_answer(server: subprocess.Popen, connection: Path, log: Path) -> None:
    """Wait until the server accepts connections. Raises `RuntimeError` with the end of its log."""
    until = time.monotonic() + STARTUP_SECONDS
    while time.monotonic() < until and server.poll() is None:
        with contextlib.suppress(OSError, ValueError, KeyError):
            known = json.loads(connection.read_text())
            socket.create_connection((known["host"], known["port"]), timeout=1).close()
            return
        time.sleep(0.1)
    raise RuntimeError(f"the local Snowflake did not start:\n{log.read_text()[-2000:]}")


if __name__ == "__main__":
    sys.exit(main())
