"""Run before the first job of a sweep: check input and dataset, list the jobs, estimate the cost."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import asdict
from typing import Any, TypedDict

from aws_lambda_powertools.utilities.typing import LambdaContext

from data_centric.aws import sweep_desk
from data_centric.aws.sweep_desk import logger
from data_centric.core import sweep_data, sweep_files
from data_centric.core.sweep import (
    Cell,
    Rates,
    Sweep,
    SweepError,
    cells,
    check_cost,
    estimate,
    estimated,
    parse,
    tuning_config,
)


class PlanEvent(TypedDict):
    input: Any
    """Input of the execution"""
    run: str
    """Id of the execution, the same for retries"""


@logger.inject_lambda_context
def handler(event: PlanEvent, context: LambdaContext) -> dict[str, Any]:
    """Return the plan, or only `problems`, with a sentence for each error."""
    logger.append_keys(run=event["run"])
    try:
        plan = planned(event)
    except SweepError as error:
        logger.warning("the sweep is rejected", extra={"problems": error.problems})
        return {"problems": error.problems}
    logger.info("the sweep is planned", extra={"estimate": plan["estimate"]})
    return plan


def planned(event: PlanEvent) -> dict[str, Any]:
    """Return the plan, after storing it unless only an estimate was requested. Raises `SweepError`."""
    limits, settings = sweep_desk.limits(), sweep_desk.settings()
    sweep = parse(event["input"], limits)
    channels, labels = dataset(sweep)
    jobs = cells(sweep, limits)
    earlier = sweep_files.measured(sweep_desk.bucket().get(sweep_files.latest(sweep.experiment)), sweep)
    rates = Rates(settings["most_seconds"], sweep_desk.hourly_price(), **earlier)
    cost = estimate(sweep, estimated(sweep, limits), rates)
    check_cost(sweep, cost)
    folder = sweep_files.folder(sweep.experiment, event["run"])
    plan = {"sweep": asdict(sweep), "cells": [asdict(cell) for cell in jobs], "labels": labels}
    plan["began"] = time.time()
    if not sweep.estimate_only:
        text = sweep_files.document(plan | {"estimate": cost})
        sweep_desk.bucket().put(f"{folder}/{sweep_files.PLAN}", text, "application/json")
    return {
        "problems": [],
        "estimate": cost,
        "estimate_only": sweep.estimate_only,
        "folder": folder,
        "labels": labels,
        "channels": [channel(sweep, name) for name in channels],
        "cells": [asdict(cell) | {"hyperparameters": hyperparameters(sweep, cell)} for cell in jobs],
        **search(sweep),
    }


def search(sweep: Sweep) -> dict[str, Any]:
    """Return the parameters of a search's tuning job; empty without a search."""
    config = tuning_config(sweep)
    if config is None:
        return {}
    fixed = hyperparameters(sweep, Cell("search", sweep.strategies[-1], 1.0))
    del fixed["fraction"]
    return {"search": {"config": config, "hyperparameters": fixed}}


def dataset(sweep: Sweep) -> tuple[list[str], str]:
    """Return the channels of the dataset, and the version of its labels. Raises `SweepError`."""
    bucket, folder = sweep_desk.bucket(), sweep_files.dataset(sweep.dataset)
    files: dict[str, list[str]] = defaultdict(list)
    for name in bucket.names(folder):
        channel, _, rest = name.partition("/")
        if rest and channel in sweep_data.CHANNELS:
            files[channel].append(rest)
    names = [name for name in sweep_data.CHANNELS if name in files]
    found: dict[str, set[str] | None] = {}
    problems: list[str] = []
    for name in names:
        try:
            found[name] = sweep_data.classes_of(
                files[name], lambda file, name=name: bucket.opened(f"{folder}/{name}/{file}")
            )
        except ValueError as error:
            found[name] = None
            problems.append(f"channel {name}: {error}")
    problems += sweep_data.problems(sweep.dataset, found)
    labels = ""
    if sweep.attribute is not None:
        body = bucket.get(f"{folder}/{sweep_data.MANIFEST}")
        try:
            if body is None:
                raise ValueError(
                    f"dataset {sweep.dataset} must have {sweep_data.MANIFEST} if attribute is given"
                )
            labels = sweep_data.labels_version(body, sweep.attribute, found.get(sweep_data.TRAIN))
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise SweepError(problems)
    return names, labels


def hyperparameters(sweep: Sweep, cell: Cell) -> dict[str, str]:
    """Return the hyperparameters of a job, without the stack's defaults."""
    return {
        **sweep.hyperparameters,
        "strategy": cell.strategy,
        "fraction": repr(cell.fraction),
        "seeds": ",".join(map(str, sweep.seeds)),
    }


def channel(sweep: Sweep, name: str) -> dict[str, Any]:
    """Return a channel of the dataset in the format of `InputDataConfig`."""
    source = {
        "S3DataType": "S3Prefix",
        # The slash excludes folders whose name only begins with this name
        "S3Uri": sweep_desk.bucket().url(f"{sweep_files.dataset(sweep.dataset)}/{name}/"),
        "S3DataDistributionType": "FullyReplicated",
    }
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}}
