"""The local server that replays a history of feeds: publication times, access control, start, shutdown."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import urllib3

from local.feeds import faults, times
from local.feeds import history as histories
from local.feeds.clock import ReplayClock
from power_feeds import hours
from tests.support.power_bidding.feeds import ASSET, TEXAS, history, replay

ROOT = Path(__file__).resolve().parents[3]
NOW = "2022-01-31T18:00Z"


def ask(server, method: str, path: str, body=None, key: str | None = None, **headers: str):
    """Return the status and the JSON of a response. The default of `key` is the market's key."""
    named = {"x-api-key": server.keys.market if key is None else key}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    answer = urllib3.request(method, server.url + path, headers=named, json=body, timeout=10)
    return answer.status, answer.json()


@pytest.fixture
def server():
    with replay(NOW) as made:
        yield made


def published(server, name: str, now: str) -> int:
    """Return the last hour whose value in the series `name` is published at `now`."""
    at = times.parse(now)
    return max(hour for hour, _ in server.world.series(name, at - 48, at + 96, at))


@pytest.mark.parametrize(
    ("name", "now", "last"),
    [
        ("price:HB_NORTH", "2022-01-31T18:00Z", "2022-02-01T05:00Z"),
        ("price:HB_NORTH", "2022-01-31T19:00Z", "2022-02-02T05:00Z"),
        ("real_time:HB_NORTH", "2022-01-31T18:00Z", "2022-01-31T17:00Z"),
        ("load", "2022-02-01T03:00Z", "2022-02-02T05:00Z"),
        ("load", "2022-02-01T04:00Z", "2022-02-03T05:00Z"),
    ],
    ids=["prices at 12:00", "prices at 13:00", "real time", "load at 21:00", "load at 22:00"],
)
def test_values_are_published_at_their_time_and_not_before(server, name, now, last):
    assert hours.text(published(server, name, now)) == last


def test_future_of_the_history_changes_nothing_that_is_published():
    # given: two histories that differ only in values that are published later
    now, known = hours.parse(NOW), hours.parse("2022-02-01T06:00Z")
    one, other = history(now - 14 * 24, 21), history(now - 14 * 24, 21)
    for name, values in other.series.items():
        if name.startswith("price"):
            values.update({hour: -1.0 for hour in values if hour >= known})
        if name == "temperature":
            values.update({hour: -1.0 for hour in values if hour > now})
    # then
    seen = []
    for past in (one, other):
        with replay(NOW, past=past) as server:
            names = [*past.series, "price_forecast:HB_NORTH"]
            seen.append(
                {n: list(server.world.series(n, now - 48, now + 49, now)) for n in names if n != "load"}
            )
    assert seen[0] == seen[1]


def test_external_forecast_does_not_change_after_the_deadline(server):
    day = hours.hours_of("2022-02-02", TEXAS)
    at = {}
    for now in ("2022-02-01T14:00Z", "2022-02-01T16:00Z", "2022-02-01T22:00Z", "2022-02-03T00:00Z"):
        found = server.world.series("price_forecast:HB_NORTH", day[0], day[-1] + 1, times.parse(now))
        at[now] = dict(found)
        assert len(at[now]) == 24
    later = list(at.values())
    assert later[1] == later[2] == later[3]


def test_metered_load_is_published_as_last_weeks():
    now = times.parse(NOW)
    with replay(NOW, metered_load=True) as server:
        found = dict(server.world.series("load", now, now + 5, now))
        assert found == {
            hour: server.world.history.series["load"][hour - 168] for hour in range(now, now + 5)
        }


def test_correction_shows_from_its_time_on(server):
    given = {"feed": "market_prices", "kind": "corrected", "series": "price:HB_NORTH", "value": 99.5}
    server.world.faults.all.append(faults.parse({**given, "hour": NOW, "from": "2022-01-31T20:00Z"}))
    hour = times.parse(NOW)
    seen = [dict(server.world.series("price:HB_NORTH", hour, hour + 1, hour + n))[hour] for n in range(4)]
    assert seen[:2] == [server.world.history.series["price:HB_NORTH"][hour]] * 2
    assert seen[2:] == [99.5] * 2


@pytest.mark.parametrize("header", ["Origin", "Sec_Fetch_Site"])
def test_web_pages_are_refused(server, header):
    assert ask(server, "GET", "/results", **{header: "https://example.com"})[0] == 403


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/results"), ("POST", "/offers"), ("GET", "/telemetry"), ("POST", "/clock"), ("POST", "/keys")],
)
def test_request_without_its_key_is_refused(server, method, path):
    assert ask(server, method, path, {} if method == "POST" else None, key="other")[0] == 401


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nothing", 404),
        ("/api/public-reports/np0", 401),
        ("/v1/forecast", 401),
        ("/forecasts", 401),
        ("/telemetry?asset=battery", 400),
        ("/telemetry?asset=other&hour=2022-01-31T20:00Z", 404),
        ("/telemetry?asset=battery&hour=noon", 400),
    ],
)
def test_bad_request_gets_its_status(server, path, status):
    assert ask(server, "GET", path)[0] == status


def test_server_listens_on_loopback_only(server):
    assert server._http.server_address[0] == "127.0.0.1"


