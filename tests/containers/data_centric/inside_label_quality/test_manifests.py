"""Manifests: valid and refused lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from label_quality import manifests
from toolkit.failure import FatalError


def line(number: int = 0, choice: Any = 0, name: Any = "cat", **fields: Any) -> dict[str, Any]:
    return {
        "source-ref": f"s3://zoo/{number}",
        "animal": choice,
        "animal-metadata": {"class-name": name},
    } | fields


DOG = line(9, 1, "dog")


def read(folder: Path, *lines: Any, attribute: str = "animal") -> manifests.Manifest:
    text = "\n".join(each if isinstance(each, str) else json.dumps(each) for each in lines)
    (folder / "zoo.manifest").write_text(text)
    return manifests.read(folder, attribute)


def test_unlabeled_lines_are_counted_and_left_out(tmp_path: Path) -> None:
    # given a manifest that begins with a byte order mark
    first = "\ufeff" + json.dumps(line())
    # when
    found = read(tmp_path, first, "", {"source": "a text"}, line(1, "1", "dog"))
    # then
    assert [(each.source, each.choice, each.class_name) for each in found.lines] == [
        ("s3://zoo/0", 0, "cat"),
        ("s3://zoo/1", 1, "dog"),
    ]
    assert (found.unlabeled, found.classes) == (1, {0: "cat", 1: "dog"})


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ("{", "line 2: is not JSON"),
        ("[1]", "line 2: must be a JSON object, got list"),
        ('{"source-ref": NaN}', "line 2: is not JSON: NaN is not a JSON number"),
        ({"animal": 1}, "line 2: must have source-ref or source, got neither"),
        (line(1, source="text"), "line 2: must have source-ref or source, got source-ref and source"),
        ({"source-ref": " "}, "line 2: source-ref must be a text that is not empty"),
        (DOG, "line 2: repeats the source-ref of line 1"),
        (line(1, -1), "line 2: animal must be a whole number from 0, got -1"),
        (line(1, True), "line 2: animal must be a whole number from 0, got True"),
        (line(1, 0, ""), "line 2: animal-metadata must have a class-name that is not empty, got ''"),
        (line(1, 1, "cat"), "line 2: class 1 must be 'dog' as before, got 'cat'"),
        (line(1, text="x" * 100_000), "line 2: must have at most 100000 bytes, got"),
    ],
)
def test_invalid_line_is_named_with_its_reason(wrong: Any, reason: str, tmp_path: Path) -> None:
    with pytest.raises(FatalError) as raised:
        read(tmp_path, DOG, wrong)
    assert reason in str(raised.value)


def test_only_ten_invalid_lines_are_named(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match=r"line 10: .*; and 2 more$") as raised:
        read(tmp_path, *["{}"] * 12)
    assert "line 11" not in str(raised.value)


def test_one_class_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match=r"must have labels animal of at least 2 classes .* got cat$"):
        read(tmp_path, line(), line(1))


@pytest.mark.parametrize("name", ["review", "source", "animal-metadata"])
def test_attribute_that_is_another_field_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(FatalError, match=f"attribute must be the label's attribute .* got '{name}'"):
        read(tmp_path, DOG, attribute=name)


def test_two_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "more").write_text("")
    with pytest.raises(FatalError, match="must hold one file, got 2"):
        read(tmp_path, DOG)


def test_relabeled_line_keeps_its_other_fields(tmp_path: Path) -> None:
    # given
    extra = {"class-name": "cat", "confidence": 0.5, "job-name": "zoo", "human-annotated": "yes"}
    (first, _) = read(tmp_path, line(0, other=7) | {"animal-metadata": extra}, DOG).lines
    # when
    found = manifests.relabeled(first, "animal", 1, "dog", 0.87654, human=False)
    # then
    changed = {"class-name": "dog", "confidence": 0.8765, "human-annotated": "no"}
    assert found.fields == {**first.fields, "animal": 1, "animal-metadata": extra | changed}
    assert (found.choice, found.class_name, found.source) == (1, "dog", "s3://zoo/0")
