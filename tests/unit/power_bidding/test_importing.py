"""Import of a user's history."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from power_bidding.core.importing import import_history
from power_feeds import hours
from power_feeds.rows import unpacked

HUBS = ("HB_NORTH", "HB_WEST")
TEXT = """hour_utc,price:HB_NORTH,price:HB_WEST,real_time:HB_NORTH,load,note
2022-01-31T23:00Z,30.5,31,29,41000,x
2022-02-01T00:00Z,32,,,42000,
"""


class Days:
    """The history in memory."""

    def __init__(self) -> None:
        self.days: dict[tuple[str, str], dict[int, str]] = {}

    def add(self, location: str, day: str, rows: Mapping[int, str]) -> bool:
        if (location, day) in self.days:
            return False
        self.days[location, day] = dict(rows)
        return True


def test_rows_are_stored_by_location_and_day() -> None:
    table = Days()
    assert import_history(TEXT, HUBS, table) == 2
    assert sorted(table.days) == [
        *(("HB_NORTH", day) for day in ("2022-01-31", "2022-02-01")),
        *(("HB_WEST", day) for day in ("2022-01-31", "2022-02-01")),
    ]
    (text,) = table.days["HB_NORTH", "2022-01-31"].values()
    assert unpacked(text) == {"price": 30.5, "real_time": 29, "load": 41000, "temperature": None}
    assert unpacked(table.days["HB_WEST", "2022-02-01"][hours.parse("2022-02-01T00:00Z")])["price"] is None


def test_existing_days_are_not_overwritten() -> None:
    table = Days()
    import_history(TEXT, HUBS, table)
    before = dict(table.days)
    import_history(TEXT.replace("30.5", "99"), HUBS, table)
    assert table.days == before


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hour_utc,price:HB_NORTH\n", "the columns price:HB_WEST are missing"),
        (TEXT.replace("2022-02-01T00:00Z", "2022-02-01"), "line 3 column hour_utc: an hour must look like"),
        (
            TEXT.replace("30.5", "cheap"),
            "line 2 column price:HB_NORTH must be a number or empty, got 'cheap'",
        ),
        (TEXT.replace("30.5", "inf"), "line 2 column price:HB_NORTH must be a number or empty, got 'inf'"),
    ],
)
def test_wrong_cells_are_named(text: str, says: str) -> None:
    with pytest.raises(ValueError, match="column") as caught:
        import_history(text, HUBS, Days())
    assert says in str(caught.value)
