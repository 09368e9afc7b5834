"""The training table of the scenarios, from the first available source:

1. `california_housing.csv` in the folder `GROUNDPLAN_DATA`;
2. California Housing from scikit-learn's loader, which needs the internet once;
3. the diamonds in the package `plotnine`, for machines that only have access to a package index.
"""

from __future__ import annotations

import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from tooling import envs

FILE = "california_housing.csv"
TARGET = "MEDIAN_HOUSE_VALUE"
TOTALS = (
    "LONGITUDE",
    "LATITUDE",
    "HOUSING_MEDIAN_AGE",
    "TOTAL_ROOMS",
    "TOTAL_BEDROOMS",
    "POPULATION",
    "HOUSEHOLDS",
    "MEDIAN_INCOME",
)
"""Columns of the census that `FILE` must have. Some columns of scikit-learn's table are ratios of these."""

ORIGIN = "https://ndownloader.figshare.com/files/5976036"  # where scikit-learn's loader downloads from
DIAMONDS = "plotnine==0.15.9"

FETCH = """
import sys
from sklearn.datasets import fetch_california_housing
table = fetch_california_housing(data_home=sys.argv[1], n_retries=1, delay=0.1)
with open(sys.argv[2], "w") as file:
    print(*table.feature_names, *table.target_names, sep=",", file=file)
    for row, target in zip(table.data.tolist(), table.target.tolist()):
        print(*row, target, sep=",", file=file)
"""


class DataError(Exception):
    """A table is missing or invalid."""


@dataclass(frozen=True)
class Table:
    """A table to train on.

    `rows` has upper-case column names, as in Snowflake. Prediction errors are reported in `unit`, for example
    "$100,000"; `scale` is the size of `unit` in the target's unit, for example 100,000 if that is the dollar.
    `coordinates` are the names of the two columns with a position on a map, separated by a comma, or "".
    """

    name: str
    rows: pa.Table = field(repr=False)
    target: str
    coordinates: str
    unit: str
    scale: float
    title: str
    source: str
    licence: str

    @property
    def features(self) -> list[str]:
        return [name for name in self.rows.column_names if name != self.target]


def load(progress: Callable[[str], None] = lambda line: None) -> Table:
    """Return the table from the first available source.

    Raises `DataError` if the folder in `GROUNDPLAN_DATA` does not have the file: other sources are then not
    used.
    """
    folder = os.environ.get("GROUNDPLAN_DATA")
    if folder:
        return from_folder(Path(folder))
    try:
        return from_scikit_learn(progress)
    except DataError as error:
        progress(f"California Housing is not available: {error}")
    return from_package(progress)


def from_folder(folder: Path) -> Table:
    path = folder.expanduser() / FILE
    if not path.is_file():
        raise DataError(f"GROUNDPLAN_DATA is {str(folder)!r}, but there is no {FILE} in it")
    totals = read(path)
    missing = sorted({*TOTALS, TARGET} - set(totals.column_names))
    if missing:
        raise DataError(
            f"{path} lacks the columns {', '.join(missing).lower()}; it has {', '.join(totals.column_names)}"
        )

    def per_household(name: str) -> pa.Array:
        return pa.array(totals[name].to_numpy() / totals["HOUSEHOLDS"].to_numpy(), from_pandas=True)

    return california(
        pa.table(
            {
                "MEDINC": totals["MEDIAN_INCOME"],
                "HOUSEAGE": totals["HOUSING_MEDIAN_AGE"],
                "AVEROOMS": per_household("TOTAL_ROOMS"),
                "AVEBEDRMS": per_household("TOTAL_BEDROOMS"),
                "POPULATION": totals["POPULATION"],
                "AVEOCCUP": per_household("POPULATION"),
                "LATITUDE": totals["LATITUDE"],
                "LONGITUDE": totals["LONGITUDE"],
                TARGET: totals[TARGET],
            }
        ),
        "from the copy in ageron/handson-ml2, its totals converted to scikit-learn's ratios",
        "U.S. government data; the copy is Apache-2.0",
    )


