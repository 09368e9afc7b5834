"""Compare LoRA with a full fine-tune: the loss in quality, and the reduction in bytes.

    python -m benchmarks.personalization.quality [--seeds 3] [--base FOLDER] [--json FILE]

Both methods train on the same subjects and pictures for the same number of steps, with the container's code.
The optimizer and the learning rate of each method are chosen on another subject. Runs in a separate
environment, on the small base that is trained on this machine, unless `--base` names another base.
benchmarks/README.md explains each figure.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from scenarios.personalization.base import small_base
from tooling import envs
from tooling.containers import CONTAINERS, import_path

CONTAINER = CONTAINERS / "personalization" / "finetune"


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    python = envs.environment("scenarios-personalization")
    command = [str(python), "-m", "benchmarks.personalization.learning"]
    command += ["--base", str(options.base or small_base())]
    for name in ("seeds", "steps", "processes", "json", "pictures"):
        if (value := getattr(options, name)) is not None:
            command += [f"--{name}", str(value)]
    # With active waiting, OpenMP's threads would take the CPU from other processes.
    settings = os.environ | {"PYTHONPATH": os.pathsep.join((str(envs.ROOT), import_path(CONTAINER)))}
    return subprocess.run(command, cwd=envs.ROOT, env=settings | {"OMP_WAIT_POLICY": "passive"}).returncode


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.personalization.quality", description=(__doc__ or "").partition("\n")[0]
    )
    add = parser.add_argument
    add("--seeds", type=int, default=3, help="number of repetitions with every subject")
    add("--steps", type=int, help="number of steps of each fine-tune (default: as in local deployments)")
    add("--processes", type=int, default=2, help="number of concurrent fine-tunes, one core each")
    add("--base", type=Path, metavar="FOLDER", help="base model: a pipeline in diffusers' format")
    add("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    add(
        "--pictures",
        type=Path,
        metavar="FILE",
        help="draw each subject's pictures by each method to this file",
    )
    options = parser.parse_args(arguments)
    if options.seeds < 3:
        parser.error("--seeds must be a whole number from 3: fewer seeds give no useful interval")
    if options.base and not (options.base / "model_index.json").is_file():
        parser.error(f"there is no pipeline in {options.base}")
    for name in ("base", "json", "pictures"):
        if value := getattr(options, name):
            setattr(options, name, value.resolve())
    return options


if __name__ == "__main__":
    sys.exit(main())
