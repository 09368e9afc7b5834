"""The tests in this folder run with the packages of the image `label_quality`: see `../test_inside.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from label_quality.examples import Examples
from label_quality.manifests import Line

NAMES = ("cat", "dog", "owl")
MakeExamples = Callable[[Any, Sequence[int]], Examples]


def line(number: int, choice: int) -> Line:
    choice = int(choice)  # json cannot encode NumPy's integers
    metadata = {"class-name": NAMES[choice], "confidence": 0.5, "human-annotated": "yes", "job-name": "zoo"}
    source = f"s3://zoo/{number}.png"
    fields = {"source-ref": source, "animal": choice, "animal-metadata": metadata, "other": number}
    return Line("source-ref", source, choice, NAMES[choice], fields)


@pytest.fixture
def make_examples() -> MakeExamples:
    """Return a function that makes examples from labels and grayscale pictures [n, side, side]."""

    def make(pixels: Any, labels: Sequence[int]) -> Examples:
        pictures = np.asarray(pixels, np.uint8)[..., None]
        return Examples(
            [line(number, choice) for number, choice in enumerate(labels)],
            pictures.reshape(len(pictures), -1).astype(np.float32) / 255,
            (),
            pictures,
            [picture.tobytes() for picture in pictures],
            (),
        )

    return make


@pytest.fixture
def clusters() -> tuple[Any, Any]:
    """Points [90, 4] in three clusters, and the cluster number of each point [90]."""
    generator = np.random.default_rng(0)
    labels = np.arange(90) % 3
    return 4.0 * np.eye(4)[labels] + generator.normal(0, 0.5, (90, 4)), labels
