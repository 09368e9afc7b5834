"""Simulated labelers: they answer with the true class, or sometimes with another class."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from local.sagemaker.labeling.manifest import DataObject


@dataclass(frozen=True)
class Crowd:
    """The simulated labelers of a job. Jobs with the same ARN get the same answers.

    :param job: ARN, the seed of the answers
    :param region: part of the labelers' IDs
    :param classes: label categories
    :param count: number of labelers
    :param accuracy: probability of a correct answer, from 0 to 1
    :param truth_field: field of the manifest with the true class. Objects without it get random answers
    """

    job: str
    region: str
    classes: Sequence[str]
    count: int
    accuracy: float
    truth_field: str

    def __post_init__(self) -> None:
        """Raise ValueError for settings out of range."""
        if self.count < 1:
            raise ValueError(f"the setting labeling_labelers must be at least 1, got {self.count}")
        if not 0 <= self.accuracy <= 1:
            raise ValueError(f"the setting labeling_accuracy must be from 0 to 1, got {self.accuracy}")

    def check(self, objects: Sequence[DataObject]) -> None:
        """Raise ValueError, with the line's number, for a true class that is not one of the job's classes."""
        for each in objects:
            truth = each.fields.get(self.truth_field)
            if truth is not None and truth not in self.classes:
                raise ValueError(
                    f"line {each.line} must have one of the classes {', '.join(self.classes)}"
                    f" in {self.truth_field}, got {truth!r}"
                )

    def annotations(self, found: DataObject, labels: int, element: str) -> list[dict[str, Any]]:
        """Return the answers of `labels` different labelers, or of all labelers if there are fewer.

        They are in the format of `annotations` in a consolidation request.

        :param element: name of the template's element
        """
        chance = random.Random(f"{self.job}/{found.id}")  # noqa: S311 - a simulation
        chosen = chance.sample(range(self.count), min(labels, self.count))
        return [
            {
                "workerId": self._worker(labeler),
                "annotationData": {"content": json.dumps({element: {"label": self._answer(found, chance)}})},
            }
            for labeler in chosen
        ]

    def _answer(self, found: DataObject, chance: random.Random) -> str:
        truth = found.fields.get(self.truth_field)
        if truth is None:
            return chance.choice(self.classes)
        if chance.random() < self.accuracy:
            return truth
        return chance.choice([name for name in self.classes if name != truth])

    def _worker(self, labeler: int) -> str:
        unique = hashlib.sha256(f"simulated labeler {labeler}".encode()).hexdigest()[:16]
        return f"private.{self.region}.{unique}"


def response(annotations: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the content of an object's file in Ground Truth's output folder `worker-response`."""
    moment = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {
        "answers": [
            {
                "acceptanceTime": moment,
                "answerContent": json.loads(each["annotationData"]["content"]),
                "submissionTime": moment,
                "timeSpentInSeconds": 0.0,
                "workerId": each["workerId"],
            }
            for each in annotations
        ]
    }
