"""`python -m demo [--arch NAME] [--keep] [--out FOLDER]`: the same as `make demo`.

Restarts itself in the Python environment with the demonstration's libraries, which it creates if necessary.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from pathlib import Path
from typing import Any

import architectures
from demo.progress import Lines, Progress
from tooling import envs

ROOMS = ("cdk", "cloud", "snowflake")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="demo", description=(__doc__ or "").partition("\n")[0])
    choices = ["all", *architectures.BY_NAME]
    parser.add_argument("--arch", default="all", choices=choices, help="architecture to run, default: all")
    parser.add_argument("--keep", action="store_true", help="leave the local cloud running afterwards")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder of the results, default: out")
    return parser.parse_args()


def main() -> int:
    chosen = arguments()
    names = list(architectures.BY_NAME) if chosen.arch == "all" else [chosen.arch]
    python = envs.environment("app")
    if Path(sys.prefix).resolve() != python.parents[1].resolve():
        os.execv(python, [str(python), "-m", "demo", *sys.argv[1:]])  # noqa: S606
    from demo.run import alone, demonstrate  # needs the libraries of this environment

    progress, run = Progress(), [architectures.BY_NAME[name] for name in names]
    with alone():
        set_up(names, progress)
        return demonstrate(run, chosen.out, chosen.keep, progress)


def set_up(names: list[str], progress: Progress) -> None:
    """Create the CDK CLI and the Python environments that the local cloud and the architectures `names`
    need."""
    needed = dict.fromkeys((*ROOMS, *(need for name in names for need in architectures.BY_NAME[name].needs)))
    with progress.step("environments"):
        stderr: Any = Lines(progress)
        with contextlib.redirect_stderr(stderr):
            for name in needed:
                envs.cdk() if name == "cdk" else envs.environment(name)


if __name__ == "__main__":
    sys.exit(main())
