"""Input channels of the training job: every allowed format, and content that is refused."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from subset_training.data import Data, load
from subset_training.reading import Decoding
from toolkit.failure import FatalError

IMAGES = np.random.default_rng(0).integers(0, 256, (9, 8, 6, 3), np.uint8)
LABELS = ["cat", "dog", "emu"] * 3


def png(image: Any) -> bytes:
    content = io.BytesIO()
    Image.fromarray(image).save(content, "PNG")
    return content.getvalue()


def folders(folder: Path, images: Any = IMAGES, labels: Any = LABELS) -> None:
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        (folder / label).mkdir(parents=True, exist_ok=True)
        (folder / label / f"{number}.png").write_bytes(png(image))


def arrays(folder: Path, images: Any = IMAGES, labels: Any = LABELS, **more: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "part.npz", images=images, labels=np.array(labels), **more)


def parquet(folder: Path, images: Any = IMAGES, labels: Any = LABELS, name: str = "jpeg") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    contents = [png(image) for image in images]
    column = contents if name == "jpeg" else [{"bytes": each, "path": None} for each in contents]
    table = pyarrow.table({name: column, "label": labels})
    pyarrow.parquet.write_table(table, folder / "part.parquet")


def read(folder: Path, **how: Any) -> Data:
    return load(folder, Decoding(**how), 0.34)


@pytest.mark.parametrize("write", [folders, arrays, parquet])
def test_every_format_gives_the_same_examples(write: Any, tmp_path: Path) -> None:
    write(tmp_path / "train")
    write(tmp_path / "validation", IMAGES[:3], LABELS[:3])
    write(tmp_path / "test", IMAGES[3:4], LABELS[3:4])
    found = read(tmp_path)
    assert found.classes == ("cat", "dog", "emu")
    assert (len(found.train), len(found.validation), len(found.test or [])) == (9, 3, 1)
    contents = [image.transpose(2, 0, 1).tobytes() for image in IMAGES]
    for image, label in zip(found.train.images, found.train.labels.tolist(), strict=True):
        assert LABELS[contents.index(image.numpy().tobytes())] == found.classes[label]


def test_struct_of_bytes_is_read_as_a_picture(tmp_path: Path) -> None:
    parquet(tmp_path / "train", name="image")
    assert len(read(tmp_path).train) == 6


def test_split_takes_a_share_of_each_class(tmp_path: Path) -> None:
    arrays(tmp_path / "train", labels=[10, 9, 9, 9, 9, 10, 9, 9, 10])
    found, again = read(tmp_path), read(tmp_path)
    assert found.classes == ("9", "10")
    assert torch.bincount(found.validation.labels).tolist() == [2, 1]
    assert torch.bincount(found.train.labels).tolist() == [4, 2]
    assert found.digest == again.digest
    # no example is in both the training set and the validation set
    every = torch.cat([found.train.images, found.validation.images]).flatten(1)
    assert len(every.unique(dim=0)) == 9


def test_embeddings_stay_with_their_examples(tmp_path: Path) -> None:
    arrays(tmp_path / "train", embeddings=IMAGES.reshape(9, -1)[:, :2])
    found = read(tmp_path).train
    assert found.embeddings is not None
    pixels = found.images.permute(0, 2, 3, 1).flatten(1)[:, :2]
    assert torch.equal(found.embeddings, pixels.float())


def test_pictures_are_scaled_and_converted_to_grayscale(tmp_path: Path) -> None:
    folders(tmp_path / "train")
    (tmp_path / "train" / "cat" / "wide.png").write_bytes(png(np.zeros((5, 30, 3), np.uint8)))
    assert read(tmp_path, side=4, grey=True).train.images.shape[1:] == (1, 4, 4)
    with pytest.raises(
        FatalError, match="must have one size, got 3x5x30, 3x8x6; set hyperparameter side to scale them"
    ):
        read(tmp_path)


def test_unreadable_pictures_are_left_out_up_to_a_limit(tmp_path: Path) -> None:
    folders(tmp_path / "train")
    (tmp_path / "train" / "cat" / "bad.png").write_bytes(b"no picture")
    (tmp_path / "train" / "dog" / "cut.png").write_bytes(png(IMAGES[0])[:60])
    found = read(tmp_path, most_unreadable=2)
    assert sorted(found.unreadable) == ["train/cat/bad.png", "train/dog/cut.png"]
    assert len(found.train) + len(found.validation) == 9
    with pytest.raises(FatalError, match=r"at most 1 unreadable pictures .*: cat/bad.png, dog/cut.png"):
        read(tmp_path, most_unreadable=1)


def test_channel_without_a_class_is_refused_for_validation(tmp_path: Path) -> None:
    arrays(tmp_path / "train")
    arrays(tmp_path / "validation", IMAGES[:2], LABELS[:2])
    with pytest.raises(FatalError, match="validation must have an example of each class, got none of emu"):
        read(tmp_path)


def test_class_without_training_examples_is_refused(tmp_path: Path) -> None:
    arrays(tmp_path / "train")
    arrays(tmp_path / "validation", IMAGES[:4], ["cat", "dog", "emu", "yak"])
    with pytest.raises(FatalError, match="validation must have classes of channel train only, got yak"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ({}, "channel train must hold one kind of data .* got none of them"),
        ({"a.npz": b"x", "b.parquet": b"x"}, "channel train must hold one kind .* got arrays and Parquet"),
        ({"a.npz": b"x"}, "a.npz must be an .npz file of NumPy arrays"),
        ({"a.parquet": b"x"}, "a.parquet must be a Parquet file"),
        ({"a.png": png(IMAGES[0])}, "channel train: a.png must be in a folder of its class"),
        ({"cat/a.png": png(IMAGES[0])}, "channel train must have at least 2 classes, got cat"),
    ],
)
def test_channel_with_unexpected_content_is_refused(
    written: dict[str, bytes], sentence: str, tmp_path: Path
) -> None:
    (tmp_path / "train").mkdir()
    for name, content in written.items():
        (tmp_path / "train" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "train" / name).write_bytes(content)
    with pytest.raises(FatalError, match=sentence):
        read(tmp_path)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"images": IMAGES.astype(np.float32)}, r"images must be uint8 .* got float32 \[9, 8, 6, 3\]"),
        ({"labels": LABELS[:4]}, r"labels must have the shape \[9\], got \[4\]"),
        ({"labels": ["cat"] * 8 + ["dog"]}, "class dog must have at least 2 examples, .* got 1"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(given: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    arrays(tmp_path / "train", **given)
    with pytest.raises(FatalError, match=sentence):
        read(tmp_path)
