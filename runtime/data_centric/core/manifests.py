"""Manifests in the augmented manifest format of SageMaker Ground Truth: one JSON object per line.

A line has `source-ref`, the S3 address of an object, or `source`, a text. A labeled line also has ATTRIBUTE,
the index of the class, and ATTRIBUTE-metadata. All other fields of a line pass through unchanged.

https://docs.aws.amazon.com/sagemaker/latest/dg/sms-data-output.html
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, NoReturn, TypeVar

REFERENCE, TEXT = "source-ref", "source"
TYPES = {REFERENCE: "groundtruth/image-classification", TEXT: "groundtruth/text-classification"}
"""Value of `type` in the metadata, by the name of the field that has the source."""
KNOWN_TYPES = (*TYPES.values(), "groundtruth/custom")
"""Accepted values of `type`. Jobs with custom annotation functions have `groundtruth/custom`."""
METADATA = "-metadata"
ATTRIBUTE = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,126}")
"""Pattern of `LabelAttributeName` in the SageMaker API."""
LONGEST_LINE = 100_000
"""Maximum size of a line in bytes: Ground Truth's limit."""
MOST_NAMED = 10
"""Maximum number of invalid lines that an error names. Further lines are only counted."""
S3_OBJECT = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/.+")
HUMAN = {"yes": True, "no": False}
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
Read = TypeVar("Read")


class ManifestError(ValueError):
    """A manifest has invalid lines. The message has their line numbers, counted from 1."""

    def __init__(self, problems: Sequence[tuple[int, str]]) -> None:
        named = "; ".join(f"line {line}: {problem}" for line, problem in problems[:MOST_NAMED])
        more = f"; and {len(problems) - MOST_NAMED} more" if len(problems) > MOST_NAMED else ""
        super().__init__(f"invalid manifest: {named}{more}")
        self.lines = [line for line, _ in problems]


@dataclass(frozen=True)
class Entry:
    """One line of a manifest."""

    line: int
    """Line number, from 1"""
    item: str
    """Id of the source, the same in every manifest"""
    source_field: Literal["source-ref", "source"]
    source: str
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Label:
    """The label of one item, without the labelers' identities."""

    choice: int
    """Index of the class"""
    class_name: str
    confidence: float
    """From 0 to 1"""
    job: str
    created: datetime
    """UTC"""
    human: bool = True


def item_of(source_field: str, source: str) -> str:
    """Return the item id of a source."""
    return hashlib.sha256(f"{source_field}\n{source}".encode()).hexdigest()[:24]


def check_attribute(name: str, what: str = "the label's attribute") -> None:
    """Raise `ValueError` unless the name is a valid label attribute.

    :param what: words for the attribute in the error's message
    """
    if not ATTRIBUTE.fullmatch(name) or name.endswith((METADATA, "-ref")) or name == TEXT:
        raise ValueError(
            f"{what} must have 1 to 127 letters, digits and hyphens, not begin or end with"
            f" a hyphen, not end with {METADATA} or -ref, and not be {TEXT}, got {name!r}"
        )


def parse(body: bytes, only: Container[int] | None = None) -> list[Entry]:
    """Return the entries of a manifest, without blank lines. Raises `ManifestError` as `each` does.

    :param only: numbers of the lines to read; None: all lines
    """
    return each(body, lambda entry: entry, only)


def each(body: bytes, read: Callable[[Entry], Read], only: Container[int] | None = None) -> list[Read]:
    """Apply `read` to each entry of a manifest. The entries are not kept, so large manifests fit into memory.

    Raises `ManifestError` with the numbers of all lines that are invalid JSON, do not have exactly one valid
    source, are too long, repeat the source of an earlier line, or for which `read` raises `ValueError`.

    :param only: numbers of the lines to read; None: all lines
    """
    lines = enumerate(lines_of(body), 1)
    first: dict[str, int] = {}

    def entry(numbered: tuple[int, bytes]) -> Read:
        number, line = numbered
        found = _entry(number, line)
        if first.setdefault(found.item, number) != number:
            raise ValueError(f"repeats the {found.source_field} of line {first[found.item]}")
        return read(found)

    return _each(
        entry,
        (
            (number, (number, line))
            for number, line in lines
            if line.strip() and (only is None or number in only)
        ),
    )


def lines_of(body: bytes) -> list[bytes]:
    """Return the lines of a manifest, including blank lines, without a byte order mark."""
    return body.removeprefix(BYTE_ORDER_MARK).split(b"\n")


def labels_of(entries: Iterable[Entry], attribute: str, classes: Sequence[str]) -> dict[str, Label]:
    """Return the label of each entry, by item.

    Raises `ManifestError` with the numbers of all lines whose label or metadata is missing or invalid.
    """
    whole = list(entries)
    read = _each(lambda entry: _label(entry, attribute, classes), ((each.line, each) for each in whole))
    return {entry.item: label for entry, label in zip(whole, read, strict=True)}


def labeled(entries: Iterable[Entry], attribute: str, labels: Mapping[str, Label]) -> bytes:
    """Return a manifest of the labeled entries. An earlier label is replaced."""
    lines = (
        {
            **_without(entry, attribute),
            attribute: labels[entry.item].choice,
            attribute + METADATA: _metadata(entry, labels[entry.item]),
        }
        for entry in entries
        if entry.item in labels
    )
    return _written(lines)


