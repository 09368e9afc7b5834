"""Datasets, versions, corrections and the frozen forecast, also when the function is killed."""

import contextlib
import copy
import io

import pyarrow.parquet
import pytest

from power_bidding.core.consolidate import Backend, Request, consolidate
from power_bidding.core.datasets import decoded
from power_feeds import files, hours
from power_feeds.rows import unpacked
from tests.support.power_bidding.feeds import (
    HUBS,
    TEXAS,
    KilledError,
    Kills,
    MemoryHistory,
    MemoryHours,
    MemoryObjects,
    history,
)

NOW = hours.parse("2022-01-31T12:00Z")
"""06:00 in Texas: the day-ahead market of the next day is open."""
PAST = history(NOW - 100, 12)
SERIES = {
    "market_prices": [*(f"price:{hub}" for hub in HUBS), *(f"real_time:{hub}" for hub in HUBS)],
    "load": ["load"],
    "weather": ["temperature"],
    "price_forecast": [f"price_forecast:{hub}" for hub in HUBS],
}


class Place:
    """Tables and bucket in memory."""

    def __init__(self):
        self.kills = Kills()
        self.objects = MemoryObjects(self.kills)
        self.hours = MemoryHours(self.kills)
        self.history = MemoryHistory(self.kills)

    def backend(self) -> Backend:
        return Backend(self.objects, self.hours, self.history, HUBS, TEXAS)

    def answers(self, now: int, *, without=(), gaps=(), changed=None, published: float | None = None):
        """Write the feeds' files for the run of `now`; return the results of the feed functions."""
        results = []
        for feed, names in SERIES.items():
            if feed in without:
                results.append({"feed": feed, "hour": hours.text(now), "status": "missing", "reason": "test"})
                continue
            series = {}
            for name in names:
                known = PAST.series[name.replace("price_forecast", "price")]
                last = now if name.startswith("real_time") else now + 42
                found = {hour: known[hour] for hour in range(now - 24, last) if (name, hour) not in gaps}
                series[name] = found | (changed or {}).get(name, {})
            when = hours.moment(now if published is None else published).isoformat()
            body = files.encoded(files.Normalized(feed, now, when, series))
            key = files.named(files.folder(f"feeds/{feed}", now), body, "json")
            self.objects.all[key] = body
            results.append(
                {
                    "feed": feed,
                    "hour": hours.text(now),
                    "status": "ready",
                    "key": key,
                    "digest": files.digest(body),
                }
            )
        return results

    def run(self, now: int, feeds=None, **options):
        request: Request = {"hour": hours.text(now), "feeds": feeds or self.answers(now, **options)}
        return consolidate(request, self.backend())

    def state(self):
        """Return all stored data."""
        return copy.deepcopy((self.objects.all, self.hours.all, self.history.cells, self.history.frozen))

    def dataset(self, hour: int):
        return decoded(self.objects.all[self.hours.all[hour].key])


@pytest.fixture
def place() -> Place:
    return Place()


def test_complete_hour_has_the_values_of_the_feeds(place):
    output = place.run(NOW)
    assert output == {
        "hour": hours.text(NOW),
        "status": "complete",
        "version": 1,
        "changed": True,
        "flags": {},
        "key": "datasets/date=2022-01-31/hour=12/v1.json",
        "age": 0,
    }
    dataset = place.dataset(NOW)
    assert dataset["values"]["HB_NORTH"] == {
        "price": PAST.series["price:HB_NORTH"][NOW],
        "real_time": None,
        "load": PAST.series["load"][NOW],
        "temperature": PAST.series["temperature"][NOW],
    }
    assert min(dataset["forward"]["load"]) == hours.text(NOW + 1)
    text, version = place.history.cells["HB_NORTH", NOW]
    assert (unpacked(text), version) == (dataset["values"]["HB_NORTH"], 1)


def test_dataset_is_also_a_parquet_file(place):
    place.run(NOW)
    body = place.objects.all["hours/date=2022-01-31/hour=12/v1.parquet"]
    rows = pyarrow.parquet.read_table(io.BytesIO(body)).to_pylist()
    assert [row["location"] for row in rows] == list(HUBS)
    assert rows[1]["price"] == PAST.series["price:HB_NORTH"][NOW]
    assert rows[1]["real_time"] != rows[1]["real_time"]  # NaN


def test_same_input_again_changes_nothing(place):
    feeds = place.answers(NOW)
    first = place.run(NOW, feeds)
    before = place.state()
    assert place.run(NOW, feeds) == first
    assert place.state() == before


