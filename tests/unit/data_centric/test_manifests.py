"""Manifests: reading and writing Ground Truth's format, and errors that give the numbers of invalid lines."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from data_centric.core import manifests
from data_centric.core.manifests import Label, ManifestError

CLASSES = ("baseball", "football")
PICTURE = "s3://pictures/a.png"
METADATA = {
    "class-name": "football",
    "confidence": 0.8,
    "type": "groundtruth/image-classification",
    "job-name": "identify-sport",
    "human-annotated": "yes",
    "creation-date": "2018-10-18T22:18:13.527256",
}
LINE = {"source-ref": PICTURE, "sport": 1, "sport-metadata": METADATA}
"""A line of an output manifest, from AWS's documentation."""
LABEL = Label(1, "football", 0.8, "identify-sport", datetime(2018, 10, 18, 22, 18, 13, 527256, UTC))


def manifest(*lines: Any) -> bytes:
    return "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines).encode()


def test_line_of_ground_truth_is_written_unchanged() -> None:
    entries = manifests.parse(manifest(LINE))
    labels = manifests.labels_of(entries, "sport", CLASSES)
    assert labels == {manifests.item_of("source-ref", PICTURE): LABEL}
    assert json.loads(manifests.labeled(entries, "sport", labels)) == LINE


def test_text_is_distinguished_by_its_type() -> None:
    (entry,) = manifests.parse(manifest({"source": "a text"}))
    line = json.loads(manifests.labeled([entry], "sport", {entry.item: LABEL}))
    assert line["sport-metadata"]["type"] == "groundtruth/text-classification"
    assert entry.item != manifests.item_of("source-ref", "a text")


def test_other_fields_pass_through_and_an_earlier_label_is_replaced() -> None:
    # given a line with the label of an earlier run, and a label of another attribute
    other = {"indoor": 0, "indoor-metadata": {"confidence": 0.0}, "ü": [1, {"a": None}]}
    (entry,) = manifests.parse(manifest({**LINE, **other}))
    # when
    now = replace(LABEL, choice=0, class_name="baseball", confidence=1 / 3, human=False)
    line = json.loads(manifests.labeled([entry], "sport", {entry.item: now}))
    # then
    assert {name: line[name] for name in other} == other
    assert (line["sport"], line["sport-metadata"]["class-name"]) == (0, "baseball")
    assert (line["sport-metadata"]["confidence"], line["sport-metadata"]["human-annotated"]) == (0.3333, "no")


def test_items_without_a_label_can_be_sent_back() -> None:
    entries = manifests.parse(manifest(LINE, {"source-ref": "s3://pictures/b.png", "sport": 0}))
    labels = {entries[0].item: LABEL}
    assert len(manifests.labeled(entries, "sport", labels).splitlines()) == 1
    left = manifests.unlabeled(entries, "sport", labels)
    assert [json.loads(line) for line in left.splitlines()] == [{"source-ref": "s3://pictures/b.png"}]
    assert manifests.parse(left)[0].item == entries[1].item


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('{"source": NaN}', "NaN is not a JSON number"),
        ("[1]", "must be a JSON object, got list"),
        ({"label": 1}, "must have either source-ref or source, got neither"),
        ({"source": "a", "source-ref": PICTURE}, "got both"),
        ({"source": " "}, "source must be a text that is not empty"),
        ({"source-ref": 7}, "source-ref must be a text"),
        ({"source-ref": "pictures/a.png"}, "source-ref must be s3://BUCKET/KEY"),
        ({"source-ref": "s3://pictures/first.png"}, "repeats the source-ref of line 1"),
        ({"source": "x" * 100_001}, "at most 100000 bytes, got 100015"),
    ],
)
def test_invalid_line_is_named_by_its_number(line: Any, problem: str) -> None:
    with pytest.raises(ManifestError, match=f"invalid manifest: line 3: .*{problem}") as raised:
        manifests.parse(manifest({"source-ref": "s3://pictures/first.png"}, "", line, LINE))
    assert raised.value.lines == [3]


def test_line_that_is_not_utf8_is_named() -> None:
    with pytest.raises(ManifestError, match="line 2: is not UTF-8"):
        manifests.parse(b'{"source": "a"}\n{"source": "\xff"}\n')