def test_offer_and_results_over_http(server):
    hour = hours.text(hours.parse(NOW) + 2)
    given = {"asset": ASSET.name, "market": "RT", "hour": hour, "segments": [[-8, -150]], "id": "a"}
    assert ask(server, "POST", "/offers", given) == (200, {"accepted": True})
    assert ask(server, "POST", "/clock", {"step": 3}, server.control_key)[1]["hour"] == "2022-01-31T21:00Z"
    results = ask(server, "GET", "/results")[1]
    assert [row["mw"] for row in results["settled"]] == [0, 0, -8]
    late = {**given, "hour": "2022-01-31T22:00Z"}
    assert ask(server, "POST", "/offers", late)[0] == 422
    assert ask(server, "GET", f"/telemetry?asset={ASSET.name}&hour={hour}")[0] == 200


@pytest.mark.parametrize(
    ("path", "body", "text"),
    [
        ("/clock", {"hour": "2022-01-31T17:00Z"}, "cannot go back"),
        ("/clock", {"rate": 0}, "rate must be above 0"),
        ("/clock", {"step": "far"}, "must be numbers"),
        ("/faults", {"feed": "news", "kind": "down"}, "feed must be one of"),
        ("/faults", {"feed": "load", "kind": "odd"}, "kind must be one of"),
        ("/faults", {"feed": "load", "kind": "corrected", "from": NOW}, "must have series"),
    ],
)
def test_invalid_control_call_is_refused_with_the_reason(server, path, body, text):
    status, answer = ask(server, "POST", path, body, server.control_key)
    assert status == 400
    assert text in answer["error"]


def test_keys_are_rotated_by_a_control_call(server):
    before = server.secret()
    status, after = ask(server, "POST", "/keys", {}, server.control_key)
    assert (status, after) == (200, server.secret())
    assert after["market"]["key"] != before["market"]["key"]


def test_clock_runs_at_its_rate_and_can_be_paused():
    real = [100.0]
    clock = ReplayClock(50.0, 360, real=lambda: real[0])
    real[0] += 10
    assert clock.now() == pytest.approx(51)
    clock.set(paused=True)
    real[0] += 10
    assert clock.now() == pytest.approx(51)
    clock.set(step=2, rate=3_600, paused=False)
    real[0] += 1
    assert clock.now() == pytest.approx(54)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("hour_utc,load\n", "columns must be"),
        ("hour_utc,price:A,wind\n", "got wind"),
        ("hour_utc,price:A\n2022-01-31T05:30Z,1\n", "line 2: an hour must look like"),
        ("hour_utc,price:A\n2022-01-31T05:00Z,much\n", "line 2: could not convert"),
        ("hour_utc,price:A\n2022-01-31T05:00Z,nan\n", "line 2: a value must be finite"),
        ("hour_utc,price:A\n", "has no hours"),
    ],
)
def test_invalid_history_is_refused_with_the_reason(tmp_path, text, problem):
    path = tmp_path / "history.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=problem):
        histories.read(path)


def test_program_serves_a_csv_and_ends_on_sigterm(tmp_path):
    # given
    path = tmp_path / "history.csv"
    path.write_text("hour_utc,price:A,load\n2022-01-31T18:00Z,31.2,\n2022-01-31T19:00Z,32.5,40000\n")
    assets = tmp_path / "assets.json"
    assets.write_text(json.dumps([{"name": "battery", "location": "A", "power": 8, "energy": 32}]))
    options = ["--history", str(path), "--zone", TEXAS, "--start", NOW, "--assets", str(assets), "--paused"]
    program = subprocess.Popen(
        [sys.executable, "-m", "local.feeds", *options], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        # when
        assert program.stdout
        ready = json.loads(program.stdout.readline())
        answer = urllib3.request("GET", f"{ready['url']}/clock", headers={"x-api-key": ready["control"]})
        # then
        assert answer.json()["hour"] == NOW
        assert answer.headers["Date"] == "Mon, 31 Jan 2022 18:00:00 GMT"
        assert sorted(ready["secret"]) == ["load", "market", "price_forecast", "prices", "weather"]
    finally:
        program.send_signal(signal.SIGTERM)
        assert program.wait(10) == 0


def test_ended_fault_no_longer_changes_answers(server):
    # given
    for feed, kind in (("weather", "unauthorized"), ("weather", "late"), ("load", "down")):
        given = {"feed": feed, "kind": kind, "from": NOW, "to": "2022-02-02T00:00Z"}
        assert ask(server, "POST", "/faults", given, server.control_key)[0] == 200
    hours_asked = "start_hour=2022-01-31T17:00&end_hour=2022-01-31T19:00"
    weather = f"/v1/forecast?{hours_asked}&apikey={server.keys.weather}"
    assert ask(server, "GET", weather)[0] == 401
    # when
    ask(server, "DELETE", "/faults?feed=weather&kind=unauthorized", key=server.control_key)
    # then
    status, answer = ask(server, "GET", weather)
    assert (status, answer["hourly"]["time"]) == (200, ["2022-01-31T17:00"])
    assert [(fault.feed, fault.kind) for fault in server.world.faults.all] == [
        ("weather", "late"),
        ("load", "down"),
    ]
    struck = ask(server, "GET", "/faults", key=server.control_key)[1]
    assert struck == {"weather": {"unauthorized": 1, "late": 2}}
    ask(server, "DELETE", "/faults", key=server.control_key)
    assert server.world.faults.all == []
