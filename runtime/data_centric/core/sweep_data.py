"""Checks of a dataset before a sweep: its channels, their classes, its manifest of labels.

    DATASET/train/...         channel
    DATASET/validation/...    channel; without it, each job splits validation examples off `train`
    DATASET/test/...          channel
    DATASET/labels.manifest   the labels from which the channels were made, in Ground Truth's format

The classes of a channel are known if it has pictures (CLASS/NAME.png) or arrays (the labels in an .npz file).
Training jobs check Parquet files when they start.
"""

from __future__ import annotations

import ast
import re
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import IO

from data_centric.core import archive, manifests

TRAIN, VALIDATION, TEST = "train", "validation", "test"
CHANNELS = (TRAIN, VALIDATION, TEST)
MANIFEST = "labels.manifest"
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
ARRAYS, LABELS = ".npz", "labels.npy"
MOST_LABELS = 100_000_000
"""Maximum size of the labels in an .npz file, in bytes."""
_WHOLE = {"i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I", "i8": "q", "u8": "Q"}

Opener = Callable[[str], IO[bytes]]


def classes_of(names: Iterable[str], opened: Opener) -> set[str] | None:
    """Return the classes of a channel; None if a file does not show its classes, such as a Parquet file.

    :param names: names of the files below the channel's folder
    :param opened: opens a file by its name, for reads at any position

    Raises `ValueError` for arrays that cannot be read.
    """
    found = set[str]()
    for name in names:
        suffix = name[name.rfind(".") :].lower()
        if suffix in PICTURES and "/" in name:
            found.add(name.partition("/")[0])
        elif suffix == ARRAYS:
            with opened(name) as stream:
                labels = npz_labels(stream, name)
            if labels is None:
                return None
            found |= labels
        else:
            return None
    return found


def npz_labels(stream: IO[bytes], name: str) -> set[str] | None:
    """Return the distinct values of the array `labels` in an .npz file; None if they are not whole numbers.

    Raises `ValueError` if the file has no readable array of that name.
    """
    try:
        body = archive.zip_file(stream, LABELS, MOST_LABELS)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    if body is None:
        raise ValueError(f"{name} must be an .npz file with an array labels")
    return npy_values(body, name)


def npy_values(body: bytes, name: str) -> set[str] | None:
    """Return the distinct values of a one-dimensional array of whole numbers in NumPy's format.

    The format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
    """
    if not body.startswith(b"\x93NUMPY") or len(body) < 12:
        raise ValueError(f"{name}: labels must be an array in NumPy's format")
    wide = body[6] > 1
    length = struct.unpack("<I" if wide else "<H", body[8 : 12 if wide else 10])[0]
    start = (12 if wide else 10) + length
    try:
        header = ast.literal_eval(body[12 if wide else 10 : start].decode("latin-1").strip())
        kind = header["descr"]
        (count,) = header["shape"]
    except (ValueError, SyntaxError, KeyError, TypeError):
        raise ValueError(f"{name}: labels must be an array of one dimension") from None
    if not isinstance(kind, str) or kind[1:] not in _WHOLE:
        return None
    code = (">" if kind[0] == ">" else "<") + _WHOLE[kind[1:]]
    content = body[start : start + count * struct.calcsize(code)]
    return {str(value) for (value,) in struct.iter_unpack(code, content)}


def problems(dataset: str, classes: Mapping[str, set[str] | None]) -> list[str]:
    """Return one sentence for each error of a dataset.

    :param classes: classes by channel, for each channel that has files; None if they are unknown
    """
    found = [
        f"dataset {dataset} must have a channel {name}, got {', '.join(classes) or 'none'}"
        for name in (TRAIN, TEST)
        if name not in classes
    ]
    train = classes.get(TRAIN)
    if train is None:
        return found
    if len(train) < 2:
        found.append(f"channel {TRAIN} must have at least 2 classes, got {', '.join(train) or 'none'}")
    for name in (VALIDATION, TEST):
        present = classes.get(name)
        if present is None:
            continue
        if unknown := ordered(present - train):
            found.append(
                f"classes of channel {name} must be among those of {TRAIN}, got {', '.join(unknown)}"
            )
        if name == VALIDATION and (absent := ordered(train - present)):
            found.append(
                f"channel {name} must have an example of each class, got none of {', '.join(absent)}"
            )
    return found


def labels_version(body: bytes, attribute: str, train: set[str] | None) -> str:
    """Return the version of the labels in a manifest.

    :param train: classes of the channel `train`; None if they are unknown

    Raises `ManifestError` for invalid lines, `ValueError` if the classes differ from the classes of `train`.
    """
    entries = manifests.parse(body)
    names = _names(entries, attribute)
    labels = manifests.labels_of(entries, attribute, names)
    used = {(str(label.choice), label.class_name) for label in labels.values()}
    if train is not None and train not in ({number for number, _ in used}, {name for _, name in used}):
        raise ValueError(
            f"classes of {MANIFEST} must be those of channel {TRAIN} ({', '.join(ordered(train))}),"
            f" got {', '.join(ordered({name for _, name in used}))}"
        )
    return manifests.version(labels)


def _names(entries: Sequence[manifests.Entry], attribute: str) -> list[str]:
    """Return the class names in the order of the class indices, each from the first line of its class."""
    found = dict[int, str]()
    for entry in entries:
        label, metadata = entry.fields.get(attribute), entry.fields.get(attribute + manifests.METADATA)
        if isinstance(metadata, dict) and re.fullmatch("[0-9]{1,6}", str(label)):
            found.setdefault(int(str(label)), str(metadata.get("class-name")))
    return [found.get(number, "") for number in range(max(found, default=0) + 1)]


def ordered(names: Iterable[str]) -> list[str]:
    """Return class names in order; names that are numbers are sorted by value."""
    return sorted(names, key=lambda name: (0, int(name), "") if name.isdecimal() else (1, 0, name))
