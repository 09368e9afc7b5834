"""The job: one training run for each seed. Writes the results of all runs and the model of the best run."""

from __future__ import annotations

import io
import json
import logging
import statistics
from typing import Any

import pyarrow
import pyarrow.parquet
import torch

from toolkit import sagemaker
from toolkit.failure import FatalError
from toolkit.sagemaker import Cluster
from toolkit.stopping import Interruption

from . import checkpoints, models
from .data import Data, load
from .hosts import CUDA, Hosts, joined
from .learner import Learner, Row
from .loader import PADDING
from .settings import Settings

log = logging.getLogger(__name__)

ROWS, LINES, RESULTS = "epochs.parquet", "epochs.jsonl", "results.json"
WEIGHTS, CARD = "model.pt", "card.json"
METRICS = (
    ("train:loss", "train_loss"),
    ("train:accuracy", "train_accuracy"),
    ("validation:loss", "validation_loss"),
    ("validation:accuracy", "validation_accuracy"),
    ("training:seconds", "training_seconds"),
    ("selection:seconds", "selection_seconds"),
)
"""Names of the metrics in the log, and of the columns with their values."""


def run(settings: Settings) -> None:
    """Train the runs of a job; write a row for each epoch, the results and the model.

    Metrics are logged as `name=value`.
    """
    settings.check()
    cluster, stop = sagemaker.cluster(), Interruption()
    if settings.threads:
        torch.set_num_threads(settings.threads)
    device = torch.device(CUDA if torch.cuda.is_available() else "cpu")
    with joined(cluster, settings.timeout, device, stop.check) as hosts:
        data = load(sagemaker.CHANNELS, settings.decoding, settings.validation_fraction)
        check_fit(settings, data)
        log.info(
            "%d training and %d validation examples of %d classes on %s, hosts: %d",
            len(data.train),
            len(data.validation),
            len(data.classes),
            device.type,
            hosts.size,
        )
        digest = data.digest
        require_same(digest, cluster, hosts)
        train(settings, data, digest, device, hosts)


def train(settings: Settings, data: Data, digest: str, device: torch.device, hosts: Hosts) -> None:
    """Train the runs of all seeds. Only the first host writes files."""
    key = checkpoints.key_of(settings, digest)
    rows: list[Row] = []
    summaries: list[dict[str, Any]] = []
    best: tuple[float, Learner] | None = None
    for seed in settings.seeds:
        learner = trained(settings, data, seed, device, key, hosts)
        rows += learner.rows
        summaries.append(summary(learner))
        accuracy = learner.rows[-1]["validation_accuracy"]
        if best is None or accuracy > best[0]:
            best = accuracy, learner
        if hosts.first:
            write_rows(rows)
    assert best is not None  # noqa: S101 - there is at least one seed
    if not hosts.first:
        return
    write_model(best[1], digest)
    results = {"settings": settings.as_dict(), "data": digest, "runs": summaries}
    results |= {"unreadable": list(data.unreadable), "device": device.type, "hosts": hosts.size}
    sagemaker.write_json(sagemaker.OUTPUT / RESULTS, results)


def require_same(digest: str, cluster: Cluster, hosts: Hosts) -> None:
    """Raise `FatalError` if any host has other data than rank 0."""
    found = hosts.gather(torch.tensor([list(bytes.fromhex(digest))])).tolist()
    others = [host for host, each in zip(cluster.hosts, found, strict=True) if each != found[0]]
    if others:
        raise FatalError(
            f"all hosts must have the same data as {cluster.hosts[0]} (S3DataDistributionType"
            f" FullyReplicated), got other data on {', '.join(others)}"
        )


