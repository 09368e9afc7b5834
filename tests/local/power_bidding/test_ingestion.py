"""Fetching and consolidating feeds from a local server that replays recorded responses. Tables, bucket,
secret and event bus are those of a running local cloud."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import pytest

from power_bidding.aws import environment
from power_bidding.aws.bucket import S3Bucket
from power_bidding.aws.history import DynamoHistory
from power_bidding.aws.hours_table import DynamoHours
from power_bidding.feeds import app
from power_bidding.handlers import consolidate
from power_feeds import hours
from power_feeds.fetch import FEEDS
from power_feeds.rows import unpacked
from tests.support.clouds import own_keys
from tests.support.power_bidding.feeds import HUBS, TEXAS, replay

NOW = "2022-01-31T12:00Z"
BUCKET, HOURS, HISTORY, SECRET = (f"power-ingestion-{name}" for name in ("data", "hours", "history", "feeds"))
CONTEXT = SimpleNamespace(
    function_name="f", memory_limit_in_mb=1, invoked_function_arn="a", aws_request_id="r"
)


def keyed(*names: str) -> dict:
    """Return the arguments of CreateTable that define a table's text keys and on-demand billing."""
    return {
        "KeySchema": [
            {"AttributeName": name, "KeyType": kind}
            for name, kind in zip(names, ("HASH", "RANGE"), strict=False)
        ],
        "AttributeDefinitions": [{"AttributeName": name, "AttributeType": "S"} for name in names],
        "BillingMode": "PAY_PER_REQUEST",
    }


@pytest.fixture(scope="module")
def server(cloud, aws):
    """A local server that replays recorded responses. The functions' environment variables name resources of
    the cloud."""
    aws("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": cloud.region})
    aws("dynamodb").create_table(TableName=HOURS, **keyed("hour"))
    aws("dynamodb").create_table(TableName=HISTORY, **keyed("location", "day"))
    keys = own_keys(cloud)
    with replay(NOW) as made, pytest.MonkeyPatch.context() as patch:
        found = aws("secretsmanager").create_secret(Name=SECRET, SecretString=json.dumps(made.secret()))
        variables = {
            **{"BUCKET": BUCKET, "HOURS_TABLE": HOURS, "HISTORY_TABLE": HISTORY, "HORIZON_HOURS": "48"},
            **{"LOCATIONS": ",".join(HUBS), "TIME_ZONE": TEXAS, "FEEDS_SECRET_ARN": found["ARN"]},
            **{"AWS_ENDPOINT_URL": cloud.endpoint_url, "AWS_DEFAULT_REGION": cloud.region},
            **{name.upper(): value for name, value in keys.items()},
        }
        for name, value in variables.items():
            patch.setenv(name, value)
        for cached in (environment.client, consolidate.backend, app._secret):
            cached.cache_clear()
        yield made
        for cached in (environment.client, consolidate.backend, app._secret):
            cached.cache_clear()


def run(hour: int) -> dict:
    feeds = [getattr(app, feed)({"hour": hours.text(hour), "attempt": 1}, None) for feed in FEEDS]
    return consolidate.handler({"hour": hours.text(hour), "feeds": feeds}, CONTEXT)


def test_hours_become_versioned_datasets_and_history(server, aws):
    now = hours.parse(NOW)
    # when two hours are fetched and consolidated, the second hour twice
    first = run(now)
    server.world.clock.set(step=1)
    second = run(now + 1)
    assert run(now + 1) == second
    # then
    assert (first["status"], first["version"], second["version"]) == ("complete", 1, 1)
    rows = DynamoHours(aws("dynamodb"), HOURS).rows(range(now - 1, now + 2))
    assert {hour: row.version for hour, row in rows.items()} == {now: 2, now + 1: 1}
    item = aws("dynamodb").get_item(
        TableName=HISTORY, Key={"location": {"S": "HB_NORTH"}, "day": {"S": "2022-01-31"}}
    )["Item"]
    past = server.world.history.series
    assert unpacked(item["h12"]["S"]) == {
        "price": past["price:HB_NORTH"][now],
        "real_time": past["real_time:HB_NORTH"][now],
        "load": past["load"][now],
        "temperature": past["temperature"][now],
    }
    assert item["n12"]["N"] == "2"
    tomorrow = aws("dynamodb").get_item(
        TableName=HISTORY, Key={"location": {"S": "HB_NORTH"}, "day": {"S": "2022-02-01"}}
    )["Item"]
    frozen = {name for name in tomorrow if name.startswith("f")}
    assert frozen == {f"f{hour:02d}" for hour in range(6, 24)}
    assert int(tomorrow["g06"]["N"]) == now + 1


def test_conditions_hold_against_older_writes(server, aws):
    table, hour = DynamoHistory(aws("dynamodb"), HISTORY), hours.parse("2021-12-31T23:00Z")
    table.put("A", hour, "2.0,,,", 2)
    table.put("A", hour, "1.0,,,", 1)
    table.freeze("A", {hour: 5.0, hour + 1: 6.0}, hour - 10)
    table.freeze("A", {hour: 4.0, hour + 1: 4.0}, hour - 11)
    item = aws("dynamodb").get_item(
        TableName=HISTORY, Key={"location": {"S": "A"}, "day": {"S": "2021-12-31"}}
    )
    assert [item["Item"][name]["S"] for name in ("h23", "f23")] == ["2.0,,,", "5.0"]
    assert table.versions("A", "2021-12-31") == {hour: 2}
    bucket = S3Bucket(aws("s3"), BUCKET)
    assert [bucket.put_new("new", body, "text/plain") for body in (b"1", b"2")] == [True, False]
    assert bucket.get("new") == b"1"
    known = DynamoHours(aws("dynamodb"), HOURS)
    row = known.row(hours.parse(NOW))
    assert row
    assert not known.put(dataclasses.replace(row, version=2), 1)


def test_rotated_secret_is_read_again(server, aws):
    before = run(hours.parse(NOW) + 1)
    server.keys = type(server.keys)()
    aws("secretsmanager").put_secret_value(SecretId=SECRET, SecretString=json.dumps(server.secret()))
    assert run(hours.parse(NOW) + 1) == before
