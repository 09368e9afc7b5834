"""Manifests: JSON lines in the augmented manifest format of SageMaker Ground Truth.

https://docs.aws.amazon.com/sagemaker/latest/dg/sms-data-output.html
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from toolkit.failure import FatalError

REFERENCE, TEXT = "source-ref", "source"
SOURCES = (REFERENCE, TEXT)
METADATA = "-metadata"
REVIEW = "review"
"""Field that is added to the lines of the review manifest"""
LONGEST_LINE = 100_000
"""Maximum size of a line in bytes: Ground Truth's limit."""
NAMED = 10
"""Maximum number of invalid lines that an error names. Further invalid lines are only counted."""

Fields = Mapping[str, Any]
Read = TypeVar("Read")


@dataclass(frozen=True)
class Line:
    """A labeled line of a manifest."""

    field: str
    """Name of the field with the item's source: `source-ref` or `source`"""
    source: str
    choice: int
    """The label: the index by which the manifest denotes the class"""
    class_name: str
    fields: Fields


@dataclass(frozen=True)
class Manifest:
    lines: Sequence[Line]
    unlabeled: int
    """Number of lines without a label"""
    classes: Mapping[int, str]
    """Names of the classes that occur as labels, by index"""


def read(folder: Path, attribute: str) -> Manifest:
    """Read the manifest, the only file of a folder. Raises `FatalError`, which names the invalid lines."""
    _check_attribute(attribute)
    paths = files(folder)
    if len(paths) != 1:
        raise FatalError(f"folder {folder.name} must hold one file, got {len(paths) or 'none'}")
    first: dict[str, int] = {}
    classes: dict[int, str] = {}

    def line(number: int, fields: Fields) -> Line | None:
        field, source = _source(fields)
        if first.setdefault(source, number) != number:
            raise ValueError(f"repeats the {field} of line {first[source]}")
        if attribute not in fields:
            return None
        choice, name = _label(fields, attribute)
        if classes.setdefault(choice, name) != name:
            raise ValueError(
                f"class-name of class {choice} must be {classes[choice]!r} as in earlier lines, got {name!r}"
            )
        return Line(field, source, choice, name, fields)

    found = _each(paths[0], line)
    names = [*classes.values()]
    if len(names) < 2 or len(set(names)) < len(names):
        raise FatalError(
            f"{paths[0].name} must have labels of at least 2 classes with different names in attribute"
            f" {attribute}, got {', '.join(names) or 'none'}"
        )
    lines = [each for each in found if each]
    return Manifest(lines, len(found) - len(lines), dict(sorted(classes.items())))


def version(lines: Iterable[Line]) -> str:
    """Return the version of the labels: a hash of the items and their classes, computed as in the labeling
    service (`runtime/data_centric/core/manifests.py`)."""
    rows = sorted((_item(line), line.choice, line.class_name) for line in lines)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def relabeled(line: Line, attribute: str, choice: int, name: str, confidence: float, human: bool) -> Line:
    """Return a line with another label.

    In the metadata, only `class-name`, `confidence` and `human-annotated` change.
    """
    metadata = {
        **line.fields[attribute + METADATA],
        "class-name": name,
        "confidence": round(confidence, 4),
        "human-annotated": "yes" if human else "no",
    }
    fields = {**line.fields, attribute: choice, attribute + METADATA: metadata}
    return Line(line.field, line.source, choice, name, fields)


def written(lines: Iterable[Fields]) -> bytes:
    return "".join(
        json.dumps(line, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n" for line in lines
    ).encode()


def _check_attribute(name: str) -> None:
    if name in (*SOURCES, REVIEW) or name.endswith((METADATA, "-ref")):
        raise FatalError(
            f"argument attribute must not be {', '.join(SOURCES)} or {REVIEW}, or end in {METADATA} or -ref,"
            f" got {name!r}"
        )


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []


def _each(path: Path, read: Callable[[int, Fields], Read]) -> list[Read]:
    """Apply `read` to each line that is not blank. Raises `FatalError`, which names the invalid lines."""
    found: list[Read] = []
    problems: list[str] = []
    with path.open("rb") as content:
        for number, line in enumerate(content, 1):
            line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if not line.strip():
                continue
            try:
                found.append(read(number, _fields(line.rstrip(b"\r\n"))))
            except ValueError as error:
                problems.append(f"line {number}: {error}")
    if problems:
        more = f"; and {len(problems) - NAMED} more" if len(problems) > NAMED else ""
        raise FatalError(f"{path.name}: {'; '.join(problems[:NAMED])}{more}")
    return found


def _fields(line: bytes) -> Fields:
    if len(line) > LONGEST_LINE:
        raise ValueError(f"must have at most {LONGEST_LINE} bytes, got {len(line)}")
    try:
        fields = json.loads(line.decode(), parse_constant=_refuse)
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise ValueError(f"must be a JSON object, got {type(fields).__name__}")
    return fields


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")


def _source(fields: Fields) -> tuple[str, str]:
    present = [name for name in SOURCES if name in fields]
    if len(present) != 1:
        raise ValueError(f"must have either {' or '.join(SOURCES)}, got {'both' if present else 'neither'}")
    source = fields[present[0]]
    if not isinstance(source, str) or not source.strip():
        raise ValueError(f"{present[0]} must be non-empty text, got {source!r:.100}")
    return present[0], source


def _label(fields: Fields, attribute: str) -> tuple[int, str]:
    choice, metadata = fields[attribute], fields.get(attribute + METADATA)
    # AWS's example has the string "1", not the number 1
    if isinstance(choice, str) and choice.isascii() and choice.isdigit():
        choice = int(choice)
    if type(choice) is not int or choice < 0:
        raise ValueError(f"{attribute} must be a whole number from 0, got {choice!r}")
    name = metadata.get("class-name") if isinstance(metadata, dict) else None
    if not isinstance(name, str) or not name:
        raise ValueError(f"{attribute}{METADATA} must have a class-name that is not empty, got {name!r}")
    return choice, name


def _item(line: Line) -> str:
    return hashlib.sha256(f"{line.field}\n{line.source}".encode()).hexdigest()[:24]
