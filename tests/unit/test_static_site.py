"""The published files of a page."""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path

import pytest

from groundplan.lambdas.site_files import handler as site
from tests.support.archives import zipped
from tests.support.custom_resources import cloudformation
from tests.support.sites import packed

WEB = Path(__file__).resolve().parents[2] / "web"
ORIGINS = {"identity": ["https://cognito-idp.eu-west-1.amazonaws.com"], "storage": ["https://a", "https://b"]}


def published(**files: str) -> dict[str, site.Object]:
    return {item.key: item for item in site.objects(zipped(**files), {"region": "eu-west-1"}, ORIGINS)}


def test_each_file_has_its_content_type():
    page = published(
        index__html="", app__js="", style__css="", icon__svg="", **{"a/photo__JPG": "", "b__bin": ""}
    )
    assert {key: item.content_type.partition(";")[0] for key, item in page.items()} == {
        "index.html": "text/html",
        "app.js": "text/javascript",
        "style.css": "text/css",
        "icon.svg": "image/svg+xml",
        "a/photo.JPG": "image/jpeg",
        "b.bin": "application/octet-stream",
        "config.json": "application/json",
    }


def test_code_is_not_cached_but_pictures_are():
    page = published(index__html="", app__js="", icon__svg="")
    assert {page[key].cache_control for key in ("index.html", "app.js", "config.json")} == {"no-cache"}
    assert page["icon.svg"].cache_control == "public, max-age=86400"


def test_html_is_published_after_its_referenced_files():
    assert list(published(index__html="", app__js="", zoo__css=""))[-1] == "index.html"


def test_hosts_are_inserted_into_html_but_not_into_scripts():
    page = published(index__html="connect-src 'self' {{identity}} {{storage}}", app__js="{{identity}}")
    assert page["index.html"].body.decode() == (
        "connect-src 'self' https://cognito-idp.eu-west-1.amazonaws.com https://a https://b"
    )
    assert page["app.js"].body == b"{{identity}}"


def test_settings_replace_a_config_file_of_the_asset():
    page = published(index__html="", config__json="{}")
    assert json.loads(page["config.json"].body) == {"region": "eu-west-1"}


def test_two_runs_publish_the_same_bytes():
    files = {"index__html": "{{storage}}", "b__js": "b", "a__js": "a"}
    assert published(**files) == published(**dict(reversed(files.items())))


@pytest.mark.parametrize(
    ("archive", "words"),
    [
        (b"not a zip", "not a whole zip"),
        (zipped(index__html="")[:-9], "not a whole zip"),
        (zipped(app__js=""), "no index.html"),
        (zipped(index__html="{{nobody}}"), "the placeholder 'nobody' must be one of identity, storage"),
        (zipped(index__html="", **{"../other/app__js": ""}), "not a name inside the page"),
        (zipped(index__html="", **{"/etc/app__js": ""}), "not a name inside the page"),
    ],
)
def test_invalid_asset_is_refused_with_the_reason(archive, words):
    with pytest.raises(ValueError, match=words):
        site.objects(archive, {}, ORIGINS)


PAGES = sorted(path.parent for path in WEB.glob("*/index.html"))
REFERENCE = re.compile(r"""(?:from|href=|src=) ?"([^"#{:]+)\"""")


@pytest.mark.parametrize("folder", PAGES, ids=lambda folder: folder.name)
def test_each_page_of_this_project_can_be_published(folder: Path):
    # GIVEN the files of a page, as the CDK packs them
    files = {item.key: item for item in site.objects(packed(folder), {}, ORIGINS)}

    # WHEN the files are published THEN no placeholder is left, and the content security policy has no unsafe
    # source
    text = files["index.html"].body.decode()
    assert "{{" not in text
    assert "unsafe" not in text
    assert b"innerHTML" not in b"".join(item.body for item in files.values())

    # THEN every referenced file exists
    for name, item in files.items():
        if item.content_type.startswith("text/"):
            for named in REFERENCE.findall(item.body.decode()):
                assert posixpath.normpath(posixpath.join(posixpath.dirname(name), named)) in files, name


@pytest.mark.parametrize("folder", PAGES, ids=lambda folder: folder.name)
def test_pages_share_files_by_links(folder: Path):
    # links, because copies would diverge from the original file
    links = {path.name: path.readlink().as_posix() for path in (folder / "shared").iterdir()}
    assert links == {path.name: f"../../shared/{path.name}" for path in (WEB / "shared").iterdir()}


def test_deletion_without_a_bucket_makes_no_call(monkeypatch):
    # GIVEN a creation that failed before it had a bucket, and an SDK that cannot be used
    monkeypatch.setattr(site, "client", None)
    with cloudformation() as stub:
        made = stub.request(site.handler, "Create", {})

        # WHEN CloudFormation rolls it back
        answer = stub.request(site.handler, "Delete", {}, physical_id=made["PhysicalResourceId"])

    # THEN the deletion succeeds without a request to AWS
    assert "Bucket" in made["Reason"]
    assert answer["Status"] == "SUCCESS"
