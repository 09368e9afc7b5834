"""A channel's labelled pictures or table: a folder for each class, Parquet, or NumPy arrays.

    CLASS/NAME.png    a folder for each class, with pictures at any depth
    NAME.parquet      columns `label`, either `image` or `jpeg` (bytes, or a struct with `bytes`), `embedding`
    NAME.parquet      columns `label`, and any number of columns of numbers
    NAME.npz          arrays `images` [n, H, W] or [n, H, W, channels] of uint8, `labels` [n], and
                      `embeddings` [n, E]

Embeddings are optional. Several files of a kind are read in the order of their names.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from PIL import Image, ImageOps

from toolkit.failure import FatalError

from . import tables

log = logging.getLogger(__name__)

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
PICTURES = ("image", "jpeg")
"""Accepted names of the Parquet column with pictures."""
NAMED = 5
"""Maximum number of unreadable pictures named in an error."""


@dataclass(frozen=True)
class Decoding:
    """Options for decoding pictures."""

    side: int = 0
    """Side, in pixels, of the square to which pictures are scaled; 0: all must have the same size already"""
    grey: bool = False
    """Convert pictures to one channel"""
    most_unreadable: int = 0
    """Maximum number of unreadable pictures in a channel that may be skipped"""


@dataclass
class Raw:
    """Labelled examples as read from a channel."""

    images: list[Any] = field(default_factory=list)
    """Arrays [channels, H, W], uint8; a table's rows are float32 [columns, 1, 1]"""
    labels: list[str] = field(default_factory=list)
    embeddings: list[Any] = field(default_factory=list)
    """Arrays [E], float32: one for each picture, or none at all"""
    unreadable: list[str] = field(default_factory=list)
    columns: tuple[str, ...] = ()
    """Names of a table's columns; empty for pictures"""


def read(folder: Path, how: Decoding) -> Raw:
    """Read a channel. Raises `FatalError` for invalid content."""
    name = folder.name
    if not folder.is_dir():
        raise FatalError(f"channel {name} is missing")
    kinds = {
        "arrays": sorted(folder.glob("*.npz")),
        "Parquet": sorted(folder.rglob("*.parquet")),
        "pictures": sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES),
    }
    found = [kind for kind, paths in kinds.items() if paths]
    if len(found) != 1:
        raise FatalError(
            f"channel {name} must hold one kind of data (.npz, .parquet, or a folder of pictures for each"
            f" class), got {' and '.join(found) or 'none of them'}"
        )
    raw, paths = Raw(), kinds[found[0]]
    if found[0] == "arrays":
        for path in paths:
            _read_arrays(path, raw)
    elif found[0] == "Parquet":
        _read_parquet(name, paths, how, raw)
    else:
        _decode_all(name, _folders(folder, paths), how, raw)
    if not raw.images:
        raise FatalError(f"channel {name} must hold examples, got none")
    sizes = {image.shape for image in raw.images}
    if len(sizes) > 1:
        shown = ", ".join("x".join(map(str, shape)) for shape in sorted(sizes)[:3])
        raise FatalError(
            f"pictures of channel {name} must have one size, got {shown};"
            " set hyperparameter side to scale them"
        )
    if raw.embeddings and len(raw.embeddings) != len(raw.images):
        raise FatalError(f"channel {name} must have an embedding for each picture or for none")
    return raw


def _read_arrays(path: Path, raw: Raw) -> None:
    try:
        with np.load(path, allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files}
    except (OSError, ValueError, EOFError) as error:
        raise FatalError(f"{path.name} must be an .npz file of NumPy arrays: {error}") from None
    missing = " and ".join(sorted({"images", "labels"} - arrays.keys()))
    if missing:
        raise FatalError(f"{path.name} must have arrays images and labels, got no {missing}")
    images, labels = arrays["images"], arrays["labels"]
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise FatalError(
            f"{path.name}: images must be uint8 [n, H, W] or [n, H, W, channels], got {images.dtype}"
            f" {list(images.shape)}"
        )
    if labels.shape != images.shape[:1]:
        raise FatalError(f"{path.name}: labels must have the shape [{len(images)}], got {list(labels.shape)}")
    raw.images += list(images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2))
    raw.labels += [str(label) for label in labels.tolist()]
    if "embeddings" in arrays:
        raw.embeddings += list(arrays["embeddings"].astype(np.float32))


