"""The benchmark on CIFAR-10, at a tiny size."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from benchmarks.data_centric import cifar, cifar_measured


def jpeg(image: Any) -> bytes:
    content = io.BytesIO()
    Image.fromarray(image).save(content, "JPEG", quality=95)
    return content.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of noise pictures of 8 by 8 pixels, whose brightness depends on the class: 40 pictures of each
    class for training, and 10 for testing."""
    generator = np.random.default_rng(0)
    for name, each in zip(cifar.FILES, (40, 10), strict=True):
        labels = generator.permutation(np.repeat(np.arange(10), each))
        images = generator.integers(0, 20, (len(labels), 8, 8, 3)) + 20 * labels[:, None, None, None]
        table = {"label": labels, "jpeg": [jpeg(image.astype(np.uint8)) for image in images]}
        (tmp_path / name).parent.mkdir(exist_ok=True)
        pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / name)
    return tmp_path


def arguments(folder: Path, *more: str) -> list[str]:
    return [
        *("--data", str(folder), "--pictures", "300", "--fractions", "0.5", "0.1", "--threads", "1"),
        *("--model", "small", "--fast-model", "small", "--epochs", "4", "--fast-epochs", "2"),
        *("--seeds", "1", "--first-seed", "0", "--set", "interval=2", *more),
    ]


def test_table_has_runs_with_epochs_and_published_figures(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # when
    more = "--json", str(tmp_path / "out.json"), "--runs", str(tmp_path / "runs.jsonl")
    assert cifar_measured.main(arguments(folder, *more)) == 0
    # then the table has a row for each run
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[:4] for line in lines if line[1:2] == ["small"]] == [
        ["full", "small", "1", "4"],
        ["fewer_epochs", "small", "0.5", "2"],
        ["fewer_epochs", "small", "0.1", "1"],
        *([name, "small", part, "4"] for name in ("adaptive_random", "glister") for part in ("0.5", "0.1")),
    ]
    assert ["fast", "recipe,", "full", "small", "1", "2"] in [line[:6] for line in lines]
    # and rows with the published figures
    assert ["source,", "V100", "resnet18", "0.5", "100", "91.42", "-1.30", "0.480"] in lines
    report = json.loads((tmp_path / "out.json").read_text())
    metrics = report["metrics"]
    assert (metrics["time_ratio_full"], metrics["median_ratio_full"]) == (1, 1)
    assert 0 < metrics["time_ratio_fewer_epochs_50"] < 1
    assert metrics["epochs_fast_recipe"] == 2
    assert {"accuracy_glister_10", "median_ratio_adaptive_random_50"} <= metrics.keys()
    # and a restarted benchmark trains nothing
    assert cifar_measured.main(arguments(folder, *more)) == 0
    assert "epoch" not in capsys.readouterr().out.partition("intervals")[0]
    assert json.loads((tmp_path / "out.json").read_text())["metrics"] == metrics


def test_each_split_has_equally_many_pictures_of_each_class(folder: Path) -> None:
    data = cifar_measured.pictures(folder, 300)
    assert data.train.labels.bincount().tolist() == [27] * 10
    assert data.validation.labels.bincount().tolist() == [3] * 10
    assert data.test is not None
    assert data.test.labels.bincount().tolist() == [10] * 10
    # and the mean brightness of each picture matches its class
    means = data.train.images.float().mean((1, 2, 3))
    assert ((means - 10) / 20).round().int().tolist() == data.train.labels.tolist()


def test_wrong_hyperparameter_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit, match="hyperparameter model must be small or"):
        cifar_measured.main(arguments(folder, "--model", "large"))
    with pytest.raises(SystemExit, match="--whole needs a GPU"):
        cifar_measured.main(arguments(folder, "--whole"))