def california(rows: pa.Table, kept: str, licence: str) -> Table:
    """Return California Housing with scikit-learn's columns and prices in dollars. Keeps missing values."""
    return Table(
        name="CALIFORNIA_HOUSING",
        rows=rows,
        target=TARGET,
        coordinates="LATITUDE,LONGITUDE",
        unit="$100,000",
        scale=100_000,
        title=f"California Housing, {rows.num_rows:,} census block groups of 1990",
        source=f"U.S. Census 1990, by Pace and Barry (1997), {kept}",
        licence=licence,
    )


def from_scikit_learn(progress: Callable[[str], None]) -> Table:
    """Return California Housing from scikit-learn's loader, which is cached.

    Raises `DataError` if the server does not respond, or if the loader fails or takes more than 120 s.
    """
    path = envs.home() / "data" / "california_housing_scikit_learn.csv"
    if not path.is_file():
        reach(ORIGIN)
        progress("fetching California Housing with scikit-learn's loader")
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        python = envs.environment("scikit-learn")
        command = [str(python), "-c", FETCH, str(path.parent), str(part)]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
        except subprocess.TimeoutExpired:
            raise DataError("scikit-learn's loader took more than 120 s") from None
        except subprocess.CalledProcessError as error:
            said = error.stderr.strip().splitlines() or [f"exit code {error.returncode}"]
            raise DataError(f"scikit-learn's loader: {said[-1]}") from None
        part.replace(path)
    rows = read(path)
    dollars = pa.array(rows["MEDHOUSEVAL"].to_numpy() * 100_000)
    rows = rows.drop_columns(["MEDHOUSEVAL"]).append_column(TARGET, dollars)
    return california(rows, "by scikit-learn's fetch_california_housing", "U.S. government data")


def reach(url: str) -> None:
    """Raise `DataError` if `url` does not respond in 5 s. Called before the loader's packages are
    installed."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=5):  # noqa: S310
            pass
    except (urllib.error.URLError, OSError) as error:
        raise DataError(f"could not reach {url.split('/')[2]} ({getattr(error, 'reason', error)})") from None


def from_package(progress: Callable[[str], None]) -> Table:
    """Return 53,940 diamonds and their prices from a file in a package. The package is not imported."""
    requirements = envs.home() / "diamonds.txt"
    requirements.parent.mkdir(parents=True, exist_ok=True)
    requirements.write_text(DIAMONDS + "\n")
    progress(f"reading the table of diamonds from the package {DIAMONDS}")
    try:
        python = envs.build(envs.home() / "envs" / "diamonds", requirements)
    except subprocess.CalledProcessError:
        raise DataError(
            f"no table is available: scikit-learn's loader and the package {DIAMONDS} could not be reached; "
            f"set GROUNDPLAN_DATA to a folder with {FILE}"
        ) from None
    (path,) = python.parents[1].glob("lib/*/site-packages/plotnine/data/diamonds.csv")
    # X, Y and Z are length, width and depth in mm
    rows = read(path)
    return Table(
        name="DIAMONDS",
        rows=rows,
        target="PRICE",
        coordinates="",
        unit="$",
        scale=1,
        title=f"Diamonds, prices and measures of {rows.num_rows:,} round-cut stones",
        source=f"ggplot2's dataset of diamonds, from the package {DIAMONDS.replace('==', ' ')}",
        licence="MIT",
    )


def read(path: Path) -> pa.Table:
    """Read a CSV file. Column names become upper case, numbers float64, empty fields null."""
    found = pyarrow.csv.read_csv(
        path, convert_options=pyarrow.csv.ConvertOptions(strings_can_be_null=True, null_values=[""])
    )
    columns = [
        column.cast(pa.float64()) if pa.types.is_integer(column.type) else column for column in found.columns
    ]
    return pa.table(columns, names=[name.upper() for name in found.column_names])
