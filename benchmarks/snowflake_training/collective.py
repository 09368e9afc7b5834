"""Training with a separate process for each host, by both schemes, to check the comparison in one process.

XGBoost's hosts sum their histograms before they choose a split. So together they should train the same model
as one process that has all their rows. `side_by_side` relies on this and trains in one process, to finish
within minutes. This module trains with one process for each host, to check that the errors agree.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from pathlib import Path
from typing import Any

import xgboost
from xgboost.collective import CommunicatorContext
from xgboost.tracker import RabitTracker

from benchmarks.snowflake_training import our_scheme, sample_scheme
from snowflake_xgboost.connection import connect
from snowflake_xgboost.settings import Settings


def train(scheme: str, values: dict[str, Any], wanted: Settings, hosts: int, seed: int) -> xgboost.Booster:
    """Return the model that `hosts` processes train together. `scheme` is `ours` or `sample`."""
    # A process hangs if it is forked from a process that has used OpenMP. The fork server has not used
    # OpenMP.
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload([__name__, "scipy.stats"])
    tracker = RabitTracker(host_ip="127.0.0.1", n_workers=hosts, sortby="task")
    tracker.start()
    results = server.SimpleQueue()
    common = (scheme, values, wanted, hosts, seed, tracker.worker_args(), results)
    processes = [server.Process(target=_host, args=(rank, *common)) for rank in range(hosts)]
    for process in processes:
        process.start()
    try:
        while results.empty():
            if failed := [rank for rank, process in enumerate(processes) if process.exitcode]:
                raise RuntimeError(f"host {failed[0]} of {hosts} failed")
            time.sleep(0.1)
        return xgboost.Booster(model_file=bytearray(results.get()))
    finally:
        for process in processes:
            process.join(10)
            process.kill()


def _host(
    rank: int,
    scheme: str,
    values: dict[str, Any],
    wanted: Settings,
    hosts: int,
    seed: int,
    meeting: dict[str, Any],
    results: Any,
) -> None:
    with CommunicatorContext(dmlc_task_id=f"{rank:06d}", **meeting), connect(values) as session:
        if scheme == "ours":
            seen, preparation = our_scheme.look(session, wanted)
            batches = our_scheme.part(session, seen, preparation, rank, hosts)
            with tempfile.TemporaryDirectory() as folder:
                matrices = our_scheme.share(batches, preparation, Path(folder)).matrices(threads=1)
        else:
            drawn = sample_scheme.draw(session, wanted.table, hosts, seed=sample_scheme.seed(seed, rank))
            splits = sample_scheme.split(drawn, wanted.validation_fraction, seed)
            matrices = tuple(sample_scheme.matrix(rows, wanted.target) for rows in splits)
        booster = fit(wanted, *matrices, threads=1)
        if rank == 0:
            results.put(bytes(booster.save_raw()))


def fit(
    wanted: Settings, train: xgboost.DMatrix, validation: xgboost.DMatrix, threads: int
) -> xgboost.Booster:
    """Train with the image's parameters and early stopping on the validation rows, for both schemes."""
    booster = xgboost.train(
        wanted.booster_parameters() | {"nthread": threads},
        train,
        wanted.rounds,
        evals=[(validation, "validation")],
        early_stopping_rounds=wanted.early_stopping_rounds or None,
        verbose_eval=False,
    )
    if not wanted.early_stopping_rounds:
        booster.set_attr(best_iteration=str(wanted.rounds - 1))
    return booster
