"""Checkpoints that a job resumes from, and input that it refuses before training."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from subset_training import checkpoints, train
from subset_training.data import Data, Examples
from subset_training.settings import Settings
from toolkit.failure import FatalError

KEY = checkpoints.key_of(Settings(), "abc")


def test_checkpoint_is_read_back_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "seed-0.pt"
    assert checkpoints.read(path, KEY) is None
    checkpoints.write(path, KEY, {"rows": [{"epoch": 1}], "weights": torch.arange(3)})
    found = checkpoints.read(path, KEY)
    assert found is not None
    assert (found["rows"], found["weights"].tolist()) == ([{"epoch": 1}], [0, 1, 2])
    assert [each.name for each in tmp_path.iterdir()] == ["seed-0.pt"]


@pytest.mark.parametrize(
    ("changed", "digest", "fits"),
    [
        ({"seeds": (4, 5), "checkpoint_every": 7, "threads": 3, "most_unreadable": 9}, "abc", True),
        ({"timeout": 9}, "abc", True),
        ({"learning_rate": 0.01}, "abc", False),
        ({"epochs": 101}, "abc", False),
        ({"strategy": "craig"}, "abc", False),
        ({}, "abd", False),
    ],
)
def test_checkpoint_of_other_hyperparameters_or_data_is_ignored(
    changed: dict[str, Any], digest: str, fits: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints.write(tmp_path / "seed-0.pt", KEY, {"rows": []})
    key = checkpoints.key_of(replace(Settings(), **changed), digest)
    with caplog.at_level(logging.WARNING):
        found = checkpoints.read(tmp_path / "seed-0.pt", key)
    assert (found is not None) == fits
    assert ("was made with other hyperparameters or data" in caplog.text) == (not fits)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04"])
def test_checkpoint_that_cannot_be_read_is_ignored(
    content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "seed-0.pt").write_bytes(content)
    assert checkpoints.read(tmp_path / "seed-0.pt", KEY) is None
    assert "cannot be read: training starts from the beginning" in caplog.text


@pytest.mark.parametrize(
    ("side", "changed", "least"),
    [
        (3, {}, 4),
        (4, {"augment": True}, 5),
        (4, {"recipe": "fast"}, 5),
        (7, {"model": "resnet9", "recipe": "fast"}, 8),
    ],
)
def test_pictures_that_are_too_small_are_refused(side: int, changed: dict[str, Any], least: int) -> None:
    examples = Examples(torch.zeros(2, 1, 9, side, dtype=torch.uint8), torch.arange(2))
    data = Data(examples, examples, None, ("a", "b"), ())
    with pytest.raises(FatalError, match=f"at least {least} pixels on each side, got {side}"):
        train.check_fit(replace(Settings(), **changed), data)
