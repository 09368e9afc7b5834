"""Training on one host of the job, from the table to the model."""

from __future__ import annotations

import json
import logging
import math
import re
import resource
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xgboost as xgb
from snowflake.connector import SnowflakeConnection
from xgboost import collective

from toolkit import sagemaker
from toolkit.failure import FatalError, Stopped
from toolkit.sagemaker import Cluster, write_bytes, write_json

from .connection import connect, credentials
from .dataset import Share, collect
from .peers import agreed, gathered, together
from .preparation import Preparation, prepare
from .settings import NOT_NEGATIVE, POSITIVE, Settings
from .source import pull, survey
from .table import Table

log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.ubj"
LEAST_ROWS = 20
"""Minimum number of rows with a target. With fewer, the validation error is meaningless."""

FREE_TO_CHANGE = ("rounds", "early_stopping_rounds", "checkpoint_every", "record_rows", "nthread", "timeout")
"""Settings that may differ between a checkpoint and the job that continues from it."""


class TrainingInterruption:
    """Handler of SIGTERM. Raises `Stopped` at once, or within `between_rounds` only sets `wanted`."""

    def __init__(self) -> None:
        self.wanted = self.patient = False
        signal.signal(signal.SIGTERM, self._handle)

    def _handle(self, *_: Any) -> None:
        self.wanted = True
        if not self.patient:
            raise Stopped

    @contextmanager
    def between_rounds(self) -> Iterator[None]:
        self.patient = True
        yield
        self.patient = False


@dataclass
class Progress:
    """The learning curve so far, which also determines early stopping after a resume.

    `train`, `validation`: RMSE over the rows of all hosts, by round. `hosts`: for each rank, RMSE over the
    host's held-out rows by round; None if the host has no such rows.
    """

    train: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    hosts: list[list[float | None]] = field(default_factory=list)

    @property
    def rounds(self) -> int:
        return len(self.validation)

    @property
    def best(self) -> int:
        """Round, from 0, with the least validation error."""
        return int(np.argmin(self.validation))

    def finished(self, settings: Settings) -> bool:
        if self.rounds == 0:
            return False
        stalled = 0 < settings.early_stopping_rounds <= self.rounds - 1 - self.best
        return stalled or self.rounds >= settings.rounds


