"""A page's bucket in the local cloud: publishing, updating and deleting the page."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from groundplan.lambdas import custom_resource
from groundplan.lambdas.site_files import handler as site
from local.cloud import LocalCloud
from tests.support.archives import zipped
from tests.support.custom_resources import cloudformation
from tests.support.hosting import unique

Ask = Callable[..., dict[str, str]]


@pytest.fixture
def ask(cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ask]:
    """`ask("Update", properties)` sends a request of CloudFormation to the handler and returns the
    response."""
    for name, value in cloud.env().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(site, "_clients", {})
    with cloudformation() as stub:
        yield functools.partial(stub.request, site.handler)


@pytest.fixture
def s3(aws: Callable[..., Any]) -> Any:
    return aws("s3")


@pytest.fixture
def properties(s3: Any, cloud: LocalCloud) -> dict[str, str]:
    """The properties of the custom resource, after creation of a page's assets and of empty buckets for the
    page and its data."""
    names = {"SourceBucket": unique("assets"), "Bucket": unique("site"), "StorageBucket": unique("data")}
    for name in names.values():
        s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": cloud.region})
    s3.put_object(
        Bucket=names["SourceBucket"],
        Key="one.zip",
        Body=zipped(index__html="{{identity}} {{storage}}", app__js="one", old__js="gone soon"),
    )
    s3.put_object(Bucket=names["SourceBucket"], Key="two.zip", Body=zipped(index__html="", app__js="two"))
    return {
        **names,
        "SourceKey": "one.zip",
        "Config": json.dumps({"clientId": "abc", "limits": {"models": 3}}),
    }


def keys(s3: Any, bucket: str) -> set[str]:
    return {item["Key"] for item in s3.list_objects_v2(Bucket=bucket).get("Contents", [])}


def test_creation_publishes_the_page_with_settings_and_endpoint_addresses(ask, s3, properties, cloud):
    # WHEN CloudFormation creates the page
    answer = ask("Create", properties)

    # THEN the files are stored, the settings keep their types, and AWS's endpoint addresses are replaced by
    # those of the local cloud
    assert answer["Status"] == "SUCCESS", answer["Reason"]
    assert answer["PhysicalResourceId"] == properties["Bucket"]
    page = s3.get_object(Bucket=properties["Bucket"], Key="index.html")
    assert page["Body"].read().decode() == f"{cloud.endpoint_url} {cloud.endpoint_url}"
    assert page["ContentType"].startswith("text/html")
    assert page["CacheControl"] == "no-cache"
    config = json.load(s3.get_object(Bucket=properties["Bucket"], Key="config.json")["Body"])
    assert config == {"clientId": "abc", "limits": {"models": 3}, "cognitoEndpoint": cloud.endpoint_url}


def test_update_replaces_all_files_and_can_be_repeated(ask, s3, properties):
    ask("Create", properties)
    for _ in range(2):
        # WHEN another asset is published, twice
        answer = ask("Update", properties | {"SourceKey": "two.zip"}, properties["Bucket"])

        # THEN the bucket has the files of that asset only
        assert answer["Status"] == "SUCCESS", answer["Reason"]
        assert keys(s3, properties["Bucket"]) == {"index.html", "app.js", "config.json"}
        assert s3.get_object(Bucket=properties["Bucket"], Key="app.js")["Body"].read() == b"two"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"SourceKey": "three.zip"}, "NoSuchKey"),
        ({"Config": "{"}, "Config must be JSON"),
        ({"Config": "[]"}, "Config must be a JSON object"),
    ],
)
def test_failed_update_reports_the_reason_and_keeps_the_page(ask, s3, properties, change, words):
    ask("Create", properties)
    answer = ask("Update", properties | change, properties["Bucket"])
    assert answer["Status"] == "FAILED"
    assert words in answer["Reason"]
    assert answer["PhysicalResourceId"] == properties["Bucket"]
    assert s3.get_object(Bucket=properties["Bucket"], Key="app.js")["Body"].read() == b"one"


def test_deletion_removes_every_version_from_the_bucket(ask, s3, properties):
    # GIVEN a bucket with object versions, also of deleted files
    bucket = properties["Bucket"]
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    ask("Create", properties)
    ask("Update", properties | {"SourceKey": "two.zip"}, bucket)

    # WHEN CloudFormation sends the Delete request twice
    first, second = ask("Delete", properties, bucket), ask("Delete", properties, bucket)

    # THEN the bucket can be deleted, and a third Delete request succeeds too
    assert first["Status"] == second["Status"] == "SUCCESS", first["Reason"]
    s3.delete_bucket(Bucket=bucket)
    assert ask("Delete", properties, bucket)["Status"] == "SUCCESS"


def test_deletion_keeps_a_retained_page(ask, s3, properties):
    ask("Create", properties)
    assert ask("Delete", properties | {"Retain": "true"}, properties["Bucket"])["Status"] == "SUCCESS"
    assert "index.html" in keys(s3, properties["Bucket"])


def test_creation_times_out_early_enough_to_respond(ask, properties):
    answer = ask("Create", properties, seconds=custom_resource.SPARE_SECONDS - 1)
    assert answer["Status"] == "FAILED"
    assert "TimeoutError" in answer["Reason"]