def test_feeds_in_any_order_give_the_same_bytes():
    outcomes = []
    for number in range(4):
        place = Place()
        feeds = place.answers(NOW)
        place.run(NOW, feeds[number:] + feeds[:number])
        outcomes.append(place.state())
    assert all(outcome == outcomes[0] for outcome in outcomes)


def test_same_input_changes_nothing_after_a_late_earlier_hour(place):
    feeds = place.answers(NOW, without=["load"])
    first = place.run(NOW, feeds)
    place.run(NOW - 1)
    assert place.run(NOW, feeds) == first


@pytest.mark.parametrize(
    ("feed", "flags"),
    [
        ("load", {"load": "earlier forecast"}),
        ("weather", {"temperature": "earlier forecast"}),
        ("market_prices", {f"price:{hub}": "earlier forecast" for hub in HUBS}),
    ],
)
def test_missing_feed_is_taken_from_the_earlier_dataset(place, feed, flags):
    place.run(NOW - 1)
    output = place.run(NOW, without=[feed])
    assert (output["status"], output["flags"]) == ("interpolated", flags)
    assert place.dataset(NOW)["values"]["HB_WEST"]["load"] == PAST.series["load"][NOW]


def test_feed_missing_for_hours_is_taken_from_its_newest_dataset(place):
    place.run(NOW - 6)
    outputs = [place.run(hour, without=["load"]) for hour in range(NOW - 5, NOW + 1)]
    assert outputs[-1]["flags"] == {"load": "earlier forecast"}
    assert place.dataset(NOW)["made"]["load"] == hours.text(NOW - 6)
    assert place.dataset(NOW)["made"]["temperature"] == hours.text(NOW)


def test_missing_value_is_interpolated_between_its_neighbours(place):
    output = place.run(NOW, gaps=[("load", NOW)])
    load = PAST.series["load"]
    assert output["flags"] == {"load": "interpolated"}
    assert place.dataset(NOW)["values"]["HB_NORTH"]["load"] == pytest.approx(
        (load[NOW - 1] + load[NOW + 1]) / 2
    )


def test_first_hour_without_a_price_is_reported_as_incomplete(place):
    output = place.run(NOW, without=["market_prices"])
    assert output["status"] == "incomplete"
    assert output["flags"] == {f"price:{hub}": "missing" for hub in HUBS}


def test_other_columns_may_be_missing(place):
    output = place.run(NOW, without=["load", "weather"])
    assert output["status"] == "interpolated"
    assert output["flags"] == {"load": "missing", "temperature": "missing"}


def test_value_is_carried_for_three_hours_at_most(place):
    far = [("load", hour) for hour in range(NOW - 30, NOW + 60)]
    place.run(NOW, gaps=far, changed={"load": {NOW: 40_000.0}})
    flags = [place.run(hour, gaps=far)["flags"]["load"] for hour in range(NOW + 1, NOW + 6)]
    assert flags == ["carried"] * 3 + ["missing"] * 2


def test_real_time_price_makes_a_version_of_the_previous_hour(place):
    place.run(NOW)
    place.run(NOW + 1)
    row = place.hours.all[NOW]
    assert row.version == 2
    assert row.changes == [f"real_time:{hub}" for hub in HUBS]
    text, version = place.history.cells["HB_NORTH", NOW]
    assert (unpacked(text)["real_time"], version) == (PAST.series["real_time:HB_NORTH"][NOW], 2)


def test_corrected_price_makes_a_version_and_keeps_the_old_one(place):
    for hour in range(NOW, NOW + 4):
        place.run(hour)
    old = place.objects.all["datasets/date=2022-01-31/hour=12/v2.json"]
    # when
    output = place.run(NOW + 4, changed={"price:HB_NORTH": {NOW: 99.5}})
    # then
    row = place.hours.all[NOW]
    assert (row.version, row.values["HB_NORTH"]["price"]) == (3, 99.5)
    assert row.changes == ["price:HB_NORTH"]
    assert place.objects.all["datasets/date=2022-01-31/hour=12/v2.json"] == old
    assert unpacked(place.history.cells["HB_NORTH", NOW][0])["price"] == 99.5
    assert place.history.cells["HB_NORTH", NOW][1] == 3
    assert (output["hour"], output["version"]) == (hours.text(NOW + 4), 1)


def test_incomplete_hour_is_completed_by_a_later_run(place):
    place.run(NOW, without=["market_prices"])
    place.run(NOW + 1)
    row = place.hours.all[NOW]
    assert (row.status, row.version, row.flags) == ("complete", 2, {})


