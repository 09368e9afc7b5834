"""Hours, market days and packed rows."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from power_feeds import hours, rows

TEXAS = "America/Chicago"


@given(st.integers(0, 900_000))
def test_hour_text_can_be_parsed_again(hour):
    assert hours.parse(hours.text(hour)) == hour


@pytest.mark.parametrize("text", ["2022-01-31T05:30Z", "2022-01-31T05:00", "2022-01-31", "2022-1-31T05:00Z"])
def test_parse_refuses_any_other_form(text):
    with pytest.raises(ValueError, match="an hour must look like"):
        hours.parse(text)


@pytest.mark.parametrize(
    ("day", "first", "count"),
    [
        ("2022-01-31", "2022-01-31T06:00Z", 24),
        ("2022-03-13", "2022-03-13T06:00Z", 23),
        ("2022-11-06", "2022-11-06T05:00Z", 25),
    ],
)
def test_market_day_has_its_own_number_of_hours(day, first, count):
    found = hours.hours_of(day, TEXAS)
    assert (hours.text(found[0]), len(found)) == (first, count)
    assert {hours.market_day(hour, TEXAS) for hour in found} == {day}


def test_every_hour_is_in_exactly_one_market_day():
    days = [hours.shifted("2022-01-01", number) for number in range(365)]
    found = [hour for day in days for hour in hours.hours_of(day, TEXAS)]
    assert found == list(range(found[0], found[0] + 365 * 24))


def test_day_ahead_deadline_is_ten_local_of_the_day_before():
    assert hours.day_ahead_deadline("2022-02-01", TEXAS) == hours.parse("2022-01-31T16:00Z")
    assert hours.day_ahead_deadline("2022-07-01", TEXAS) == hours.parse("2022-06-30T15:00Z")


def test_hour_ending_distinguishes_the_repeated_hour():
    first = hours.hour_ending("2022-11-06", 2, TEXAS)
    second = hours.hour_ending("2022-11-06", 2, TEXAS, repeated=True)
    assert (first, second) == (hours.parse("2022-11-06T06:00Z"), hours.parse("2022-11-06T07:00Z"))


def test_hour_ending_has_no_hour_that_the_clocks_skip():
    assert hours.hour_ending("2022-03-13", 3, TEXAS) is None
    assert hours.hour_ending("2022-03-13", 4, TEXAS) == hours.parse("2022-03-13T08:00Z")


@given(st.dictionaries(st.sampled_from(rows.COLUMNS), st.none() | st.floats(-1e6, 1e6)))
def test_packed_row_unpacks_to_the_same_values(values):
    full = {name: values.get(name) for name in rows.COLUMNS}
    assert rows.unpacked(rows.packed(values)) == full


def test_row_written_before_a_column_was_added_lacks_it(monkeypatch: pytest.MonkeyPatch):
    # given a stored row
    text = rows.packed({"price": 31.2, "temperature": 3.5})
    # when a column is added, then its value is missing in the row
    monkeypatch.setattr(rows, "COLUMNS", (*rows.COLUMNS, "solar"))
    missing = dict.fromkeys(("real_time", "load", "solar"))
    assert rows.unpacked(text) == {"price": 31.2, "temperature": 3.5} | missing


@pytest.mark.parametrize("text", ["1,2,3", "1,2,3,4,5"])
def test_row_with_a_wrong_number_of_values_is_refused(text: str):
    with pytest.raises(ValueError, match=r"a row must have 4 to 4 values, got [35]"):
        rows.unpacked(text)


def test_packed_refuses_values_that_are_not_finite():
    with pytest.raises(ValueError, match="price must be finite"):
        rows.packed({"price": math.nan})
