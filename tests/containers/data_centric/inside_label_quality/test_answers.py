"""Labelers' answers in the payload of a post-annotation Lambda."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from label_quality import answers
from toolkit.failure import FatalError


def item(source: str, **labels: Any) -> dict[str, Any]:
    given = [
        {"workerId": who, "annotationData": {"content": json.dumps({"element": {"label": label}})}}
        for who, label in labels.items()
    ]
    return {"dataObject": {"s3Uri": source}, "annotations": given}


def test_answers_of_all_files_count_once(tmp_path: Path) -> None:
    # given two files with answers: an item that is in both, as gold questions are; an item with text instead
    # of a URI; and an answer of a labeler who is unsure
    text = {"dataObject": {"content": "a text"}, "annotations": item("", b="dog")["annotations"]}
    (tmp_path / "0.json").write_text(json.dumps([item("s3://a", a="cat", b=None), text]))
    (tmp_path / "1.json").write_text(json.dumps([item("s3://a", a="cat", c="dog")]))
    # when, then
    assert answers.read(tmp_path) == {"s3://a": {"a": "cat", "c": "dog"}, "a text": {"b": "dog"}}
    assert answers.read(tmp_path / "missing") == {}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "0.json must be JSON"),
        ("{}", "0.json must be a list of objects, got dict"),
        ("[{}]", "0.json item 0: dataObject must be a dict, got None"),
        ('[{"dataObject": {"uri": 1}}]', "0.json item 0: dataObject must have s3Uri or content, got uri"),
        ('[{"dataObject": {"s3Uri": "s3://a"}}]', "0.json item 0: annotations must be a list, got None"),
        (
            '[{"dataObject": {"s3Uri": "s3://a"}, "annotations": [{"workerId": 1}]}]',
            "0.json item 0: workerId must be a str, got 1",
        ),
        (
            json.dumps([item("s3://a", a="cat"), item("s3://a", a="dog")]),
            "0.json item 1: a must have one answer to s3://a, got another before",
        ),
    ],
)
def test_invalid_answers_are_named(content: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "0.json").write_text(content)
    with pytest.raises(FatalError) as raised:
        answers.read(tmp_path)
    assert reason in str(raised.value)
