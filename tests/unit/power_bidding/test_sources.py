"""The clients of the feeds' sources, with a local server that replays a history, and unusual responses."""

import io
import json
import random
import zipfile
from collections.abc import Mapping, Sequence

import pytest
import urllib3

from power_feeds import hours
from power_feeds.errors import FeedDownError, FeedMalformedError, FeedRefusedError
from power_feeds.http import Answer, Client, with_query
from power_feeds.sources import ercot, forecast, weather
from power_feeds.sources.caiso import Caiso
from power_feeds.sources.ercot import Ercot
from tests.support.power_bidding.feeds import HUBS, TEXAS, replay

NOW = "2022-01-31T18:00Z"


class Scripted(Client):
    """A client that returns the given responses in turn, and records the requests."""

    def __init__(self, bodies: Sequence[bytes], clock: float = 0):
        super().__init__()
        self.bodies, self.clock, self.asked = list(bodies), clock, []

    def get(self, url, query, headers) -> Answer:
        self.asked.append({**query})
        return Answer(self.bodies.pop(0), self.clock)


def caiso(server) -> Caiso:
    return Caiso(Client(), server.secret()["prices"]["url"])


def ercot_of(server, client: Client | None = None) -> Ercot:
    part = server.secret()["prices"]
    fields = ("url", "token_url", "subscription_key", "username", "password")
    return Ercot(client or Client(), *(part[field] for field in fields), zone=TEXAS)


def offline(*bodies: bytes) -> Ercot:
    return Ercot(Scripted(bodies), "https://x", "https://y", "key", "user", "password", TEXAS, token="known")


def report(fields: Sequence[str], data: Sequence[Sequence[object]], pages: int = 1) -> bytes:
    names = [{"name": name} for name in fields]
    return json.dumps({"_meta": {"totalPages": pages}, "fields": names, "data": data}).encode()


DAM = ("deliveryDate", "hourEnding", "settlementPoint", "settlementPointPrice", "DSTFlag")


def day_ahead(rows: Sequence[tuple[str, str, float | None, bool]], day: str) -> dict[int, float | None]:
    """Return the prices that the client reads from rows of (date, hour ending, price, flag)."""
    data = [[date, ending, "HB_NORTH", price, flag] for date, ending, price, flag in rows]
    there = hours.hours_of(day, TEXAS)
    empty = report(sorted(ercot.COLUMNS[ercot.REAL_TIME]), [])
    found = offline(report(DAM, data), empty).prices(["HB_NORTH"], there[0], there[-1] + 1, there[0] + 1)
    return found.series.get("price:HB_NORTH", {})


@pytest.mark.parametrize(("shape", "client"), [("ercot", ercot_of), ("caiso", caiso)])
def test_market_client_reads_published_prices(shape, client):
    now = hours.parse(NOW)
    with replay(NOW, shape) as server:
        # when
        prices = client(server).prices(HUBS, now - 24, now + 48, now)
        load = client(server).load(now - 24, now + 48, now)
    # then: the client returns the history's values up to the end of the published day
    past, zone = server.world.history.series, server.world.zone.key
    end = hours.hours_of(hours.market_day(now, zone), zone)[-1] + 1
    for hub in HUBS:
        assert prices.series[f"price:{hub}"] == {h: past[f"price:{hub}"][h] for h in range(now - 24, end)}
        real_time = {h: past[f"real_time:{hub}"][h] for h in range(now - 24, now)}
        assert prices.series[f"real_time:{hub}"] == pytest.approx(real_time, abs=1e-9)
    known = hours.hours_of(hours.shifted(hours.market_day(now, zone), 1), zone)[-1] + 1
    assert load.series["load"] == {h: past["load"][h] for h in range(now - 24, known)}


def test_ercot_client_reads_every_page(monkeypatch):
    now = hours.parse(NOW)
    with replay(NOW) as server:
        whole = ercot_of(server).prices(HUBS, now - 24, now + 48, now)
        # when
        monkeypatch.setattr(ercot, "PAGE_SIZE", 7)
        paged = ercot_of(server).prices(HUBS, now - 24, now + 48, now)
    assert paged.series == whole.series
    assert len(paged.raw) > 3 * len(whole.raw)