def check_fit(settings: Settings, data: Data) -> None:
    """Raise `FatalError` if the model does not support the data, or if pictures are too small for it."""
    if data.columns:
        if settings.model != models.MLP:
            raise FatalError(f"hyperparameter model must be {models.MLP} for a table, got {settings.model}")
        if settings.augment:
            raise FatalError("hyperparameter augment must be false for a table, got true")
        return
    side = min(data.train.images.shape[2:])
    least = max(PADDING + 1 if settings.augmented else 0, models.LEAST_SIDE[settings.model])
    if side < least:
        raise FatalError(f"pictures must have at least {least} pixels on each side, got {side}")


def trained(
    settings: Settings, data: Data, seed: int, device: torch.device, key: str, hosts: Hosts
) -> Learner:
    """Train the run of a seed to its end, resuming from the first host's checkpoint if there is one."""
    learner = Learner(settings, data, seed, device, hosts)
    path = sagemaker.CHECKPOINTS / f"seed-{seed}.pt"
    found = checkpoints.read(path, key, hosts)
    if found:
        learner.load_state_dict(found)
        log.info("seed %d continues after epoch %d", seed, len(learner.rows))
    while not learner.done:
        row = learner.epoch()
        if not hosts.first:
            continue
        shown = " ".join(f"{name}={row[column]:.6f}" for name, column in METRICS)
        log.info("seed=%d epoch=%d/%d %s", seed, row["epoch"], learner.epochs, shown)
        every = settings.checkpoint_every
        if every and (learner.done or row["epoch"] % every == 0):
            checkpoints.write(path, key, learner.state_dict())
    return learner


def summary(learner: Learner) -> dict[str, Any]:
    """Return the results of a run. `seconds` is the time of training and selection in all epochs."""
    rows, last = learner.rows, learner.rows[-1]

    def total(name: str) -> float:
        return sum(row[name] for row in rows)

    found = {
        "seed": learner.seed,
        "epochs": len(rows),
        "examples": total("examples"),
        "selection_forwards": total("selection_forwards"),
        "validation_loss": last["validation_loss"],
        "validation_accuracy": last["validation_accuracy"],
        "best_validation_accuracy": max(row["validation_accuracy"] for row in rows),
        "seconds": total("training_seconds") + total("selection_seconds"),
        "selection_seconds": total("selection_seconds"),
        "cpu_seconds": total("training_cpu_seconds") + total("selection_cpu_seconds"),
        "selection_cpu_seconds": total("selection_cpu_seconds"),
        "median_epoch_seconds": statistics.median(
            row["training_seconds"] + row["selection_seconds"] for row in rows
        ),
    }
    if learner.data.test is not None:
        found["test_loss"], found["test_accuracy"] = learner.test(learner.data.test)
        if learner.hosts.first:
            log.info("seed=%d test:accuracy=%.6f", learner.seed, found["test_accuracy"])
    return found


def write_rows(rows: list[Row]) -> None:
    """Write a row for each epoch of the completed runs, as Parquet and as JSON lines."""
    content = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), content)
    sagemaker.write_bytes(sagemaker.OUTPUT / ROWS, content.getvalue())
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    sagemaker.write_bytes(sagemaker.OUTPUT / LINES, lines.encode())


def write_model(learner: Learner, digest: str) -> None:
    """Write the weights and the model card."""
    content = io.BytesIO()
    torch.save({name: value.cpu() for name, value in learner.model.state_dict().items()}, content)
    sagemaker.write_bytes(sagemaker.MODEL / WEIGHTS, content.getvalue())
    settings = learner.settings
    card = {
        "model": settings.model,
        "shape": list(learner.data.train.images.shape[1:]),
        "columns": list(learner.data.columns),
        "classes": list(learner.data.classes),
        "mean": learner.mean.tolist(),
        "deviation": learner.deviation.tolist(),
        "strategy": settings.strategy,
        "fraction": settings.fraction,
        "seed": learner.seed,
        "validation_accuracy": learner.rows[-1]["validation_accuracy"],
        "data": digest,
    }
    sagemaker.write_json(sagemaker.MODEL / CARD, card)
