"""The worker task template. Simulated labelers need the names of its classification elements.

https://docs.aws.amazon.com/sagemaker/latest/dg/sms-ui-template-reference.html
"""

from __future__ import annotations

from collections.abc import Mapping
from html.parser import HTMLParser

from local.sagemaker.labeling.manifest import REFERENCE, TEXT

ELEMENTS = {REFERENCE: "crowd-image-classifier", TEXT: "crowd-classifier"}
"""Tag of the classification element, by the object's source field."""


class _Elements(HTMLParser):
    """Parser that collects the `name` of each classification element. It treats Liquid tags as text."""

    def __init__(self) -> None:
        super().__init__()
        self.names: dict[str, str | None] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ELEMENTS.values():
            self.names.setdefault(tag, dict(attrs).get("name"))


def elements(body: bytes) -> dict[str, str]:
    """Return the names of the classification elements in a template, by HTML tag. Raises ValueError."""
    parser = _Elements()
    parser.feed(body.decode(errors="replace"))
    parser.close()
    if not parser.names:
        raise ValueError(
            f"it must have one of the elements {', '.join(ELEMENTS.values())}:"
            " the local cloud's simulated labelers cannot answer others"
        )
    found = {}
    for tag, name in parser.names.items():
        if not name:
            raise ValueError(f"its element {tag} must have a name")
        found[tag] = name
    return found


def answered(names: Mapping[str, str], field: str) -> str:
    """Return the name of the element that classifies an object with this source field.

    A template with both elements shows pictures in one and texts in the other.
    """
    return names.get(ELEMENTS[field]) or next(iter(names.values()))