def test_ercot_client_asks_for_one_token():
    now, forms = hours.parse(NOW), []
    with replay(NOW) as server:
        client = Client()
        post = client.post_form
        client.post_form = lambda url, form: forms.append(form) or post(url, form)  # type: ignore[method-assign]
        ercot_of(server, client).prices(HUBS, now - 24, now + 48, now)
    assert [form["grant_type"] for form in forms] == ["password"]


AUTUMN, SPRING = "2022-11-06", "2022-03-13"
ONCE = [(AUTUMN, f"{ending:02d}:00", float(ending), False) for ending in range(1, 25)]
FLAGGED = [*ONCE, (AUTUMN, "02:00", 2.5, True)]
STARRED = [*ONCE, (AUTUMN, "02*:00", 2.5, False)]
COUNTED = [
    (AUTUMN, f"{n:02d}:00", [1.0, 2.0, 2.5, *map(float, range(3, 25))][n - 1], False) for n in range(1, 26)
]


@pytest.mark.parametrize("rows", [FLAGGED, STARRED, COUNTED], ids=["flag", "star", "25th hour"])
def test_ercot_day_of_25_hours_is_right_in_every_form(rows):
    found = day_ahead(random.Random(3).sample(rows, len(rows)), AUTUMN)
    assert sorted(found) == list(hours.hours_of(AUTUMN, TEXAS))
    assert [found[hour] for hour in sorted(found)] == [1.0, 2.0, 2.5, *map(float, range(3, 25))]


SKIPPED = [(SPRING, f"{n:02d}:00", None if n == 3 else float(n), False) for n in range(1, 25)]
SHORT = [row for row in SKIPPED if row[2] is not None]
SHORT_COUNTED = [
    (SPRING, f"{n:02d}:00", [1.0, 2.0, *map(float, range(4, 25))][n - 1], False) for n in range(1, 24)
]


@pytest.mark.parametrize("rows", [SKIPPED, SHORT, SHORT_COUNTED], ids=["null", "left out", "23 hours"])
def test_ercot_day_of_23_hours_is_right_in_every_form(rows):
    found = day_ahead(rows, SPRING)
    assert sorted(found) == list(hours.hours_of(SPRING, TEXAS))
    assert [found[hour] for hour in sorted(found)] == [1.0, 2.0, *map(float, range(4, 25))]


def test_ercot_null_of_the_repeated_hour_is_missing():
    found = day_ahead([*ONCE, (AUTUMN, "02:00", None, True)], AUTUMN)
    assert found[hours.parse("2022-11-06T07:00Z")] is None
    assert found[hours.parse("2022-11-06T06:00Z")] == 2.0


@pytest.mark.parametrize("day", [AUTUMN, SPRING])
@pytest.mark.parametrize(("shape", "client"), [("ercot", ercot_of), ("caiso", caiso)])
def test_whole_chain_is_right_on_daylight_saving_days(shape, client, day):
    now = hours.parse(f"{day}T22:00Z")
    with replay(hours.text(now), shape) as server:
        found = client(server).prices(HUBS, now - 24, now + 10, now)
    past = server.world.history.series
    values = found.series["price:HB_NORTH"]
    assert values == {hour: past["price:HB_NORTH"][hour] for hour in values}
    zone = server.world.zone.key
    assert set(hours.hours_of(day, zone)) & set(range(now - 24, now + 10)) <= set(values)


def test_shuffled_and_doubled_rows_give_the_same_series():
    rows = [("2022-01-31", f"{n:02d}:00", float(n), False) for n in range(1, 25)]
    plain = day_ahead(rows, "2022-01-31")
    for seed in range(20):
        assert day_ahead(random.Random(seed).sample(rows * 2, 48), "2022-01-31") == plain


