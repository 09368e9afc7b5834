"""Metrics of this scenario, with meaning, unit and bound."""

from __future__ import annotations

from dataclasses import replace

from scenarios import Metric
from scenarios.data import Table

ERROR = "{unit}"
"""Placeholder for the unit of errors, which depends on the table."""

METRICS = (
    Metric("hosts", "Instances that trained together"),
    Metric("rows", "Rows in the Snowflake table", "rows"),
    Metric(
        "coverage", "Share of the table's rows that reached a host, by their recorded hashes", "", "higher", 1
    ),
    Metric("duplicate_rows", "Rows that reached more than one host", "rows", "lower", 0),
    Metric(
        "rows_ratio_vs_sample",
        "Distinct rows that reached a host, divided by those if each host draws its own sample",
        "times",
        "higher",
        1.3,
    ),
    Metric(
        "validation_rmse",
        "Error of the deployed job's model on rows that no host trained on",
        ERROR,
        "lower",
        0.42,
    ),
    Metric(
        "served_rmse", "Error of the endpoint's predictions of rows that no host trained on", ERROR, "lower"
    ),
    Metric("rmse", "Error on rows that neither scheme saw, mean over seeds", ERROR, "lower"),
    Metric("rmse_low", "Lower end of its 95% interval", ERROR),
    Metric("rmse_high", "Upper end of its 95% interval", ERROR),
    Metric(
        "rmse_sample_scheme",
        "That error if each host draws its own sample and holds out a quarter of it, as published",
        ERROR,
        "lower",
    ),
    Metric("rmse_sample_scheme_low", "Lower end of its 95% interval", ERROR),
    Metric("rmse_sample_scheme_high", "Upper end of its 95% interval", ERROR),
    Metric(
        "rmse_ratio",
        "Error divided by the sample scheme's on the same rows, mean over seeds",
        "",
        "lower",
        0.98,
    ),
    Metric("rmse_ratio_low", "Lower end of its 95% interval"),
    Metric("rmse_ratio_high", "Upper end of its 95% interval"),
    Metric(
        "rmse_ratio_same_split",
        "That ratio if the sample scheme holds out a fifth, as ours does",
        "",
        "lower",
    ),
    Metric("rmse_ratio_same_split_low", "Lower end of its 95% interval"),
    Metric("rmse_ratio_same_split_high", "Upper end of its 95% interval"),
    Metric("rmse_best", "Error with the best preprocessing, mean over seeds", ERROR, "lower", 0.42),
    Metric("rmse_best_low", "Lower end of its 95% interval", ERROR),
    Metric("rmse_best_high", "Upper end of its 95% interval", ERROR),
    Metric("seeds", "Number of seeds for each mean and interval"),
    Metric(
        "peak_memory_ratio",
        "Peak memory of reading a million rows, divided by that with row tuples and pandas",
        "",
        "lower",
        0.5,
    ),
    Metric("peak_memory_mib", "Peak memory of reading a million rows, libraries included", "MiB", "lower"),
    Metric("peak_memory_sample_scheme_mib", "Peak memory with row tuples and pandas", "MiB", "lower"),
    Metric("seconds_load", "Time to load the table into Snowflake", "s", "lower"),
    Metric("seconds_train", "Duration of the training job, as SageMaker reports it", "s", "lower"),
    Metric(
        "seconds_pipeline", "Duration of the state machine: train, evaluate, register, deploy", "s", "lower"
    ),
    Metric(
        "seconds_to_first_prediction",
        "Time from the start of the state machine to the endpoint's first prediction, cold start included",
        "s",
        "lower",
    ),
    Metric("seconds_to_refuse", "Time from a start with a missing table to the failure", "s", "lower"),
    Metric("weak_rmse", "Error of the candidate that was trained to be weak", ERROR),
)

CALIFORNIA = ("validation_rmse", "rmse_ratio", "rmse_best")
"""Metrics whose bounds apply to California Housing only."""


def declared(table: Table) -> tuple[Metric, ...]:
    """Return the metrics with this table's unit, and only with bounds that apply to it."""
    return tuple(
        replace(
            metric,
            # an error of 0.4 with the unit $100,000 is shown as 0.4 times $100,000
            unit=metric.unit.replace(ERROR, table.unit if table.scale == 1 else f"× {table.unit}"),  # noqa: RUF001
            bound=None if metric.name in CALIFORNIA and table.name != "CALIFORNIA_HOUSING" else metric.bound,
        )
        for metric in METRICS
    )