Row = tuple[str, bytes | Path, str, Any]
"""(name, file or bytes, label, embedding or None) of a picture."""


def _folders(folder: Path, paths: list[Path]) -> Iterator[Row]:
    for path in paths:
        place = path.relative_to(folder)
        if len(place.parts) < 2:
            raise FatalError(f"channel {folder.name}: {place} must be in a folder of its class")
        yield str(place), path, place.parts[0], None


def _opened(path: Path) -> pyarrow.parquet.ParquetFile:
    try:
        found = pyarrow.parquet.ParquetFile(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise FatalError(f"{path.name} must be a Parquet file: {error}") from None
    names = found.schema_arrow.names
    if tables.LABEL not in names or len(names) < 2:
        raise FatalError(
            f"{path.name} must have the column label, and {' or '.join(PICTURES)} or columns of numbers,"
            f" got {', '.join(names)}"
        )
    return found


def _read_parquet(channel: str, paths: list[Path], how: Decoding, raw: Raw) -> None:
    if set(PICTURES) & set(_opened(paths[0]).schema_arrow.names):
        _decode_all(channel, _pictures(paths), how, raw)
        return
    for path in paths:
        names, values, labels = tables.numbers(path, _opened(path))
        if raw.columns and names != raw.columns:
            raise FatalError(
                f"{path.name} must have the columns {', '.join(raw.columns)} as other files of the channel,"
                f" got {', '.join(names)}"
            )
        raw.columns = names
        raw.images += list(values[:, :, None, None])
        raw.labels += labels


def _pictures(paths: list[Path]) -> Iterator[Row]:
    for path in paths:
        table = _opened(path)
        names = table.schema_arrow.names
        picture = next((each for each in PICTURES if each in names), None)
        if picture is None:
            raise FatalError(
                f"{path.name} must have a column {' or '.join(PICTURES)} as other files of the channel,"
                f" got {', '.join(names)}"
            )
        wanted = [picture, "label", *(["embedding"] if "embedding" in names else [])]
        number = 0
        for batch in table.iter_batches(1024, columns=wanted):
            for row in batch.to_pylist():
                if row["label"] is None:
                    raise FatalError(f"{path.name} row {number} must have a label")
                content = row[picture]
                content = content.get("bytes") if isinstance(content, dict) else content
                yield f"{path.name} row {number}", content or b"", str(row["label"]), row.get("embedding")
                number += 1


def _decode_all(channel: str, rows: Iterator[Row], how: Decoding, raw: Raw) -> None:
    for name, content, label, embedding in rows:
        try:
            image = decoded(content, how)
        except Exception:  # decoders raise many types of errors for damaged files
            raw.unreadable.append(name)
            if len(raw.unreadable) > how.most_unreadable:
                raise FatalError(
                    f"channel {channel} must have at most {how.most_unreadable} unreadable pictures"
                    f" (most_unreadable), got more: {_first(raw.unreadable)}"
                ) from None
            continue
        raw.images.append(image)
        raw.labels.append(label)
        if embedding is not None:
            raw.embeddings.append(np.asarray(embedding, np.float32))
    if raw.unreadable:
        log.warning(
            "channel %s: left out %d unreadable pictures: %s",
            channel,
            len(raw.unreadable),
            _first(raw.unreadable),
        )


def _first(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")


def decoded(content: bytes | Path, how: Decoding) -> Any:
    """Return a picture as uint8 [channels, H, W]. Raises the decoder's error."""
    with Image.open(io.BytesIO(content) if isinstance(content, bytes) else content) as opened:
        picture = ImageOps.exif_transpose(opened).convert("L" if how.grey else "RGB")
    if how.side:
        picture = picture.resize((how.side, how.side), Image.Resampling.LANCZOS)
    array = np.asarray(picture)
    return array[None] if how.grey else array.transpose(2, 0, 1)
