"""Seconds of a GLISTER selection, compared with per-example gradients and with the code of CORDS.

    .groundplan/envs/app/bin/python -m benchmarks.data_centric.speed --json out/speed.json
    .groundplan/envs/app/bin/python -m benchmarks.data_centric.speed --published cords

CORDS is downloaded from GitHub at a fixed commit, or read from a checkout given with `--published`. It is not
part of this project: its repository is decile-team/cords, its license MIT. Measures in a separate Python
environment, on one thread. benchmarks/README.md explains each figure.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import urllib.request
from pathlib import Path

from benchmarks.data_centric import inside
from benchmarks.data_centric.selection import resolved, whole
from tooling import envs

COMMIT = "8d10c7f5d96e071f98c20e4e9ff4c41c2c4ea2af"
FOLDER = "cords/selectionstrategies/SL"
URL = f"https://raw.githubusercontent.com/decile-team/cords/{COMMIT}/{FOLDER}"
FILES = {
    "glisterstrategy.py": "f7ac483d70b96fa40b40d150a1c5e593731a737d70e943b5270f384c735b90db",
    "dataselectionstrategy.py": "9c4827bdb70caf17755cab2f8f9606a016a6bedaa256e23066b2126710b54695",
}
"""SHA-256 of the files used."""
ROUNDS = 15


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    return inside.run("speed_measured", resolved(options) | {"published": published(options.published)})


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.data_centric.speed", description=(__doc__ or "").partition("\n")[0]
    )
    add = parser.add_argument
    add("--published", type=Path, metavar="FOLDER", help="checkout of CORDS (default: download it)")
    add("--examples", type=whole, default=10_000, help="number of training examples (10000)")
    add(
        "--budget",
        type=whole,
        default=3_000,
        help="number of examples to select, a multiple of the 15 rounds (3000)",
    )
    add(
        "--batch", type=whole, default=128, help="CORDS's batch size (128, as in its configuration for MNIST)"
    )
    add(
        "--repeats", type=whole, default=3, help="repetitions of all measurements; the worst ratio counts (3)"
    )
    add("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    options = parser.parse_args(arguments)
    if options.budget % ROUNDS or options.budget > options.examples:
        parser.error(
            f"--budget must be a multiple of {ROUNDS} up to --examples, got {options.budget}: CORDS returns"
            " too many examples for other budgets"
        )
    if options.published and not options.published.is_dir():
        parser.error(f"there is no folder {options.published}")
    return options


def published(given: Path | None) -> Path:
    """Return the folder of CORDS's two modules; download them if needed.

    Raises `SystemExit` if a module is missing, cannot be downloaded or differs from the fixed commit.
    """
    if given and (given / FOLDER).is_dir():
        given = given / FOLDER
    root = given or envs.home() / "downloads" / f"cords-{COMMIT[:12]}"
    for name, digest in FILES.items():
        path = root / name
        if not given and not path.exists():
            content = downloaded(f"{URL}/{name}")
            checked(content, digest, f"{URL}/{name}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        if not path.is_file():
            raise SystemExit(f"--published must be a checkout of CORDS, but there is no {name} in {root}")
        checked(path.read_bytes(), digest, str(path))
    return root


def downloaded(url: str) -> bytes:
    """Download a file. Raises `SystemExit` on failure."""
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 - a fixed https address
            return answer.read()
    except OSError as error:
        raise SystemExit(f"{url} cannot be downloaded ({error}): give a checkout with --published") from None


def checked(content: bytes, digest: str, where: str) -> None:
    """Raise `SystemExit` if the content differs from the fixed commit."""
    if (found := hashlib.sha256(content).hexdigest()) != digest:
        raise SystemExit(f"{where} must have SHA-256 {digest} as at commit {COMMIT[:12]}, got {found}")


if __name__ == "__main__":
    sys.exit(main())
