"""The feed functions as Chalice calls them, with a local server that replays a history."""

import json

import pytest
from chalice.test import Client as ChaliceClient

from local.feeds import faults
from power_bidding.feeds import app as feeds
from power_feeds import fetch as layer
from power_feeds import files, hours
from power_feeds.errors import FeedDownError, FeedMalformedError, FeedRefusedError
from power_feeds.http import Client
from tests.support.power_bidding.feeds import CALIFORNIA, HUBS, TEXAS, MemoryObjects, replay, settings

NOW = "2022-01-31T18:00Z"
SHAPES = {"ercot": TEXAS, "caiso": CALIFORNIA}
CORRUPT = {
    ("market_prices", "corrupt_hubs"): "hubs_equal",
    ("market_prices", "corrupt_units"): "units_off_by_twelve",
    ("market_prices", "corrupt_flat"): "flat",
    ("load", "corrupt_units"): "units_off_by_twelve",
    ("load", "corrupt_flat"): "flat",
    ("weather", "corrupt_flat"): "flat",
}


def fetched(server, feed: str, store: MemoryObjects, at: str = NOW) -> layer.FeedResult:
    zone = server.world.zone.key
    client = Client(sleep=lambda seconds: None)
    return layer.fetch(feed, hours.parse(at), settings(zone), server.secret(), store, client)


def put(server, **given) -> None:
    server.world.faults.all.append(faults.parse({"from": NOW, **given}))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("feed", layer.FEEDS)
def test_feed_is_ready_and_writes_raw_and_normalized_files(feed, shape):
    store = MemoryObjects()
    with replay(NOW, shape) as server:
        # when
        result = fetched(server, feed, store)
        again = fetched(server, feed, store)
    # then
    assert result == again
    assert result["status"] == "ready"
    normalized = files.decoded(store.all[result["key"]])
    assert (normalized.feed, normalized.hour) == (feed, hours.parse(NOW))
    assert files.digest(store.all[result["key"]]) == result["digest"]
    assert result["key"].startswith(f"feeds/{feed}/date=2022-01-31/hour=18/")
    assert store.list(f"raw/{feed}/date=2022-01-31/hour=18/")
    assert result["rows"] == sum(map(len, normalized.series.values()))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("feed", layer.FEEDS)
def test_duplicated_rows_change_nothing(feed, shape):
    store, other = MemoryObjects(), MemoryObjects()
    with replay(NOW, shape) as server:
        plain = fetched(server, feed, store)
        put(server, feed=feed, kind="duplicated")
        doubled = fetched(server, feed, other)
    assert doubled == plain
    assert other.all[plain["key"]] == store.all[plain["key"]]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("feed", layer.FEEDS)
@pytest.mark.parametrize(
    ("kind", "error"),
    [("down", FeedDownError), ("malformed", FeedMalformedError), ("unauthorized", FeedRefusedError)],
)
def test_broken_feed_raises_the_error_of_its_fault(feed, shape, kind, error):
    with replay(NOW, shape) as server:
        put(server, feed=feed, kind=kind)
        with pytest.raises(error) as caught:
            fetched(server, feed, MemoryObjects())
        secrets = layer.secrets_of(server.secret())
    assert not [secret for secret in secrets if secret in str(caught.value)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("feed", layer.FEEDS)
def test_late_feed_is_reported_until_it_arrives(feed, shape):
    with replay(NOW, shape) as server:
        put(server, feed=feed, kind="late")
        late = fetched(server, feed, MemoryObjects())
        server.world.clock.set(step=1)
        ready = fetched(server, feed, MemoryObjects())
    assert late["status"] == "late"
    assert late["reason"].startswith("not published yet: ")
    assert ready["status"] == "ready"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("feed", "kind"), CORRUPT)
def test_corrupt_feed_is_refused_by_the_check_for_it(feed, kind, shape):
    store, before = MemoryObjects(), hours.text(hours.parse(NOW) - 1)
    with replay(NOW, shape) as server:
        fetched(server, feed, store, before)
        put(server, feed=feed, kind=kind)
        with pytest.raises(FeedMalformedError, match=CORRUPT[feed, kind]):
            fetched(server, feed, store)
    assert store.list(f"raw/{feed}/date=2022-01-31/hour=18/")


def test_hour_before_the_operators_retention_is_unavailable():
    old = hours.text(hours.parse(NOW) - 40 * 31 * 24)
    with replay(NOW, "caiso") as server:
        assert fetched(server, "market_prices", MemoryObjects(), old)["status"] == "gone"
        recent = hours.text(hours.parse(NOW) - 30 * 24)
        assert fetched(server, "market_prices", MemoryObjects(), recent)["status"] == "late"


def test_null_of_the_weather_is_an_answer():
    with replay(NOW) as server:
        del server.world.history.series["temperature"][hours.parse(NOW)]
        store = MemoryObjects()
        result = fetched(server, "weather", store)
    assert result["status"] == "ready"
    assert files.decoded(store.all[result["key"]]).series["temperature"][hours.parse(NOW)] is None


def test_missing_field_of_a_secret_is_named():
    with pytest.raises(ValueError, match=r"the feeds' secret has no weather\.url"):
        layer.fetch("weather", 0, settings(), {}, MemoryObjects())
    with pytest.raises(ValueError, match=r"prices\.source of the feeds' secret must be caiso or ercot"):
        layer.fetch("market_prices", 0, settings(), {"prices": {"url": "https://x"}}, MemoryObjects())


# The Chalice app


class Secret:
    """A secret in memory. `read` returns the keys that were read last; with `again`, it reads the current
    keys and counts the read."""

    def __init__(self, server):
        self.server, self.reads, self.known = server, 0, server.secret()

    def read(self, *, again: bool = False):
        if again:
            self.reads += 1
            self.known = self.server.secret()
        return self.known


@pytest.fixture
def deployed(monkeypatch):
    """Give the app its environment, a bucket in memory and the secret of a local feed server."""
    store = MemoryObjects()
    for name, value in {
        "LOCATIONS": ",".join(HUBS),
        "TIME_ZONE": TEXAS,
        "HORIZON_HOURS": "48",
        "BUCKET": "b",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setattr(feeds, "S3Bucket", lambda client, name: store)
    with replay(NOW) as server:
        secret = Secret(server)
        monkeypatch.setattr(feeds, "_secret", lambda: secret)
        yield server, secret, store


def test_app_has_one_function_for_each_feed():
    assert [function.name for function in feeds.app.pure_lambda_functions] == list(layer.FEEDS)


@pytest.mark.parametrize("feed", layer.FEEDS)
def test_function_answers_through_chalice_and_as_a_handler(deployed, feed):
    event = {"hour": NOW, "attempt": 1}
    with ChaliceClient(feeds.app) as client:
        through_chalice = client.lambda_.invoke(feed, event).payload
    assert through_chalice == getattr(feeds, feed)(event, None)
    assert through_chalice["status"] == "ready"
    json.dumps(through_chalice)


@pytest.mark.parametrize("feed", layer.FEEDS)
def test_rotated_keys_are_read_without_a_redeploy(deployed, feed):
    server, secret, _ = deployed
    server.keys = type(server.keys)()
    assert getattr(feeds, feed)({"hour": NOW}, None)["status"] == "ready"
    assert secret.reads == 1


def test_missing_variable_is_named(deployed, monkeypatch):
    monkeypatch.delenv("LOCATIONS")
    with pytest.raises(ValueError, match="LOCATIONS is not set"):
        feeds.load({"hour": NOW}, None)
