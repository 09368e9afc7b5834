"""Pictures: digits for labeling, and MNIST for training."""

from __future__ import annotations

import io
import json
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scenarios import aws
from tooling import envs

READ = Path(__file__).with_name("read_pictures.py")
CLASSES = 10
SHOWN = 64
"""Width and height, in pixels, of a digit on the labeling page."""
TEST, VALIDATION, TRAIN = 100, 50, 350
"""Number of MNIST examples of each class, by channel."""
DIGITS = "inputs/digits"
"""Folder in the bucket that has the digits."""
ATTRIBUTE = "digit"


@dataclass(frozen=True)
class Pictures:
    digits: np.ndarray
    """uint8 [1797, 8, 8]"""
    digit_labels: np.ndarray
    """[1797]"""
    mnist: np.ndarray
    """uint8 [5000, 28, 28]"""
    mnist_labels: np.ndarray
    """[5000]"""


def read() -> Pictures:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "pictures.npz"
        subprocess.run(
            [str(envs.environment("scenarios-data_centric")), str(READ), str(out)],
            check=True,
            capture_output=True,
            text=True,
        )
        with np.load(out) as found:
            return Pictures(**{name: found[name] for name in found.files})


def upload_digits(bucket: str, pictures: Pictures) -> None:
    """Upload all digits as PNG, enlarged for the labeling page."""
    s3 = aws.client("s3")

    def put(number: int) -> None:
        body = io.BytesIO()
        enlarged = Image.fromarray(pictures.digits[number]).resize((SHOWN, SHOWN), Image.Resampling.NEAREST)
        enlarged.save(body, "PNG")
        s3.put_object(Bucket=bucket, Key=f"{DIGITS}/{number}.png", Body=body.getvalue())

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(len(pictures.digits))))


def source(bucket: str, number: int) -> str:
    """Return the URI of the picture of a digit, by its index in the data set."""
    return f"s3://{bucket}/{DIGITS}/{number}.png"


def number_of(address: str) -> int:
    """Return the index of the picture with this URI or URL."""
    return int(address.partition("?")[0].rpartition("/")[2].removesuffix(".png"))


def manifest(lines: Iterable[Mapping[str, Any]]) -> bytes:
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def labeled(bucket: str, numbers: Iterable[int], labels: Mapping[int, int] | np.ndarray) -> bytes:
    """Return a manifest of digits with labels.

    :param labels: label of each picture, by its index
    """
    return manifest(
        {
            "source-ref": source(bucket, number),
            ATTRIBUTE: int(labels[number]),
            f"{ATTRIBUTE}-metadata": {
                "class-name": str(int(labels[number])),
                "confidence": 1,
                "type": "groundtruth/image-classification",
                "job-name": "given",
                "human-annotated": "yes",
                "creation-date": "2026-01-01T00:00:00.000000",
            },
        }
        for number in numbers
    )


def labels_in(body: bytes) -> dict[int, int]:
    """Return the labels of a manifest, by the picture's index."""
    lines = [json.loads(line) for line in body.splitlines()]
    return {number_of(line["source-ref"]): int(line[ATTRIBUTE]) for line in lines}


def planted(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Replace a share of the labels by other classes, with equal probabilities.

    Returns the labels [n], and whether each of them is wrong, bool [n].
    """
    draw = np.random.default_rng(seed)
    chosen = draw.permutation(len(labels))[: round(share * len(labels))]
    found = labels.copy()
    found[chosen] = (found[chosen] + draw.integers(1, CLASSES, len(chosen))) % CLASSES
    return found, found != labels


def upload_mnist(bucket: str, dataset: str, pictures: Pictures, seed: int) -> None:
    """Upload the channels of a dataset: a random split with the same number of examples of each class."""
    draw = np.random.default_rng(seed)
    parts: dict[str, list[np.ndarray]] = {"test": [], "validation": [], "train": []}
    for label in range(CLASSES):
        members = draw.permutation(np.flatnonzero(pictures.mnist_labels == label))
        ends = np.cumsum([TEST, VALIDATION, TRAIN])
        for name, part in zip(parts, np.split(members[: ends[-1]], ends[:-1]), strict=True):
            parts[name].append(part)
    for name, numbers in parts.items():
        chosen = np.sort(np.concatenate(numbers))
        body = io.BytesIO()
        np.savez_compressed(body, images=pictures.mnist[chosen], labels=pictures.mnist_labels[chosen])
        key = f"datasets/{dataset}/{name}/part.npz"
        aws.client("s3").put_object(Bucket=bucket, Key=key, Body=body.getvalue())