def test_every_invalid_line_is_counted() -> None:
    with pytest.raises(ManifestError, match=r"line 1: .*; line 10: .*; and 2 more$") as raised:
        manifests.parse(b"x\n" * 12)
    assert raised.value.lines == list(range(1, 13))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"sport": "one"}, "sport must be a whole number from 0 to 1, got 'one'"),
        ({"sport": None}, "sport must be a whole number from 0 to 1, got None"),
        ({"sport": 2}, "from 0 to 1, got 2"),
        ({"sport": True}, "from 0 to 1, got True"),
        ({"sport": 0}, "class-name must be 'baseball', the name of class 0, got 'football'"),
        ({"sport-metadata": 1}, "sport-metadata must be a JSON object"),
        *(
            ({"sport-metadata": {key: METADATA[key] for key in METADATA if key != name}}, f"has no {name}")
            for name in METADATA
        ),
        ({"sport-metadata": METADATA | {"confidence": 1.1}}, "confidence must be a number from 0 to 1"),
        ({"sport-metadata": METADATA | {"confidence": "1"}}, "confidence must be a number from 0 to 1"),
        ({"sport-metadata": METADATA | {"human-annotated": True}}, "human-annotated must be yes or no"),
        ({"sport-metadata": METADATA | {"creation-date": "now"}}, "creation-date must be a date and time"),
        ({"sport-metadata": METADATA | {"type": "groundtruth/x"}}, "type must be one of groundtruth/image-"),
    ],
)
def test_invalid_label_is_named_by_its_line(change: dict[str, Any], problem: str) -> None:
    entries = manifests.parse(manifest({**LINE, "source-ref": "s3://pictures/b.png"}, LINE | change))
    with pytest.raises(ManifestError, match=f"line 2: .*{problem}"):
        manifests.labels_of(entries, "sport", CLASSES)


def test_label_of_a_ground_truth_job_with_functions_is_read() -> None:
    custom = LINE | {"sport-metadata": METADATA | {"type": "groundtruth/custom"}}
    assert [*manifests.labels_of(manifests.parse(manifest(custom)), "sport", CLASSES).values()] == [LABEL]


def test_index_may_be_written_as_text() -> None:
    entries = manifests.parse(manifest(LINE | {"sport": "1"}))
    assert [*manifests.labels_of(entries, "sport", CLASSES).values()] == [LABEL]


@pytest.mark.parametrize("missing", ["sport", "sport-metadata"])
def test_missing_label_is_named_by_its_line(missing: str) -> None:
    entries = manifests.parse(manifest({name: LINE[name] for name in LINE if name != missing}))
    with pytest.raises(ManifestError, match=f"line 1: has no {missing}$"):
        manifests.labels_of(entries, "sport", CLASSES)


def test_dates_are_written_in_utc() -> None:
    (entry,) = manifests.parse(manifest(LINE))
    zone = timezone(timedelta(hours=2))
    label = replace(LABEL, created=datetime(2026, 11, 30, 6, 0, 0, 0, zone))
    line = json.loads(manifests.labeled([entry], "sport", {entry.item: label}))
    assert line["sport-metadata"]["creation-date"] == "2026-11-30T04:00:00.000000"


def test_dates_of_another_zone_are_read() -> None:
    dated = LINE | {"sport-metadata": METADATA | {"creation-date": "2026-11-30T06:00:00+02:00"}}
    (label,) = manifests.labels_of(manifests.parse(manifest(dated)), "sport", CLASSES).values()
    assert label.created == datetime(2026, 11, 30, 4, 0, tzinfo=UTC)
    assert label.created.utcoffset() == timedelta(0)


def test_version_changes_with_items_and_classes_only() -> None:
    labels = {"a": LABEL, "b": replace(LABEL, choice=0, class_name="baseball")}
    same = {"b": replace(labels["b"], confidence=0.1, job="other"), "a": LABEL}
    others = [
        {"a": LABEL},
        {**labels, "b": LABEL},
        {**labels, "c": LABEL},
        {**labels, "b": replace(labels["b"], class_name="basketball")},
    ]
    assert manifests.version(same) == manifests.version(labels)
    assert len({manifests.version(each) for each in [labels, *others]}) == 5


@pytest.mark.parametrize("name", ["", "-a", "a-", "a_b", "a-metadata", "a-ref", "source", "a" * 128])
def test_invalid_attribute_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="the label's attribute must have"):
        manifests.check_attribute(name)


def test_valid_attributes_are_accepted() -> None:
    for name in ("a", "identify-sport", "a" * 127):
        manifests.check_attribute(name)
