"""Faults of a dataset that are found before the first job of a sweep."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import IO, Any

import numpy as np
import pytest

from data_centric.core import sweep_data
from data_centric.core.manifests import ManifestError
from tests.support.data_centric.columns import arrays, manifest


def npz(**columns: Any) -> bytes:
    content = io.BytesIO()
    np.savez_compressed(content, **columns)
    return content.getvalue()


def classes(files: dict[str, bytes]) -> set[str] | None:
    def opened(name: str) -> IO[bytes]:
        return io.BytesIO(files[name])

    return sweep_data.classes_of(files, opened)


def problems(**channels: Iterable[str] | None) -> list[str]:
    found = {name: None if each is None else set(each) for name, each in channels.items()}
    return sweep_data.problems("digits", found)


def test_classes_of_pictures_are_their_folders() -> None:
    assert classes({"cat/a.png": b"", "dog/deep/b.JPEG": b""}) == {"cat", "dog"}


@pytest.mark.parametrize("kind", ["u1", "<i4", ">i8", "i2"])
def test_classes_of_arrays_are_their_labels(kind: str) -> None:
    files = {"a.npz": npz(labels=np.array([3, 0, 3], kind)), "b.npz": npz(labels=np.array([11], kind))}
    assert classes(files) == {"0", "3", "11"}


def damaged(body: bytes) -> bytes:
    """Return an archive whose first file cannot be unpacked."""
    return body[:60] + bytes(len(body) - 460) + body[-400:]


@pytest.mark.parametrize("name", ["part.parquet", "readme.txt", "loose.png"])
def test_classes_of_other_files_are_unknown(name: str) -> None:
    assert classes({name: b""}) is None


def test_labels_that_are_text_are_unknown() -> None:
    assert classes({"a.npz": npz(labels=np.array(["cat", "dog"]))}) is None


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"no archive", "part.npz: the archive cannot be read: File is not a zip file"),
        (damaged(npz(labels=np.arange(999))), "part.npz: the archive cannot be read: "),
        (npz(images=np.zeros(3)), "part.npz must be an .npz file with an array labels"),
        (npz(labels=np.zeros((2, 2), int)), "part.npz: labels must be an array of one dimension"),
    ],
)
def test_unreadable_arrays_are_named(body: bytes, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        classes({"part.npz": body})


@pytest.mark.parametrize(
    ("channels", "sentences"),
    [
        ({"train": "01", "test": "01"}, []),
        ({"train": "01", "validation": "10", "test": "0"}, []),
        ({"train": None, "test": None}, []),
        ({"train": "01"}, ["dataset digits must have a channel test, got train"]),
        ({}, ["dataset digits must have a channel train, got none", "dataset digits must have a channel te"]),
        ({"train": "0", "test": "0"}, ["channel train must have at least 2 classes, got 0"]),
        (
            {"train": "012", "validation": "1", "test": "0"},
            ["channel validation must have an example of each class, got none of 0, 2"],
        ),
        (
            {"train": "01", "validation": "01", "test": "02"},
            ["classes of channel test must be among those of train, got 2"],
        ),
    ],
)
def test_problems_of_channels_are_reported(channels: dict[str, Any], sentences: list[str]) -> None:
    found = problems(**channels)
    assert len(found) == len(sentences)
    assert all(text.startswith(sentence) for text, sentence in zip(found, sentences, strict=True))


def test_version_of_labels_depends_on_labels_only() -> None:
    body = manifest(6, 0)
    version = sweep_data.labels_version(body, "column", {"0", "1", "2"})
    again = b"\n".join(reversed(body.strip().split(b"\n")))
    assert sweep_data.labels_version(again, "column", {"left", "middle", "right"}) == version
    assert sweep_data.labels_version(manifest(5, 0), "column", None) != version


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (manifest(3, 0) + b"{oops\n", "line 4: is not JSON"),
        (manifest(3, 0).replace(b'"left"', b'"top"') + manifest(4, 1), "line 4: class-name must be 'top'"),
    ],
)
def test_invalid_lines_of_the_manifest_are_named(body: bytes, sentence: str) -> None:
    with pytest.raises(ManifestError, match=sentence):
        sweep_data.labels_version(body, "column", None)


def test_manifest_of_other_classes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must be those of channel train \(0, 1\), got left, middle, right"):
        sweep_data.labels_version(manifest(6, 0), "column", {"0", "1"})


def test_labels_are_read_without_the_pictures() -> None:
    # given a file that counts the bytes read
    class Counting(io.BytesIO):
        count = 0

        def read(self, size: int | None = -1, /) -> bytes:
            content = super().read(size)
            self.count += len(content)
            return content

    whole = arrays(3000, 0)
    stream = Counting(whole)
    # when
    assert sweep_data.npz_labels(stream, "part.npz") == {"0", "1", "2"}
    # then the pictures were not read
    assert stream.count < len(whole) / 4