def test_rows_that_disagree_are_refused():
    rows = [("2022-01-31", "05:00", 1.0, False), ("2022-01-31", "05:00", 2.0, False)]
    with pytest.raises(FeedMalformedError, match="duplicates: price:HB_NORTH"):
        day_ahead(rows, "2022-01-31")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"fields": []}',
        report(("deliveryDate",), [["2022-01-31"]]),
        report(DAM, [["2022-01-31", "05:00"]]),
        report(DAM, [["2022-01-31", "five", "HB_NORTH", 1.0, False]]),
        report(DAM, [["yesterday", "05:00", "HB_NORTH", 1.0, False]]),
        report(DAM, [["2022-01-31", "26:00", "HB_NORTH", 1.0, False]]),
        report(DAM, [["2022-01-31", "05:00", "HB_NORTH", "much", False]]),
        report(DAM, [["2022-01-31", "05:00", "HB_NORTH", float("nan"), False]]),
    ],
)
def test_ercot_client_refuses_an_invalid_response(body):
    now = hours.parse(NOW)
    with pytest.raises(FeedMalformedError):
        offline(body).prices(["HB_NORTH"], now - 24, now + 1, now)


def archive(name: str, content: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr(name, content)
    return out.getvalue()


ERROR = "<r><ERR_CODE>{}</ERR_CODE><ERR_DESC>{}</ERR_DESC></r>"
BOMB = archive("a.csv", "0" * (65 * 2**20))
DAMAGED = bytearray(archive("a.csv", "INTERVALSTARTTIME_GMT,MW\n" * 50))
DAMAGED[45] ^= 0xFF


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"not a zip", FeedMalformedError),
        (bytes(DAMAGED), FeedMalformedError),
        (BOMB, FeedMalformedError),
        (archive("a.xml", ERROR.format(1005, "Report name does not exist")), FeedMalformedError),
        (archive("a.xml", "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>"), FeedMalformedError),
        (archive("a.xml", "<a>"), FeedMalformedError),
        (archive("a.xml", ERROR.format(1003, "Timed out waiting for query response")), FeedDownError),
        (archive("a.csv", "A,B\n1,2\n"), FeedMalformedError),
        (archive("a.csv", "INTERVALSTARTTIME_GMT,LMP_TYPE,NODE,MW\n2019-02-19T08"), FeedMalformedError),
        (archive("a.csv", "INTERVALSTARTTIME_GMT,LMP_TYPE,NODE,MW\nnever,LMP,A,1\n"), FeedMalformedError),
    ],
)
def test_caiso_client_refuses_an_invalid_response(body, kind):
    with pytest.raises(kind):
        Caiso(Scripted([body]), "https://x").prices(["A"], 0, 24, 0)


def test_caiso_returns_the_earliest_available_hour():
    body = archive("a.xml", ERROR.format(1000, "No data returned for the specified selection"))
    now = hours.parse(NOW)
    found = Caiso(Scripted([body, body], clock=now), "https://x").prices(["A"], 0, 24, 12)
    assert found.series == {}
    assert found.kept_from == pytest.approx(now - 39 * 730.5, abs=1)


def test_caiso_is_asked_in_gmt_and_in_its_own_form():
    client = Scripted([archive("a.xml", ERROR.format(1000, ""))])
    Caiso(client, "https://x").load(hours.parse("2019-02-19T08:00Z"), hours.parse("2019-02-22T08:00Z"), 0)
    assert client.asked == [
        {
            "resultformat": "6",
            "queryname": "SLD_FCST",
            "version": "1",
            "market_run_id": "2DA",
            "startdatetime": "20190219T08:00-0000",
            "enddatetime": "20190222T08:00-0000",
        }
    ]


def test_weather_before_the_retention_is_unavailable():
    now = hours.parse(NOW)
    with replay(NOW) as server:
        url, key = f"{server.url}/v1/forecast", server.keys.weather
        found = weather.fetch(Client(), url, key, now - 93 * 24, now - 92 * 24)
    assert found.series == {}
    assert found.kept_from == now - 92 * 24


def weather_of(values: Sequence[object], unit: str) -> bytes:
    hourly = {"time": ["1970-01-01T05:00"], "temperature_2m": values}
    return json.dumps({"hourly": hourly, "hourly_units": {"temperature_2m": unit}}).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        weather_of([], "°C"),
        weather_of([40.0], "°F"),
        weather_of(["warm"], "°C"),
    ],
)
def test_weather_client_refuses_an_invalid_response(body):
    with pytest.raises(FeedMalformedError):
        weather.fetch(Scripted([body]), "https://x", "key", 0, 24)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"published": "2022-01-31T14:00:00", "unit": "USD/MWh", "forecasts": {}},
        {"published": "2022-01-31T14:00:00Z", "unit": "EUR/MWh", "forecasts": {}},
        {"published": "2022-01-31T14:00:00Z", "unit": "USD/MWh", "forecasts": {"A": {"noon": 1}}},
        {
            "published": "2022-01-31T14:00:00Z",
            "unit": "USD/MWh",
            "forecasts": {"A": {"1970-01-01T05:00Z": True}},
        },
    ],
)
def test_forecast_client_refuses_an_invalid_response(document):
    with pytest.raises(FeedMalformedError):
        forecast.fetch(Scripted([json.dumps(document).encode()]), "https://x", "key", ["A"], 0, 24)


