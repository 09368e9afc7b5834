"""Pictures that a model learns in two epochs: noise with a bright column, whose position is the class."""

from __future__ import annotations

import io
import json

import numpy as np

CLASSES = ("left", "middle", "right")


def arrays(count: int, seed: int) -> bytes:
    """Return an .npz file of `count` pictures of 8 by 8 pixels; their classes alternate."""
    labels = np.arange(count) % len(CLASSES)
    images = np.random.default_rng(seed).integers(0, 120, (count, 8, 8), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[:, 1 + 2 * label] += 90
    content = io.BytesIO()
    np.savez(content, images=images, labels=labels)
    return content.getvalue()


def manifest(count: int, seed: int) -> bytes:
    """Return a manifest with the labels of the pictures that `arrays` returns; the label attribute is
    `column`."""
    lines = [
        {
            "source-ref": f"s3://pictures/{seed}/{number}.png",
            "column": number % len(CLASSES),
            "column-metadata": {
                "class-name": CLASSES[number % len(CLASSES)],
                "confidence": 1,
                "type": "groundtruth/image-classification",
                "job-name": "columns",
                "human-annotated": "yes",
                "creation-date": "2026-11-30T04:00:00.000000",
            },
        }
        for number in range(count)
    ]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()
