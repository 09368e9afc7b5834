"""The files of a labeling job: input manifest, label categories, lines of the output manifest.

https://docs.aws.amazon.com/sagemaker/latest/dg/sms-input-data-input-manifest.html
https://docs.aws.amazon.com/sagemaker/latest/dg/sms-data-output.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from local.sagemaker import artifacts

REFERENCE, TEXT = "source-ref", "source"
METADATA = "-metadata"
LONGEST_LINE = 100_000
LONGEST_FIELD = 20_000
"""Ground Truth's maximum lengths of a line and of a field, in characters."""
FEWEST_CATEGORIES = 2
"""Minimum for classification, the only task of simulated labelers."""


@dataclass(frozen=True)
class DataObject:
    """One line of the input manifest."""

    id: str
    """`datasetObjectId`: its position, from 0"""
    line: int
    """Line number, from 1"""
    field: str
    """`source-ref` or `source`"""
    fields: Mapping[str, Any]

    @property
    def source(self) -> str:
        return self.fields[self.field]

    @property
    def shown(self) -> dict[str, str]:
        """The object's `dataObject` in a consolidation request."""
        return {"s3Uri" if self.field == REFERENCE else "content": self.source}


def parse(body: bytes) -> list[DataObject]:
    """Return the objects of an input manifest, without blank lines.

    Raises ValueError, with the line's number, for the first invalid line.
    """
    found: list[DataObject] = []
    for number, line in enumerate(body.split(b"\n"), start=1):
        if line.strip():
            try:
                fields = _fields(line)
                field = _source_field(fields)
            except ValueError as error:
                raise ValueError(f"line {number} {error}") from None
            found.append(DataObject(str(len(found)), number, field, fields))
    if not found:
        raise ValueError("it must have at least one line")
    return found


def _fields(line: bytes) -> dict[str, Any]:
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise ValueError("must be UTF-8") from None
    if len(text) > LONGEST_LINE:
        raise ValueError(f"must have at most {LONGEST_LINE} characters, got {len(text)}")
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"must be JSON, got {text[:100]!r}") from None
    if not isinstance(fields, dict):
        raise ValueError(f"must be a JSON object, got {text[:100]!r}")
    for name, value in fields.items():
        if name.startswith("$"):
            raise ValueError(f"must have no field that begins with $, got {name}")
        size = len(value if isinstance(value, str) else json.dumps(value))
        if size > LONGEST_FIELD:
            raise ValueError(f"must have at most {LONGEST_FIELD} characters in a field, got {size} in {name}")
    return fields


def _source_field(fields: Mapping[str, Any]) -> str:
    present = [name for name in (REFERENCE, TEXT) if name in fields]
    if len(present) != 1:
        raise ValueError(f"must have either {REFERENCE} or {TEXT}, got {'both' if present else 'neither'}")
    source = fields[present[0]]
    if not isinstance(source, str) or not source:
        raise ValueError(f"must have a text in {present[0]}, got {source!r}")
    if present[0] == REFERENCE:
        try:
            artifacts.split(source)
        except ValueError:
            raise ValueError(f"must have s3://BUCKET/KEY in {REFERENCE}, got {source}") from None
    return present[0]


def categories(body: bytes) -> list[str]:
    """Return the classes of a label category configuration file. Raises ValueError."""
    try:
        names = [each["label"] for each in json.loads(body)["labels"]]
    except (ValueError, TypeError, KeyError):
        raise ValueError('it must be JSON such as {"labels": [{"label": "a"}, {"label": "b"}]}') from None
    if not all(isinstance(name, str) and name for name in names):
        raise ValueError("each label must be a text that is not empty")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"labels must differ from each other, got {', '.join(twice)} several times")
    if len(names) < FEWEST_CATEGORIES:
        raise ValueError(f"it must have at least {FEWEST_CATEGORIES} labels, got {len(names)}")
    return names


def output_line(content: Mapping[str, Any], attribute: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields to add to an object's line: `content`, with `metadata` merged into its metadata.

    :param attribute: LabelAttributeName
    """
    name = attribute + METADATA
    given = content.get(name)
    return {**content, name: {**(given if isinstance(given, Mapping) else {}), **metadata}}
