"""Evaluate two models, the candidate and the champion, on rows on which neither was trained."""

from __future__ import annotations

import logging
import math
import tempfile
from pathlib import Path

import numpy as np

from toolkit import archive, sagemaker
from toolkit.failure import FatalError

from .connection import connect, credentials
from .model import Model
from .settings import Settings
from .source import pull_held_out, survey

log = logging.getLogger(__name__)

NAMES: tuple[str, ...] = ("candidate", "champion")


def run(settings: Settings) -> None:
    """Log `candidate:rmse=` and `champion:rmse=`. Raises `FatalError` if the models cannot be compared."""
    with tempfile.TemporaryDirectory() as scratch:
        models = {name: Model.load(unpacked(name, Path(scratch) / name), settings.nthread) for name in NAMES}
    connection = connect(credentials(settings.secret))
    table = survey(connection, settings.table, settings.target)
    kinds: dict[str, str] = {}
    for name, model in models.items():
        if model.preparation.target != table.target:
            raise FatalError(f"the {name} must predict target {table.target}, got {model.preparation.target}")
        for column, kind in model.preparation.kinds.items():
            if table.kinds.get(column) != kind:
                raise FatalError(
                    f"table {table.name} must have column {column} ({kind}), which the {name} needs"
                )
            kinds[column] = kind
        if missing := set(model.preparation.split.columns) - {*table.kinds, table.target}:
            raise FatalError(
                f"could not find the rows held out from the {name}: table {table.name} must have the columns"
                f" from which they were chosen, got no {', '.join(sorted(missing))}"
            )

    squares, rows = dict.fromkeys(NAMES, 0.0), 0
    splits = [model.preparation.split for model in models.values()]
    for batch in pull_held_out(connection, table, kinds, splits):
        kept = np.isfinite(batch.target)
        encoded = {name: model.preparation.encode(batch.columns) for name, model in models.items()}
        for name, model in models.items():
            if model.preparation.blanks == "drop":
                kept &= ~np.isnan(encoded[name]).any(axis=1)
        for name, model in models.items():
            errors = model.predict(encoded[name][kept]) - batch.target[kept] if kept.any() else np.zeros(0)
            squares[name] += float(np.sum(errors**2))
        rows += int(kept.sum())
    if rows == 0:
        raise FatalError(f"no row of table {table.name} was held out from both models")
    scores = {name: math.sqrt(total / rows) for name, total in squares.items()}
    for name, score in scores.items():
        log.info("%s:rmse=%.8g", name, score)
    log.info("rows:evaluated=%d", rows)
    result = {f"{name}_rmse": score for name, score in scores.items()} | {"rows": rows}
    sagemaker.write_json(sagemaker.OUTPUT / "evaluation.json", result)


def unpacked(channel: str, into: Path) -> Path:
    """Return the folder of a channel's model, unpacked if it is a `model.tar.gz`. Raises `FatalError`."""
    folder = sagemaker.CHANNELS / channel
    for path in sorted(folder.rglob("*.tar.gz")):
        into.mkdir(parents=True, exist_ok=True)
        try:
            archive.unpack(path, into)
        except archive.ArchiveError as error:
            raise FatalError(f"could not unpack {path.name} of channel {channel}: {error}") from None
        return into
    if not folder.is_dir() or not any(folder.iterdir()):
        raise FatalError(f"channel {channel} must hold a model.tar.gz, got nothing")
    return folder
