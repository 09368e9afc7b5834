"""All labelers' answers, in the payload format of Ground Truth's post-annotation Lambda functions.

A file is a JSON list with an object for each item:

    [{"dataObject": {"s3Uri": "s3://pictures/a.png"},
      "annotations": [{"workerId": "labeler-1", "annotationData": {"content": "{\\"label\\": \\"dog\\"}"}}]}]

https://docs.aws.amazon.com/sagemaker/latest/dg/sms-custom-templates-step3-lambda-requirements.html
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from toolkit.failure import FatalError

from .manifests import files

Answers = Mapping[str, Mapping[str, str]]
"""For each item's source and each labeler: the name of the class that the labeler chose."""


def read(folder: Path) -> Answers:
    """Return the answers in the files of a folder, without unsure answers, which have no class.

    An answer that occurs twice counts once. Raises `FatalError` for an invalid file, and if a labeler has two
    different answers for an item.
    """
    found: dict[str, dict[str, str]] = {}
    for path in files(folder):
        for place, source, labeler, label in _in_file(path):
            if found.setdefault(source, {}).setdefault(labeler, label) != label:
                raise FatalError(
                    f"{place}: labeler {labeler} must have one answer for {source}, got {label} besides"
                    f" {found[source][labeler]}"
                )
    return found


def _in_file(path: Path) -> Iterator[tuple[str, str, str, str]]:
    """Yield, for each answer, its place in the file, the item's source, the labeler and the class."""
    try:
        items = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise FatalError(f"{path.name} must be JSON: {error}") from None
    if not isinstance(items, list):
        raise FatalError(f"{path.name} must be a list of objects, got {type(items).__name__}")
    for number, item in enumerate(items):
        place = f"{path.name} item {number}"
        data = _field(place, item, "dataObject", dict)
        source = data.get("s3Uri", data.get("content"))
        if not isinstance(source, str):
            raise FatalError(
                f"{place}: dataObject must have s3Uri or content, got {', '.join(data) or 'neither'}"
            )
        for annotation in _field(place, item, "annotations", list):
            labeler = _field(place, annotation, "workerId", str)
            content = _field(place, _field(place, annotation, "annotationData", dict), "content", str)
            label = _label(place, content)
            if label is not None:
                yield place, source, labeler, label


def _field(place: str, found: Any, name: str, kind: type) -> Any:
    value = found.get(name) if isinstance(found, Mapping) else None
    if not isinstance(value, kind):
        raise FatalError(f"{place}: {name} must be a {kind.__name__}, got {value!r:.100}")
    return value


def _label(place: str, content: str) -> str | None:
    """Return the class in `{ELEMENT: {"label": CLASS}}` or `{"label": CLASS}`; None for an unsure answer."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise FatalError(f"{place}: content must be JSON: {error}") from None
    for each in (found, *(found.values() if isinstance(found, Mapping) else ())):
        if isinstance(each, Mapping) and isinstance(each.get("label"), str):
            return each["label"]
    return None
