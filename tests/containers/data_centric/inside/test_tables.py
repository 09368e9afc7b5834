"""Input channels that contain tables of numbers instead of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch

from subset_training import train
from subset_training.data import Data, load
from subset_training.learner import Learner
from subset_training.loader import statistics
from subset_training.models import MLP
from subset_training.reading import Decoding
from subset_training.settings import Settings
from toolkit.failure import FatalError

LABELS = ["no", "yes"] * 30
SIGN = np.where(np.arange(60) % 2, 1.0, -1.0)
COLUMNS = {
    "height": SIGN + np.random.default_rng(0).normal(size=60) / 3 + 1000,
    "count": np.arange(60),
    "open": np.arange(60) % 3 == 0,
}


def write(folder: Path, columns: dict[str, Any], labels: Any = LABELS, name: str = "part") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(columns | {"label": labels}), folder / f"{name}.parquet")


def read(folder: Path) -> Data:
    return load(folder, Decoding(), 0.2)


def test_table_becomes_examples_of_its_numbers(tmp_path: Path) -> None:
    # given a table in two files
    halves = [{name: values[part] for name, values in COLUMNS.items()} for part in (slice(20), slice(20, 60))]
    write(tmp_path / "train", halves[0], LABELS[:20], "a")
    write(tmp_path / "train", halves[1], LABELS[20:], "b")
    # when
    data = read(tmp_path)
    # then
    assert data.columns == ("height", "count", "open")
    assert (len(data.train), len(data.validation)) == (48, 12)
    assert data.train.images.shape[1:] == (3, 1, 1)
    for row, label in zip(data.train.images[:, :, 0, 0].tolist(), data.train.labels.tolist(), strict=True):
        number = int(row[1])
        expected = [float(np.float32(values[number])) for values in COLUMNS.values()]
        assert (row, data.classes[label]) == (expected, LABELS[number])


def test_columns_are_standardized_far_from_zero(tmp_path: Path) -> None:
    write(tmp_path / "train", {"far": 1e6 + SIGN, "same": np.full(60, 7.5)})
    mean, deviation = statistics(read(tmp_path).train)
    assert mean.tolist() == [1e6, 7.5]
    assert deviation.tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize("strategy", ["glister", "milo"])
def test_run_learns_from_a_table(strategy: str, tmp_path: Path) -> None:
    write(tmp_path / "train", COLUMNS)
    settings = Settings(strategy=strategy, fraction=0.5, epochs=30, interval=5, model=MLP, batch_size=8)
    data = read(tmp_path)
    train.check_fit(settings, data)
    learner = Learner(settings, data, 0, torch.device("cpu"))
    while not learner.done:
        learner.epoch()
    assert learner.rows[-1]["validation_accuracy"] == 1


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"name": ["x"] * 60}, "part.parquet: column name must hold numbers, got string"),
        ({"height": [1.0] * 59 + [None]}, "part.parquet row 59: height must be a finite number"),
        ({"height": [1.0] * 59 + [1e300]}, "part.parquet row 59: height must be a finite number"),
        ({}, "part.parquet must have columns label, and image or jpeg or numbers, got label"),
    ],
)
def test_table_with_other_values_is_refused(columns: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    write(tmp_path / "train", columns)
    with pytest.raises(FatalError, match=sentence):
        read(tmp_path)


def test_row_without_a_label_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "train", COLUMNS, [*LABELS[:59], None])
    with pytest.raises(FatalError, match=r"part.parquet row 59 must have a label"):
        read(tmp_path)


def test_files_and_channels_must_have_the_same_columns(tmp_path: Path) -> None:
    write(tmp_path / "train", COLUMNS)
    write(tmp_path / "test", {name: COLUMNS[name] for name in ("count", "height", "open")})
    with pytest.raises(FatalError, match=r"test must have the columns of train, .* got count"):
        read(tmp_path)
    write(tmp_path / "train", {"height": SIGN}, name="second")
    with pytest.raises(FatalError, match=r"second.parquet must have the columns .* got height"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (Settings(), "model must be mlp for a table, got small"),
        (Settings(model=MLP, augment=True), "augment must be false for a table"),
    ],
)
def test_setting_for_pictures_is_refused_for_a_table(
    settings: Settings, sentence: str, tmp_path: Path
) -> None:
    write(tmp_path / "train", COLUMNS)
    with pytest.raises(FatalError, match=sentence):
        train.check_fit(settings, read(tmp_path))