# HTTP


class Pool(urllib3.PoolManager):
    """A connection pool that returns the given responses, or raises the given exceptions, in turn."""

    def __init__(self, *answers: urllib3.HTTPResponse | Exception):
        super().__init__()
        self.answers = list(answers)

    def urlopen(self, method, url, redirect=True, **options):
        found = self.answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found


def response(
    status: int, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> urllib3.HTTPResponse:
    return urllib3.HTTPResponse(io.BytesIO(body), status=status, headers=headers, preload_content=False)


def client_of(*answers: urllib3.HTTPResponse | Exception) -> tuple[Client, list[float]]:
    waits: list[float] = []
    return Client(("s3cret",), sleep=waits.append, pool=Pool(*answers), most_bytes=100), waits


def test_client_retries_after_the_requested_wait():
    client, waits = client_of(
        response(429, headers={"Retry-After": "4"}),
        response(503, headers={"Retry-After": "900"}),
        response(200, b"ok"),
    )
    assert client.get("https://x/y", {}, {}).body == b"ok"
    assert waits == [4, 10]


def test_client_waits_longer_when_throttled():
    client, waits = client_of(response(429), response(502), response(200, b"ok"))
    assert client.get("https://x/y", {}, {}).body == b"ok"
    assert waits == [6, 2]


def test_client_gives_up_after_its_tries():
    client, waits = client_of(*(response(502) for _ in range(3)))
    with pytest.raises(FeedDownError, match=r"x/y answered 502, 3 times"):
        client.get("https://x/y", {}, {})
    assert waits == [1, 2]


def test_client_reads_a_date_as_retry_after():
    then = {"Date": "Mon, 31 Jan 2022 18:00:00 GMT", "Retry-After": "Mon, 31 Jan 2022 18:00:03 GMT"}
    client, waits = client_of(response(503, headers=then), response(200))
    client.get("https://x", {}, {})
    assert waits == [pytest.approx(3, abs=0.01)]


@pytest.mark.parametrize("status", [401, 403])
def test_client_does_not_repeat_refused_credentials(status):
    client, waits = client_of(response(status))
    with pytest.raises(FeedRefusedError):
        client.get("https://x", {}, {})
    assert waits == []


@pytest.mark.parametrize("status", [301, 400, 404])
def test_client_does_not_follow_redirects_or_repeat_bad_requests(status):
    client, _ = client_of(response(status, headers={"Location": "https://elsewhere"}))
    with pytest.raises(FeedMalformedError, match=f"answered {status}"):
        client.get("https://x", {}, {})


def test_client_refuses_a_body_above_the_limit():
    client, _ = client_of(response(200, b"x" * 101))
    with pytest.raises(FeedMalformedError, match="more than 100 bytes"):
        client.get("https://x", {}, {})


@pytest.mark.parametrize(
    "answer",
    [
        response(401),
        response(404),
        response(200, b"x" * 101),
        urllib3.exceptions.ProtocolError("https://x/s3cret?apikey=s3cret"),
        urllib3.exceptions.LocationParseError("s3cret"),
    ],
)
def test_no_error_shows_a_secret(answer):
    client, _ = client_of(*[answer] * 3)
    with pytest.raises((FeedDownError, FeedRefusedError, FeedMalformedError)) as caught:
        client.get("https://x/s3cret", {"apikey": "s3cret"}, {})
    assert "s3cret" not in str(caught.value)


def test_query_is_added_to_the_one_that_an_address_has():
    assert with_query("https://x/y?a=1", {"b": "2 3"}) == "https://x/y?a=1&b=2+3"
