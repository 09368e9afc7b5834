"""Corrections: a complete manifest in which the labels of a run replace earlier labels."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from data_centric.core import manifests
from data_centric.core.corrections import Corrected, corrected
from data_centric.core.manifests import Label, ManifestError, item_of
from tests.support.data_centric.desks import RUN

NOW = datetime(2026, 11, 30, 4, 0, tzinfo=UTC)


def line(number: int, choice: int, **more: Any) -> bytes:
    metadata = {"class-name": RUN.classes[choice], "confidence": 1, "by": "hand"}
    # The line's spaces, order of fields and escapes differ from those of the lines that this project writes
    fields = {"animal": choice, "animal-metadata": metadata, "note": "ü", "source": f"text {number}", **more}
    return json.dumps(fields, indent=None, separators=(" ,", ": ")).encode()


FULL = [line(0, 0), line(1, 1), b"", line(2, 2), b'{"source": "no label"}', line(3, 0)]


def merged(body: bytes, run: list[int], answers: dict[int, int]) -> Corrected:
    """Merge a run on the texts with the numbers `run` into the manifest `body`; `answers` has choices by a
    text's number."""
    lines = b"\n".join(json.dumps({"source": f"text {number}", "review": {}}).encode() for number in run)
    labels = {
        item_of("source", f"text {number}"): Label(choice, RUN.classes[choice], 0.8, "animals", NOW)
        for number, choice in answers.items()
    }
    return corrected(body, RUN, manifests.parse(lines), labels)


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n\n"])
def test_lines_without_an_answer_are_copied_byte_for_byte(start: bytes, end: bytes) -> None:
    # given a run of three items, in which one label is changed, one is confirmed and one item has no answer
    body = start + b"\n".join(FULL) + end
    # when
    found = merged(body, [3, 1, 0], {3: 1, 1: 1})
    # then
    assert (found.changed, found.confirmed, found.unanswered) == (1, 1, 1)
    before, after = body.split(b"\n"), found.manifest.split(b"\n")
    differ = [number for number, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
    assert differ == [1, 5]
    # and the lines with an answer have the run's label and metadata, and keep their other fields
    for number, choice in ((1, 1), (5, 1)):
        fields = json.loads(after[number])
        assert (fields["animal"], fields["note"], "review" in fields) == (choice, "ü", False)
        assert fields["animal-metadata"] == {
            "class-name": "dog",
            "confidence": 0.8,
            "type": "groundtruth/text-classification",
            "job-name": "animals",
            "human-annotated": "yes",
            "creation-date": "2026-11-30T04:00:00.000000",
        }


def test_version_is_that_of_all_labels() -> None:
    body = b"\n".join(FULL)
    found = merged(body, [3], {3: 1})
    choices = {0: 0, 1: 1, 2: 2, 3: 1}
    labels = {
        item_of("source", f"text {number}"): Label(choice, RUN.classes[choice], 1, "x", NOW)
        for number, choice in choices.items()
    }
    assert found.version == manifests.version(labels)
    assert merged(body, [3], {3: 0}).version != found.version


def test_run_without_answers_changes_nothing() -> None:
    body = b"\n".join(FULL)
    found = merged(body, [0, 1], {})
    assert (found.manifest, found.changed, found.confirmed, found.unanswered) == (body, 0, 0, 2)


def test_items_absent_from_the_manifest_are_named() -> None:
    with pytest.raises(
        ValueError, match=r"every item of the input's manifest, lacks the items of its lines 2, 3$"
    ):
        merged(b"\n".join(FULL), [0, 8, 9], {})
    with pytest.raises(ValueError, match=r"lines 1, 2, .*, 10 and 2 more$"):
        merged(b"\n".join(FULL), [*range(10, 22)], {})


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (b'{"source": "text 9"}', "has no animal"),
        (line(9, 1, animal=3), "animal must be a whole number from 0 to 2, got 3"),
        (line(9, 1, animal=0), "class-name must be 'cat', the name of class 0, got 'dog'"),
        (line(0, 1), "repeats the source of line 1"),
        (b"x", "is not JSON"),
    ],
)
def test_invalid_line_of_the_whole_manifest_is_named(wrong: bytes, problem: str) -> None:
    with pytest.raises(ManifestError, match=f"line 2: {problem}"):
        merged(b"\n".join([FULL[0], wrong]), [0, 9], {})
