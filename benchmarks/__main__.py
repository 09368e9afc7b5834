"""Run all benchmarks, or only the named benchmarks, in sequence. If one fails, the next ones still run.

    python -m benchmarks [NAME ...]

An architecture's name selects all its benchmarks. Results are in `out/benchmarks/NAME.json`. The exit code is
1 if a benchmark failed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from importlib import import_module
from importlib.util import find_spec

import architectures
from tooling import envs
from tooling.table import print_table

NAMES = [
    f"{architecture}.{benchmark}"
    for architecture in architectures.BY_NAME
    if find_spec(f"benchmarks.{architecture}")
    for benchmark in import_module(f"benchmarks.{architecture}").BENCHMARKS
]


def chosen(names: list[str]) -> list[str]:
    """Return the names of the benchmarks to run. `names` are of benchmarks or architectures; empty: all.

    Raises `ValueError` for an unknown name.
    """
    found = []
    for name in names or NAMES:
        some = [each for each in NAMES if name in (each, each.partition(".")[0])]
        if not some:
            raise ValueError(f"the benchmark {name} does not exist, must be one of {', '.join(NAMES)}")
        found += some
    return list(dict.fromkeys(found))


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="benchmarks", description="Compare each architecture with its published solution."
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"benchmarks to run, of {', '.join(NAMES)} (all)"
    )
    try:
        names = chosen(parser.parse_args().names)
    except ValueError as error:
        parser.error(str(error))
    folder = envs.ROOT / "out" / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    ended = []
    for name in names:
        print(f"\n=== {name}\n", flush=True)
        figures, started = folder / f"{name}.json", time.monotonic()
        command = [sys.executable, "-m", f"benchmarks.{name}", "--json", str(figures)]
        code = subprocess.run(command, cwd=envs.ROOT).returncode
        ended.append((name, code, time.monotonic() - started, figures))
    print()
    rows = [
        (
            name,
            f"{seconds:.0f} s",
            f"failed, exit code {code}" if code else figures.relative_to(envs.ROOT),
        )
        for name, code, seconds, figures in ended
    ]
    print_table(rows, left=(0, 2))
    return int(any(code for _, code, _, _ in ended))


if __name__ == "__main__":
    sys.exit(main())