def test_weather_of_earlier_hours_makes_no_versions(place):
    place.run(NOW)
    place.run(NOW + 1, changed={"temperature": {NOW: 3.0}, "load": {NOW: 1.0}})
    assert place.hours.all[NOW].values["HB_NORTH"]["load"] == PAST.series["load"][NOW]
    assert place.hours.all[NOW].changes == [f"real_time:{hub}" for hub in HUBS]


def test_late_repeat_of_an_earlier_run_undoes_no_correction(place):
    feeds = {hour: place.answers(hour) for hour in range(NOW, NOW + 3)}
    for hour in range(NOW, NOW + 3):
        place.run(hour, feeds[hour])
    place.run(NOW + 3, changed={"price:HB_NORTH": {NOW: 99.5, NOW + 1: 98.5}})
    before = place.state()
    # when
    for hour in range(NOW, NOW + 3):
        place.run(hour, feeds[hour])
    # then
    assert place.state() == before


def test_hour_run_again_with_a_repaired_feed_makes_a_version(place):
    place.run(NOW, without=["load"])
    output = place.run(NOW)
    assert (output["version"], output["status"], output["changed"]) == (2, "complete", True)


def test_file_that_is_not_the_feeds_own_is_refused(place):
    feeds = place.answers(NOW)
    place.objects.all[feeds[0]["key"]] += b" "
    with pytest.raises(ValueError, match="is not the file that the feed market_prices wrote"):
        place.run(NOW, feeds)


# The frozen forecast


def test_forecast_is_frozen_by_the_last_run_before_the_deadline(place):
    day = hours.hours_of("2022-02-01", TEXAS)
    deadline = hours.parse("2022-01-31T16:00Z")
    for run in range(deadline - 2, deadline + 3):
        place.run(run, changed={"price_forecast:HB_NORTH": dict.fromkeys(day, float(run))})
    assert [place.history.frozen["HB_NORTH", hour] for hour in day] == [(deadline - 1, deadline - 1)] * 24
    assert max(hour for _, hour in place.history.frozen) == day[-1]


def test_forecast_published_after_the_deadline_is_never_frozen(place):
    place.run(NOW, published=hours.day_ahead_deadline("2022-02-01", TEXAS) + 0.1)
    assert place.history.frozen == {}


@pytest.mark.parametrize(("day", "count"), [("2022-03-13", 23), ("2022-11-06", 25)])
def test_forecast_has_all_hours_of_a_daylight_saving_day(place, day, count, monkeypatch):
    run = int(hours.day_ahead_deadline(day, TEXAS)) - 1
    monkeypatch.setitem(globals(), "PAST", history(run - 40, 6))
    place.run(run)
    assert len([hour for hub, hour in place.history.frozen if hub == "HB_NORTH"]) == count


# Kills


@pytest.mark.parametrize("after", [False, True])
def test_run_killed_anywhere_and_repeated_gives_the_same(after):
    # given: a run that makes a dataset, corrects an hour and makes a forecast final
    def prepared() -> tuple[Place, list]:
        place = Place()
        place.run(NOW - 2)
        place.run(NOW - 1, without=["load"])
        feeds = place.answers(NOW, changed={"price:HB_NORTH": {NOW - 2: 77.0}})
        place.kills.writes = 0
        return place, feeds

    place, feeds = prepared()
    output = place.run(NOW, feeds)
    wanted, writes = place.state(), place.kills.writes
    assert writes > 10
    # when: for each write of the run, the run and its repetition are killed at that write
    for at in range(1, writes + 1):
        place, feeds = prepared()
        for _ in range(2):
            place.kills.at, place.kills.after, place.kills.writes = at, after, 0
            # the second run may have fewer writes than the number at which it would be killed
            with contextlib.suppress(KilledError):
                place.run(NOW, feeds)
        place.kills.at = -1
        # then
        assert place.run(NOW, feeds) == output
        assert place.state() == wanted


def test_version_of_a_killed_run_with_other_input_is_kept(place):
    first = place.answers(NOW, without=["load"])
    place.kills.at, place.kills.after, place.kills.writes = 1, True, 0
    with pytest.raises(KilledError):
        place.run(NOW, first)
    place.kills.at = -1
    # when
    output = place.run(NOW)
    # then: the object that the killed run wrote remains as version 1
    assert output["version"] == 2
    assert decoded(place.objects.all["datasets/date=2022-01-31/hour=12/v1.json"])["flags"] == {
        "load": "missing"
    }
