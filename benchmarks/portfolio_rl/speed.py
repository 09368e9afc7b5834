"""Speed of the environment against the AWS sample's, and of PPO against sb3-contrib's MaskablePPO.

    python -m benchmarks.portfolio_rl.speed --json out/speed.json
    python -m benchmarks.portfolio_rl.speed --published trading.py

The AWS sample's environment is downloaded from GitHub at a fixed commit, or read from `--published`. It is
not part of this project, but src/trading.py of the repository aws-samples/amazon-sagemaker-rl-action-masking,
under the license MIT No Attribution. Measures in a separate Python environment, on one thread.
benchmarks/README.md explains each figure.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import urllib.request
from pathlib import Path

from benchmarks.portfolio_rl import inside
from tooling import envs

COMMIT = "a114c44b29e4fd5bb3bc14a1ffea17c8be541843"
URL = (
    "https://raw.githubusercontent.com/aws-samples/amazon-sagemaker-rl-action-masking/"
    f"{COMMIT}/src/trading.py"
)
SHA256 = "9703dc0a3aa9b80e5fee20eb7acb9f87b5fcb8810a1d5b0acd8ca8d1a4b43619"


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    return inside.run("stepping", vars(options) | {"published": published(options.published)})


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.portfolio_rl.speed", description=(__doc__ or "").partition("\n")[0]
    )
    add = parser.add_argument
    add(
        "--published",
        type=Path,
        metavar="FILE",
        help="src/trading.py of the published code (default: download it)",
    )
    add("--seconds", type=float, default=5, help="CPU seconds of each measurement")
    add("--repeats", type=int, default=3, help="repetitions of all measurements; the worst ratio counts")
    add("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    options = parser.parse_args(arguments)
    if options.published and not options.published.is_file():
        parser.error(f"there is no file {options.published}")
    if options.seconds <= 0 or options.repeats < 1:
        parser.error("--seconds must be above 0 and --repeats from 1")
    for name in ("published", "json"):
        if value := getattr(options, name):
            setattr(options, name, value.resolve())
    return options


def published(given: Path | None) -> Path:
    """Return the AWS sample's code, which is downloaded once. Raises `SystemExit` if it cannot be downloaded
    or differs from the fixed commit."""
    path = given or envs.home() / "downloads" / f"trading-{COMMIT[:12]}.py"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with urllib.request.urlopen(URL, timeout=60) as answer:  # noqa: S310 - a fixed https address
                found = answer.read()
        except OSError as error:
            raise SystemExit(
                f"{URL} cannot be downloaded ({error}): give the file with --published"
            ) from None
        checked(found, URL)
        path.write_bytes(found)
    checked(path.read_bytes(), str(path))
    return path


def checked(content: bytes, where: str) -> None:
    """Raise `SystemExit` unless the content is that of the fixed commit."""
    if (digest := hashlib.sha256(content).hexdigest()) != SHA256:
        raise SystemExit(f"{where} must have SHA-256 {SHA256} as at commit {COMMIT[:12]}, got {digest}")


if __name__ == "__main__":
    sys.exit(main())
