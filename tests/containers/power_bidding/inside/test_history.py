"""Market days with 23 and 25 hours, and hourly CSV files: valid and refused ones."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest

from power_forecaster.history import History, read_csv
from toolkit.failure import FatalError

CENTRAL, PACIFIC = "America/Chicago", "America/Los_Angeles"


def history(start: str, hours: int, zone: str) -> History:
    """Return prices that equal the number of the hour."""
    first = round(datetime.fromisoformat(start).replace(tzinfo=UTC).timestamp() / 3600)
    return History(first, np.arange(hours, dtype=np.float64), {}, zone)


def day(found: History, wanted: str) -> int:
    days = [
        date.fromordinal(int(each) + date(1970, 1, 1).toordinal()).isoformat() for each in found.days.dates
    ]
    return days.index(wanted)


@pytest.mark.parametrize(
    ("wanted", "hours"), [("2022-03-12", 24), ("2022-03-13", 23), ("2022-11-06", 25), ("2022-11-07", 24)]
)
@pytest.mark.parametrize("zone", [CENTRAL, PACIFIC])
def test_day_has_the_hours_that_its_clock_has(wanted: str, hours: int, zone: str) -> None:
    found = history("2022-01-01", 24 * 365, zone)
    assert found.days.length[day(found, wanted)] == hours


def test_hour_that_occurs_twice_is_averaged_and_spread_again() -> None:
    found = history("2022-11-06T05:00", 25, CENTRAL)  # the whole local day on which clocks go back
    grid = found.days.grid(found.prices)
    assert grid[0, :4].tolist() == [0, 1.5, 3, 4]
    assert found.days.spread(0, grid[0])[:5].tolist() == [0, 1.5, 1.5, 3, 4]


def test_skipped_hour_is_interpolated_between_its_neighbours() -> None:
    found = history("2022-03-13T06:00", 23, CENTRAL)
    grid = found.days.grid(found.prices)
    assert grid[0, :5].tolist() == [0, 1, 1.5, 2, 3]
    assert len(found.days.spread(0, grid[0])) == 23


def test_days_that_are_not_whole_are_left_out() -> None:
    found = history("2022-06-01T12:00", 60, CENTRAL)
    assert found.days.length.tolist() == [24]
    assert found.days.of.tolist().count(-1) == 60 - 24


def test_missing_prices_are_not_filled() -> None:
    found = history("2022-06-01T05:00", 48, CENTRAL)
    found.prices[30] = np.nan
    grid = found.days.grid(found.prices)
    assert np.isnan(grid[1, 6])
    assert np.isfinite(np.delete(grid.ravel(), 30)).all()


HEAD = "hour_utc,lmp_sp15,load_mw"


def written(folder: Path, *texts: str) -> list[Path]:
    paths = [folder / f"{number}.csv" for number in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    return paths


def test_consecutive_files_make_one_history_with_missing_values(tmp_path: Path) -> None:
    # given two files with a missing hour between them, and an empty cell
    first = f"{HEAD}\n2019-02-01T08:00Z,36.5,20000\n2019-02-01T09:00+00:00,35,\n"
    paths = written(tmp_path, first, f"{HEAD}\n2019-02-01T11:00Z,-4,21000\n")
    # when the files are read, then the hour and the cell are missing values
    found = read_csv(paths, None, PACIFIC)
    assert found.start == datetime(2019, 2, 1, 8, tzinfo=UTC).timestamp() / 3600
    np.testing.assert_array_equal(found.prices, [36.5, 35, np.nan, -4])
    np.testing.assert_array_equal(found.feeds["load_mw"], [20000, np.nan, np.nan, 21000])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time,price\n", "0.csv must have a column hour_utc, its columns are time, price"),
        ("hour_utc,load\n2019-02-01T08:00Z,1\n", "the prices must be in one column whose name begins with"),
        (
            "hour_utc,lmp_a,lmp_b\n2019-02-01T08:00Z,1,2\n",
            "got the columns lmp_a, lmp_b; set price_column",
        ),
        ("hour_utc,price\n", "0.csv must have rows, got none"),
        ("hour_utc,price\n2019-02-01T08:30Z,1\n", "0.csv line 2 column hour_utc must be a whole hour"),
        ("hour_utc,price\nyesterday,1\n", "must be a whole hour such as 2022-01-31T05:00Z, got 'yesterday'"),
        (
            "hour_utc,price\n2019-02-01T08:00Z,cheap\n",
            "0.csv line 2 column price must be a number of at most",
        ),
        ("hour_utc,price\n2019-02-01T08:00Z,1e300\n", "or empty, got '1e300'"),
        ("hour_utc,price\n2019-02-01T08:00Z,inf\n", "or empty, got 'inf'"),
        ("hour_utc,price\n2019-02-01T08:00Z,1,2\n", "0.csv line 2 must have 2 cells, got 3"),
        (
            "hour_utc,price\n2019-02-01T08:00Z,1\n2019-02-01T08:00Z,2\n",
            "0.csv line 3: hour 2019-02-01T08:00Z occurs twice",
        ),
        (
            "hour_utc,price\n1019-02-01T08:00Z,1\n2019-02-01T08:00Z,2\n",
            "0.csv must span at most 100 years",
        ),
    ],
)
def test_invalid_history_file_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(FatalError) as error:
        read_csv(written(tmp_path, text), None, PACIFIC)
    assert message in str(error.value)


def test_files_with_other_columns_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        FatalError, match=r"1.csv must have the columns hour_utc, lmp_sp15, load_mw, got hour_utc"
    ):
        read_csv(written(tmp_path, f"{HEAD}\n", "hour_utc,lmp_sp15\n"), None, PACIFIC)
