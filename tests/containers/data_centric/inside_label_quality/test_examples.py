"""Pictures and tables that the label-quality job reads, and those that it refuses."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from label_quality.examples import Examples, read
from label_quality.manifests import Line
from label_quality.settings import Settings
from toolkit.failure import FatalError

PREFIX = "s3://zoo/all"
NAMES = ("cat", "cat", "dog", "dog", "dog")
LINES = [
    Line("source-ref", f"{PREFIX}/{n}.png", int(name == "dog"), name, {}) for n, name in enumerate(NAMES)
]


def settings(**values: Any) -> Settings:
    return Settings.read({"attribute": "animal", "side": "4"} | {name: str(v) for name, v in values.items()})


def pictures(folder: Path, count: int = len(LINES)) -> Path:
    (folder / "pictures").mkdir()
    for number in range(count):
        pixels = np.full((8, 6, 3), 20 * number, np.uint8)
        Image.fromarray(pixels).save(folder / "pictures" / f"{number}.png")
    return folder


def table(folder: Path, **columns: Any) -> Path:
    (folder / "table").mkdir(exist_ok=True)
    sources = {"source": [line.source for line in LINES]}
    pyarrow.parquet.write_table(pyarrow.table(sources | columns), folder / "table" / "part.parquet")
    return folder


def load(folder: Path, lines: Any = LINES, prefix: str = PREFIX, **values: Any) -> Examples:
    return read(folder, prefix, lines, settings(**values))


@pytest.mark.parametrize(("grey", "channels"), [("false", 3), ("true", 1)])
def test_pictures_are_scaled_to_a_square(grey: str, channels: int, tmp_path: Path) -> None:
    found = load(pictures(tmp_path), grey=grey)
    assert found.pictures is not None
    assert (found.pictures.shape, found.pictures.dtype) == ((5, 4, 4, channels), np.uint8)
    assert found.features.shape == (5, 16 * channels)
    assert found.features[3] == pytest.approx(60 / 255)


def test_unreadable_pictures_are_skipped_up_to_the_limit(tmp_path: Path) -> None:
    # given a damaged picture, a missing picture, and a picture outside of the allowed S3 prefix
    pictures(tmp_path, 4)
    (tmp_path / "pictures" / "4.png").write_bytes((tmp_path / "pictures" / "3.png").read_bytes()[:40])
    gone = [Line("source-ref", source, 1, "dog", {}) for source in (f"{PREFIX}/8.png", "s3://other/0.png")]
    escaping = Line("source-ref", f"{PREFIX}/../pictures/0.png", 1, "dog", {})
    lines = [*LINES, *gone, escaping]
    # when
    found = load(tmp_path, lines, most_unreadable=4)
    # then
    assert [line.source for line in found.lines] == [line.source for line in LINES[:4]]
    assert list(found.unreadable) == [each.source for each in lines[4:]]
    with pytest.raises(
        FatalError, match=r"at most 3 items may be missing .* got more, the first: s3://zoo/all/4.png, "
    ):
        load(tmp_path, lines, most_unreadable=3)


def test_equal_pictures_have_one_digest(tmp_path: Path) -> None:
    # given a copy of a picture, and another picture that equals it only after both are scaled
    pictures(tmp_path)
    (tmp_path / "pictures" / "1.png").write_bytes((tmp_path / "pictures" / "0.png").read_bytes())
    Image.fromarray(np.zeros((9, 6, 3), np.uint8)).save(tmp_path / "pictures" / "2.png")
    # when
    found = load(tmp_path)
    # then
    assert found.digests[0] == found.digests[1] != found.digests[2]
    assert (found.features[0] == found.features[2]).all()


def test_table_is_matched_by_source_and_scaled(tmp_path: Path) -> None:
    found = load(table(tmp_path, weight=[1, 2, 3, 4, 5], age=[0.5] * 5), LINES[::-1])
    assert (found.columns, found.pictures) == (("weight", "age"), None)
    assert found.features[:, 0] == pytest.approx(np.arange(2, -3, -1) / math.sqrt(2))
    assert (found.features[:, 1] == 0).all()


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({}, "must have a column source and columns of numbers, got source"),
        ({"name": list("abcde")}, "part.parquet: column name must have numbers, got string"),
        ({"age": [1, None, 3, 4, 5]}, "part.parquet row 1: age must be a finite number, got nan"),
        ({"age": [1, 2, 3, 4, math.inf]}, "part.parquet row 4: age must be a finite number, got inf"),
        ({"age": range(5), "source": ["a"] * 5}, "row 1: source 'a' must have one row, got two"),
    ],
)
def test_invalid_table_is_refused(columns: Any, reason: str, tmp_path: Path) -> None:
    with pytest.raises(FatalError) as raised:
        load(table(tmp_path, **columns))
    assert reason in str(raised.value)


def test_class_of_one_readable_item_is_refused(tmp_path: Path) -> None:
    pictures(tmp_path)
    with pytest.raises(FatalError, match=r"each with at least 2 readable items, got cat \(1\), dog \(3\)"):
        load(tmp_path, LINES[1:])


def test_pictures_and_table_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="input pictures or input table, got neither"):
        load(tmp_path)
    with pytest.raises(FatalError, match="input pictures or input table, got pictures and table"):
        load(pictures(table(tmp_path, age=range(5))))


def test_pictures_without_their_address_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="pictures must have an S3Uri"):
        load(pictures(tmp_path), prefix="")
