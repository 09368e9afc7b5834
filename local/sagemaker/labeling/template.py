"""The worker task template, of which simulated labelers need the names of its classification elements.

https://docs.aws.amazon.com/sagemaker/latest/dg/sms-ui-template-reference.html
"""

from __future__ import annotations

from collections.abc import Mapping
from html.parser import HTMLParser

from local.sagemaker.labeling.manifest import REFERENCE, TEXT

ELEMENTS = {REFERENCE: "crowd-image-classifier", TEXT: "crowd-classifier"}
"""The element that classifies an object, by the field of its source."""


class _Elements(HTMLParser):
    """Collects the `name` of each classification element. Liquid tags are text to it."""

    def __init__(self) -> None:
        super().__init__()
        self.names: dict[str, str | None] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ELEMENTS.values():
            self.names.setdefault(tag, dict(attrs).get("name"))


def elements(body: bytes) -> dict[str, str]:
    """Return the names of the classification elements in a template, by element. Raises ValueError."""
    parser = _Elements()
    parser.feed(body.decode(errors="replace"))
    parser.close()
    if not parser.names:
        raise ValueError(
            f"it must have one of the elements {', '.join(ELEMENTS.values())}:"
            " the local cloud's simulated labelers answer no other"
        )
    found = {}
    for tag, name in parser.names.items():
        if not name:
            raise ValueError(f"its element {tag} must have a name")
        found[tag] = name
    return found


def answered(names: Mapping[str, str], field: str) -> str:
    """Return the name of the element that an object with this source field is classified in.

    A template with both elements shows pictures in the one and texts in the other.
    """
    return names.get(ELEMENTS[field]) or next(iter(names.values()))
