"""Reviews: a labeler chooses between an item's given label and a suggested one, and sees why it is suggested.

A line of a review run's manifest has both labels in the field `review`:

    {"given": "dog", "suggested": "cat", "reason": "4 of the 5 nearest pictures are labeled cat",
     "neighbours": [{"source-ref": "s3://BUCKET/KEY", "label": "cat"}]}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from data_centric.core.manifests import REFERENCE, S3_OBJECT

FIELD = "review"
MOST_NEIGHBOURS = 12


@dataclass(frozen=True)
class Neighbour:
    """A picture that is similar to the reviewed picture."""

    reference: str
    """S3 address"""
    label: str
    """Name of its class"""


@dataclass(frozen=True)
class Review:
    given: str
    """Name of the item's current class"""
    suggested: str
    """Name of the suggested class"""
    reason: str
    neighbours: tuple[Neighbour, ...] = ()

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Review:
        values = json.loads(text)
        return cls(**values | {"neighbours": tuple(Neighbour(**each) for each in values["neighbours"])})


def read(found: Any) -> Review:
    """Return the review in the field `review`. Raises `ValueError` that names the invalid part."""
    if not isinstance(found, Mapping):
        raise ValueError(f"{FIELD} must be a JSON object with given, suggested and reason, got {found!r}")
    for name in ("given", "suggested", "reason"):
        if not isinstance(found.get(name), str):
            raise ValueError(f"{FIELD}.{name} must be a text, got {found.get(name)!r}")
    neighbours = found.get("neighbours", [])
    if not isinstance(neighbours, list) or len(neighbours) > MOST_NEIGHBOURS:
        raise ValueError(f"{FIELD}.neighbours must be a list of at most {MOST_NEIGHBOURS} objects")
    return Review(
        found["given"], found["suggested"], found["reason"], tuple(_neighbour(each) for each in neighbours)
    )


def _neighbour(found: Any) -> Neighbour:
    reference = found.get(REFERENCE) if isinstance(found, Mapping) else None
    if not isinstance(reference, str) or not S3_OBJECT.fullmatch(reference):
        raise ValueError(f"{FIELD}.neighbours must have {REFERENCE} s3://BUCKET/KEY, got {reference!r}")
    if not isinstance(found.get("label"), str):
        raise ValueError(f"{FIELD}.neighbours must have a label that is a text")
    return Neighbour(reference, found["label"])