def unlabeled(entries: Iterable[Entry], attribute: str, labels: Mapping[str, Label]) -> bytes:
    """Return a manifest of the unlabeled entries, which can be the input of another run."""
    return _written(_without(entry, attribute) for entry in entries if entry.item not in labels)


def version(labels: Mapping[str, Label]) -> str:
    """Return the version of a set of labels: a hash of the items and their classes.

    Confidence, job, date and the order of the lines do not change the version.
    """
    return version_of((item, label.choice, label.class_name) for item, label in labels.items())


def version_of(labels: Iterable[tuple[str, int, str]]) -> str:
    """Return the version of labels, each given as item, index of the class and name of the class."""
    rows = sorted(labels)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def _each(read: Callable[[Any], Read], numbered: Iterable[tuple[int, Any]]) -> list[Read]:
    """Apply `read` to each value.

    Raises `ManifestError` with the numbers of all values for which `read` raises `ValueError`.
    """
    found, problems = list[Read](), list[tuple[int, str]]()
    for number, value in numbered:
        try:
            found.append(read(value))
        except ValueError as error:
            problems.append((number, str(error)))
    if problems:
        raise ManifestError(problems)
    return found


def _entry(number: int, line: bytes) -> Entry:
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
    present = [name for name in (REFERENCE, TEXT) if name in fields]
    if len(present) != 1:
        raise ValueError(f"must have either {REFERENCE} or {TEXT}, got {'both' if present else 'neither'}")
    name = REFERENCE if REFERENCE in fields else TEXT
    source = fields[name]
    if not isinstance(source, str) or not source.strip():
        raise ValueError(f"{name} must be a text that is not empty")
    if name == REFERENCE and not S3_OBJECT.fullmatch(source):
        raise ValueError(f"{name} must be s3://BUCKET/KEY, got {source[:100]!r}")
    return Entry(number, item_of(name, source), name, source, fields)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")


def choice_of(entry: Entry, attribute: str, classes: Sequence[str]) -> int:
    """Return the index of the entry's class. Raises `ValueError` unless the metadata has the same class."""
    choice, found = _parts(entry, attribute, "class-name")
    if isinstance(choice, str) and choice.isascii() and choice.isdigit():  # AWS's example has "1"
        choice = int(choice)
    if type(choice) is not int or not 0 <= choice < len(classes):
        raise ValueError(f"{attribute} must be a whole number from 0 to {len(classes) - 1}, got {choice!r}")
    if found["class-name"] != classes[choice]:
        raise ValueError(
            f"class-name must be {classes[choice]!r}, the name of class {choice}, got {found['class-name']!r}"
        )
    return choice


def confidence_of(entry: Entry, attribute: str) -> float:
    """Return the confidence in the label's metadata. Raises `ValueError` if it is missing or invalid."""
    confidence = _parts(entry, attribute, "confidence")[1]["confidence"]
    if type(confidence) not in (int, float) or not 0 <= confidence <= 1:
        raise ValueError(f"confidence must be a number from 0 to 1, got {confidence!r}")
    return float(confidence)


def _parts(entry: Entry, attribute: str, *names: str) -> tuple[Any, dict[str, Any]]:
    """Return the value of an attribute, and its metadata.

    Raises `ValueError` if one of them is missing, or if the metadata lacks one of `names`.
    """
    for name in (attribute, attribute + METADATA):
        if name not in entry.fields:
            raise ValueError(f"has no {name}")
    found = entry.fields[attribute + METADATA]
    if not isinstance(found, dict):
        raise ValueError(f"{attribute}{METADATA} must be a JSON object")
    for name in names:
        if name not in found:
            raise ValueError(f"{attribute}{METADATA} has no {name}")
    return entry.fields[attribute], found


def _label(entry: Entry, attribute: str, classes: Sequence[str]) -> Label:
    _, found = _parts(entry, attribute, "human-annotated", "creation-date", "type", "job-name")
    choice, confidence = choice_of(entry, attribute, classes), confidence_of(entry, attribute)
    if found["human-annotated"] not in HUMAN:
        raise ValueError(f"human-annotated must be yes or no, got {found['human-annotated']!r}")
    if found["type"] not in KNOWN_TYPES:
        raise ValueError(f"type must be one of {', '.join(KNOWN_TYPES)}, got {found['type']!r}")
    try:
        created = datetime.fromisoformat(found["creation-date"])
    except (TypeError, ValueError):
        raise ValueError(f"creation-date must be a date and time, got {found['creation-date']!r}") from None
    created = created.replace(tzinfo=created.tzinfo or UTC).astimezone(UTC)
    human = HUMAN[found["human-annotated"]]
    return Label(choice, classes[choice], confidence, str(found["job-name"]), created, human)


def _metadata(entry: Entry, label: Label) -> dict[str, Any]:
    if not math.isfinite(label.confidence):
        raise ValueError(f"the confidence of line {entry.line} must be finite")
    created = label.created.astimezone(UTC).replace(tzinfo=None)
    return {
        "class-name": label.class_name,
        "confidence": round(label.confidence, 4),
        "type": TYPES[entry.source_field],
        "job-name": label.job,
        "human-annotated": "yes" if label.human else "no",
        "creation-date": created.isoformat(timespec="microseconds"),
    }


def _without(entry: Entry, attribute: str) -> dict[str, Any]:
    labels = (attribute, attribute + METADATA)
    return {name: value for name, value in entry.fields.items() if name not in labels}


def _written(lines: Iterable[Mapping[str, Any]]) -> bytes:
    return "".join(
        json.dumps(line, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n" for line in lines
    ).encode()
