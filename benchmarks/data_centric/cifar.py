"""Accuracy and time of training on selected subsets of CIFAR-10, compared with a fast recipe on all pictures.

    .groundplan/envs/app/bin/python -m benchmarks.data_centric.cifar --json out/cifar.json
    .groundplan/envs/app/bin/python -m benchmarks.data_centric.cifar --whole --runs out/cifar.jsonl

Trains with the training image's code in a separate Python environment. By default the experiment is small
enough for two CPU cores. With `--whole` it is as large as in the AWS post that this architecture follows, and
needs a GPU. Data: `cifar10/train.parquet` and `cifar10/test.parquet` in the folder GROUNDPLAN_DATA.
benchmarks/README.md explains each figure.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from benchmarks.data_centric import inside
from benchmarks.data_centric.selection import FRACTIONS, resolved, share, whole

FILES = ("cifar10/train.parquet", "cifar10/test.parquet")
SMALL: dict[str, Any] = {
    "pictures": 3_000,
    "epochs": 20,
    "model": "small",
    "fast_epochs": 5,
    "fast_model": "small",
    "set": ["augment=true"],
    "fast_set": [],
}
"""Sizes for two CPU cores"""
WHOLE: dict[str, Any] = {
    "pictures": 50_000,
    "epochs": 100,
    "model": "resnet18",
    "fast_epochs": 24,
    "fast_model": "resnet9",
    "set": ["augment=true", "batch_size=128", "learning_rate=0.1"],
    "fast_set": ["batch_size=512", "learning_rate=0.4"],
}
"""Sizes for a GPU: number of pictures, model and epochs of the table in the AWS post that this architecture
follows, and the fast recipe as published"""


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    return inside.run("cifar_measured", resolved(options), threads=options.threads)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.data_centric.cifar", description=(__doc__ or "").partition("\n")[0]
    )
    add = parser.add_argument

    def sized(name: str, help: str, **more: Any) -> None:
        field = name.strip("-").replace("-", "_")
        add(name, help=f"{help} ({SMALL[field]}; {WHOLE[field]} with --whole)", **more)

    add("--data", type=Path, metavar="FOLDER", help=f"folder with {' and '.join(FILES)} (GROUNDPLAN_DATA)")
    add("--whole", action="store_true", help="use the sizes of the AWS post, which needs a GPU")
    sized("--pictures", "number of training pictures, a tenth of them for validation", type=whole)
    sized("--epochs", "number of epochs of a run", type=whole)
    sized("--model", "model of the runs on subsets", metavar="NAME")
    sized("--fast-epochs", "number of epochs of the fast recipe", type=whole)
    sized("--fast-model", "model of the fast recipe", metavar="NAME")
    add("--fractions", nargs="+", type=share, default=list(FRACTIONS), metavar="SHARE",
        help=f"fractions of the training set ({', '.join(map(str, FRACTIONS))})")  # fmt: skip
    add("--seeds", type=whole, default=3, help="number of seeds (3)")
    add("--first-seed", type=int, default=0, help="first seed; use other seeds to choose settings (0)")
    for name, of in (("--set", "all runs but the fast recipe"), ("--fast-set", "the fast recipe")):
        add(name, nargs="+", default=[], metavar="NAME=VALUE", help=f"hyperparameters of the image, for {of}")
    cores = os.cpu_count() or 1
    add("--threads", type=whole, default=cores, help=f"number of CPU threads ({cores})")
    add(
        "--runs", type=Path, metavar="FILE", help="store results of runs in this file, and continue from them"
    )
    add("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    options = parser.parse_args(arguments)
    for name, value in (WHOLE if options.whole else SMALL).items():
        given = getattr(options, name)
        setattr(options, name, value + given if isinstance(value, list) else given or value)
    folder = options.data or os.environ.get("GROUNDPLAN_DATA")
    if not folder:
        parser.error(f"give --data or set GROUNDPLAN_DATA: a folder with {' and '.join(FILES)}")
    options.data = Path(folder)
    if missing := [name for name in FILES if not (options.data / name).is_file()]:
        parser.error(f"there is no {' and no '.join(missing)} in {folder}")
    return options


if __name__ == "__main__":
    sys.exit(main())