def run(settings: Settings, cluster: Cluster) -> None:
    """Train. Raises `FatalError` with the reason, the same on all hosts, and `Stopped` after SIGTERM."""
    interruption = TrainingInterruption()
    with tempfile.TemporaryDirectory() as scratch, gathered(cluster, settings.timeout):
        started = time.monotonic()
        table, preparation, share, totals = read(settings, cluster, Path(scratch))
        pulled = time.monotonic()
        train, validation = share.matrices(settings.nthread)
        labels = share.validation.labels()
        booster, progress = begin(settings, cluster, preparation, [train, validation])
        own = progress.hosts[cluster.rank]
        with interruption.between_rounds():
            while not progress.finished(settings):
                booster.update(train, progress.rounds)
                scores = booster.eval_set([(train, "train"), (validation, "validation")], progress.rounds)
                progress.train.append(_score(scores, "train"))
                progress.validation.append(_score(scores, "validation"))
                own.append(_rmse(booster.predict(validation), labels))
                log.info(
                    "[%d] train:rmse=%.6g validation:rmse=%.6g%s",
                    progress.rounds,
                    progress.train[-1],
                    progress.validation[-1],
                    "" if own[-1] is None else f" host:rmse={own[-1]:.6g}",
                )
                # All hosts stop after the same round. Otherwise, they would wait for a host that has stopped.
                wanted = np.array([int(interruption.wanted)])
                stop = bool(collective.allreduce(wanted, collective.Op.MAX)[0])
                every = settings.checkpoint_every
                if stop or (every and progress.rounds % every == 0):
                    progress.hosts = together(cluster, lambda: own)
                    if cluster.first:
                        write_checkpoint(settings, preparation, booster, progress)
                    # Reload the model as a resumed job does. Loading restarts XGBoost's column sampling, so
                    # the trained model is the same with and without an interruption.
                    model = bytearray(booster.save_raw("ubj"))
                    booster = xgb.Booster(
                        settings.booster_parameters(), cache=[train, validation], model_file=model
                    )
                if stop:
                    log.info("stopped after round %d; a checkpoint was written", progress.rounds)
                    raise Stopped
        progress.hosts = together(cluster, lambda: own)
        summary = {
            "host": cluster.host,
            "hosts": list(cluster.hosts),
            "table": table.name,
            "at": table.at,
            "row_hash": preparation.split.hash,
            **share.counts,
            "seconds_pull": round(pulled - started, 3),
            "seconds_train": round(time.monotonic() - pulled, 3),
            "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }
        learning_curve = {"train": progress.train, "validation": progress.validation, "own": own}
        sagemaker.OUTPUT.mkdir(parents=True, exist_ok=True)
        write_json(sagemaker.OUTPUT / f"summary-{cluster.host}.json", summary)
        write_json(sagemaker.OUTPUT / f"learning-curve-{cluster.host}.json", learning_curve)
        if settings.record_rows:
            np.save(sagemaker.OUTPUT / f"rows-{cluster.host}.npy", share.hashes)
        if cluster.first:
            write_model(cluster, preparation, booster, progress, totals)
        best = progress.best
        log.info(
            "best round %d: train:rmse=%.6g validation:rmse=%.6g",
            best + 1,
            progress.train[best],
            progress.validation[best],
        )


def read(
    settings: Settings, cluster: Cluster, scratch: Path
) -> tuple[Table, Preparation, Share, dict[str, int]]:
    """Log in and read this host's rows. The first host determines the table's metadata and the preprocessing.

    Returns the table, the preprocessing, this host's rows, and the counts over all hosts.
    """
    connection = agreed(cluster, lambda: connect(credentials(settings.secret)))
    decided = together(cluster, lambda: look(connection, settings) if cluster.first else None)[0]
    assert decided  # noqa: S101 - the first host's result is never None
    table, preparation = decided
    if cluster.first:
        if table.at is None:
            log.warning("table %s has no history: changes during the read may affect the rows", table.name)
        for name, reason in preparation.left_out.items():
            log.info("column %s is not used: %s", name, reason)

    def part() -> Share:
        batches = pull(connection, table, preparation.kinds, preparation.split, cluster.rank, cluster.size)
        return collect(batches, preparation, scratch, settings.record_rows)

    share = agreed(cluster, part)
    connection.close()
    log.info("host %s: %s", cluster.host, _told(share.counts))
    counts = together(cluster, lambda: share.counts)
    totals = {name: sum(each[name] for each in counts) for name in share.counts}
    if totals["rows_pulled"] != table.rows:
        changed = f"table {table.name} had {table.rows} rows, and {totals['rows_pulled']} were read"
        if table.at:
            raise FatalError(f"{changed} at the same time: the hosts' parts must be disjoint and complete")
        log.warning("%s: the table was changed during the read", changed)
    if min(totals["rows_train"], totals["rows_validation"]) == 0 or _usable(totals) < LEAST_ROWS:
        raise FatalError(
            f"table {table.name} must have at least {LEAST_ROWS} usable rows, some for training and some for "
            f"validation, got {_usable(totals)} of {table.rows} rows, {totals['rows_validation']} of them "
            f"for validation ({totals['rows_blank_target']} rows without target {table.target}, "
            f"blanks={settings.blanks})"
        )
    if cluster.first:
        log.info("all hosts: %s", _told(totals))
        blank = totals["rows_blank_target"] + totals["rows_blank_features"]
        log.info("rows:pulled=%d rows:blank=%d", totals["rows_pulled"], blank)
    return table, preparation, share, totals


def look(connection: SnowflakeConnection, settings: Settings) -> tuple[Table, Preparation]:
    """Return the table's metadata and preprocessing. Raises `FatalError` if the table is unusable."""
    table = survey(connection, settings.table, settings.target)
    if table.labelled < LEAST_ROWS:
        raise FatalError(
            f"table {table.name} must have at least {LEAST_ROWS} rows with target {table.target}, "
            f"got {table.labelled}"
        )
    least = float(np.float32(table.least))  # in XGBoost's precision
    above, from_0 = settings.objective in POSITIVE, settings.objective in NOT_NEGATIVE
    if (above and least <= 0) or (from_0 and least < 0):
        raise FatalError(
            f"target {table.target} of table {table.name} must be {'above 0' if above else 'at least 0'} for "
            f"objective {settings.objective}, got {table.least:g}"
        )
    return table, prepare(connection, table, settings)


def begin(
    settings: Settings, cluster: Cluster, preparation: Preparation, matrices: list[xgb.DMatrix]
) -> tuple[xgb.Booster, Progress]:
    """Return, on all hosts, the model and progress of the first host's checkpoint, or a new model and
    progress."""
    found = together(cluster, lambda: read_checkpoint(settings, preparation) if cluster.first else None)[0]
    parameters = settings.booster_parameters()
    if found is None:
        return xgb.Booster(parameters, cache=matrices), Progress(hosts=[[] for _ in cluster.hosts])
    model, progress = found
    if len(progress.hosts) != cluster.size:  # with another number of hosts, each host has other rows
        progress.hosts = [[None] * progress.rounds for _ in cluster.hosts]
    log.info("continuing from the checkpoint of round %d", progress.rounds)
    return xgb.Booster(parameters, cache=matrices, model_file=bytearray(model)), progress


# --- checkpoints and results ---


def _made_with(settings: Settings, preparation: Preparation) -> str:
    """Return the settings and preprocessing that a checkpoint and a job that continues from it must share."""
    chosen = {name: value for name, value in asdict(settings).items() if name not in FREE_TO_CHANGE}
    return json.dumps([chosen, asdict(preparation)], sort_keys=True)


def write_checkpoint(
    settings: Settings, preparation: Preparation, booster: xgb.Booster, progress: Progress
) -> None:
    """Write the model and its learning curve in one file, so that they always match."""
    booster.set_attr(made_with=_made_with(settings, preparation), progress=json.dumps(asdict(progress)))
    write_bytes(sagemaker.CHECKPOINTS / CHECKPOINT, bytes(booster.save_raw("ubj")))
    booster.set_attr(made_with=None, progress=None)


def read_checkpoint(settings: Settings, preparation: Preparation) -> tuple[bytes, Progress] | None:
    path = sagemaker.CHECKPOINTS / CHECKPOINT
    if not path.exists():
        return None
    content = path.read_bytes()
    try:
        saved = xgb.Booster(model_file=bytearray(content))
    except xgb.core.XGBoostError:
        log.warning("%s cannot be read: training starts from the beginning", CHECKPOINT)
        return None
    if saved.attr("made_with") != _made_with(settings, preparation):
        log.warning(
            "%s was made with other settings or another table: training starts from the beginning", CHECKPOINT
        )
        return None
    return content, Progress(**json.loads(saved.attr("progress") or "{}"))


def write_model(
    cluster: Cluster,
    preparation: Preparation,
    booster: xgb.Booster,
    progress: Progress,
    totals: dict[str, int],
) -> None:
    """Write the model of the best round, its preprocessing and its metrics."""
    best = booster[: progress.best + 1]
    best.set_attr(made_with=None, progress=None)
    gains = best.get_score(importance_type="total_gain")
    whole = sum(gains.values()) or 1.0
    write_bytes(sagemaker.MODEL / "model.ubj", bytes(best.save_raw("ubj")))
    preparation.save(sagemaker.MODEL)
    metrics = {
        "train_rmse": progress.train[progress.best],
        "validation_rmse": progress.validation[progress.best],
        "best_round": progress.best + 1,
        "rounds": progress.rounds,
        "hosts": cluster.size,
        **totals,
        "importance": {name: gains.get(f"f{i}", 0.0) / whole for i, name in enumerate(preparation.features)},
        "learning_curve": {
            "train": progress.train,
            "validation": progress.validation,
            "hosts": progress.hosts,
        },
    }
    write_json(sagemaker.MODEL / "metrics.json", metrics)


def _told(counts: dict[str, int]) -> str:
    """Return counts as a text for the log, such as `20640 rows pulled, 16512 rows train, ...`."""
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())


def _usable(totals: dict[str, int]) -> int:
    return totals["rows_train"] + totals["rows_validation"]


def _score(scores: str, name: str) -> float:
    """Return an RMSE from a line of XGBoost, such as `[3]\ttrain-rmse:0.51\tvalidation-rmse:0.55`."""
    found = re.search(rf"{name}-rmse:(\S+)", scores)
    assert found, scores  # noqa: S101 - `booster_parameters` requests this metric
    value = float(found[1])
    if not math.isfinite(value):  # XGBoost reports the same value on all hosts, so all of them stop here
        raise FatalError(
            f"the {name} error must be finite, got {value}: the target's values or eta are too large"
        )
    return value


def _rmse(predicted: np.ndarray, labels: np.ndarray) -> float | None:
    return math.sqrt(float(np.mean((predicted.astype(np.float64) - labels) ** 2))) if len(labels) else None
