"""Compare the value of learned policies with bounds, baselines and solvers, on the same price paths.

    python -m benchmarks.portfolio_rl.values --seeds 3 --json out/values.json
    python -m benchmarks.portfolio_rl.values --variants corrected --only fitted ppo

Measures in a separate Python environment, on one thread. PPO takes `--ppo-seconds` of CPU time for each
variant and seed, by default 50 minutes in total. benchmarks/README.md explains each figure.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.portfolio_rl import inside

VARIANTS = ("published", "corrected", "strict")
PARTS = ("fitted", "ppo", "source", "baselines", "programs")


def main(arguments: list[str] | None = None) -> int:
    return inside.run("compared", vars(parse(arguments)))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.portfolio_rl.values", description=(__doc__ or "").partition("\n")[0]
    )
    add = parser.add_argument
    add("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="problems to measure (all)")
    add("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts to measure (all)")
    add("--seeds", type=int, default=3, help="number of seeds of the learned policies")
    add("--paths", type=int, default=50_000, help="held-out price paths that all policies trade on")
    add(
        "--solver-paths",
        type=int,
        default=100,
        help="number of these paths for lookahead and perfect foresight",
    )
    add("--ppo-seconds", type=float, default=300, help="CPU seconds of PPO for each variant and seed")
    add("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    options = parser.parse_args(arguments)
    if options.seeds < 1:
        parser.error(f"--seeds must be a whole number from 1, got {options.seeds}")
    if not 2 <= options.solver_paths <= options.paths:
        parser.error("--solver-paths must be a whole number from 2 to --paths")
    if options.ppo_seconds <= 0:
        parser.error(f"--ppo-seconds must be above 0, got {options.ppo_seconds:g}")
    if options.json:
        options.json = options.json.resolve()
    return options


if __name__ == "__main__":
    sys.exit(main())
