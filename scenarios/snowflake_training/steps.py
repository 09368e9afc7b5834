"""The scenario, step by step."""

from __future__ import annotations

import csv
import io
import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from scenarios import Figure, Progress, Report, ScenarioError, ScenarioResult, Story, aws, data, keep
from scenarios.measuring import measure
from scenarios.snowflake_training import figures, warehouse
from scenarios.snowflake_training.job import Job, finished
from scenarios.snowflake_training.metrics import declared

HOSTS, SEEDS, ROWS_MEMORY = 2, 5, 1_000_000
WEAK = {"rounds": "5", "max_depth": "2", "early_stopping_rounds": "0"}
NO_TABLE = "GROUNDPLAN_NO_SUCH_TABLE"
ASK = 500  # rows in one request to the endpoint


def run(stack: str, out: Path, progress: Progress) -> ScenarioResult:
    """Run the scenario on the deployed stack. Files are written to `out`.

    The variable `GROUNDPLAN_SNOWFLAKE` must have the name of a file with a Snowflake connection. Raises
    `ScenarioError` if a check fails. May be run again on the same stack: the new model is then compared with
    the previous one.
    """
    metrics: dict[str, float] = {}
    outputs, connection = aws.outputs(stack), warehouse.connection()
    secrets = aws.client("secretsmanager")
    secrets.put_secret_value(SecretId=outputs["SecretArn"], SecretString=json.dumps(connection))
    table = data.load(progress)
    progress(f"loading {table.title} into Snowflake")
    started = time.monotonic()
    metrics["rows"] = warehouse.load(connection, table)
    metrics["seconds_load"] = time.monotonic() - started

    trained = train(outputs, table, metrics, progress)
    job = finished(trained["training_job"])
    metrics["seconds_train"] = job.seconds
    keep(out, metrics)
    hashes, rows = warehouse.hashed(connection, table, job.summaries[min(job.summaries)]["row_hash"])
    metrics |= {"hosts": len(job.summaries)} | reached(hashes, job.rows)
    if metrics["coverage"] < 1 or metrics["duplicate_rows"]:
        raise ScenarioError(
            f"the hosts' parts are not disjoint and complete: coverage {metrics['coverage']:.6f}, "
            f"{metrics['duplicate_rows']:.0f} rows twice"
        )
    held = held_out(hashes, rows, job, table)
    progress(f"requesting predictions of {held.num_rows:,} held-out rows")
    service = Service(outputs["EndpointName"])
    true, predicted = (
        held[table.target].to_numpy() / table.scale,
        service.ask(held.select(table.features)) / table.scale,
    )
    metrics["validation_rmse"] = trained["validation_rmse"] / table.scale
    metrics["served_rmse"] = float(np.sqrt(np.mean((true - predicted) ** 2)))
    keep(out, metrics)
    if trained["deployed"] and abs(metrics["served_rmse"] / metrics["validation_rmse"] - 1) > 0.005:
        raise ScenarioError(
            f"the endpoint's error is {metrics['served_rmse']:.4f}, but the trained model's error is "
            f"{metrics['validation_rmse']:.4f}: the endpoint does not serve this model"
        )
    stories = [
        refuse_weak(outputs, table, service, held, metrics, progress),
        refuse_missing(outputs, table, service, held, metrics, progress),
    ]
    compared = benchmark(out / "benchmark.json", connection_file(), progress)
    metrics |= compared_figures(compared, turned=bool(table.coordinates))

    with (out / "predictions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("true", "predicted"), *zip(true.tolist(), predicted.tolist(), strict=True)])
    drawn = draw(out, table, job, compared, true, predicted, metrics["served_rmse"])
    report = Report(
        facts={
            "Data": table.title,
            "Source": table.source,
            "Licence": table.licence,
            "Target": f"{table.target}, errors in {table.unit}",
            "Rows held out": f"{held.num_rows:,} of {table.rows.num_rows:,}",
            "Incomplete rows": f"{sum(s['rows_blank_features'] for s in job.summaries.values()):,}, kept",
            "Training job": job.name,
            "Rows by host": ", ".join(f"{s['rows_pulled']:,}" for s in job.summaries.values()),
        },
        path=trained["path"],
        figures=drawn,
        stories=stories,
    )
    artifacts = [out / "predictions.csv", out / "benchmark.json", *(figure.path for figure in drawn)]
    return ScenarioResult(metrics, declared(table), artifacts, report)


# --- training and deployment ---


def train(
    outputs: dict[str, str], table: data.Table, metrics: dict[str, float], progress: Progress
) -> dict[str, Any]:
    """Run the state machine, and invoke the endpoint once. Return the execution's output and its `path`."""
    payload = asked_for(table, record_rows="true")
    execution = aws.execute(outputs["StateMachineArn"], payload, progress, outputs["EndpointName"])
    trained = execution.succeeded()
    metrics["seconds_pipeline"] = execution.seconds
    if not trained["deployed"] and trained["champion_rmse"] is None:
        raise ScenarioError("the first model was not deployed, although no model was in service")
    progress("requesting the first prediction from the endpoint")
    Service(outputs["EndpointName"]).ask(table.rows.slice(0, 1).select(table.features))
    metrics["seconds_to_first_prediction"] = time.time() - execution.started
    return trained | {"path": execution.path}


def asked_for(table: data.Table, **hyperparameters: str) -> dict[str, Any]:
    """Return the input of an execution that trains on `table`."""
    return {
        "table": f'"{table.name}"',
        "target": table.target,
        "hosts": HOSTS,
        "hyperparameters": {"coordinates": table.coordinates, **hyperparameters},
    }


@dataclass(frozen=True)
class Service:
    """The endpoint, with calls as an application makes them."""

    endpoint: str

    def ask(self, rows: pa.Table) -> np.ndarray:
        """Return predictions of `rows`, float64 (rows,). They are sent as CSV with a header, nulls as empty
        fields."""
        return np.concatenate([self._ask(rows.slice(start, ASK)) for start in range(0, rows.num_rows, ASK)])

    def _ask(self, rows: pa.Table) -> np.ndarray:
        body = io.BytesIO()
        pyarrow.csv.write_csv(rows, body)
        answer = aws.client("sagemaker-runtime").invoke_endpoint(
            EndpointName=self.endpoint, ContentType="text/csv", Accept="text/csv", Body=body.getvalue()
        )
        lines = answer["Body"].read().decode().split()
        if len(lines) != rows.num_rows:
            raise ScenarioError(f"the endpoint must return {rows.num_rows} predictions, got {len(lines)}")
        return np.array(lines, dtype=np.float64)

    def serves(self) -> str:
        """Return the name of the configuration in service."""
        return aws.client("sagemaker").describe_endpoint(EndpointName=self.endpoint)["EndpointConfigName"]


# --- rows that the hosts read ---


def reached(table: np.ndarray, hosts: np.ndarray) -> dict[str, float]:
    """Return `coverage`, the share of the table's rows that a host read, and `duplicate_rows`.

    `duplicate_rows` is the number of rows that the hosts read in addition to those of the table. Rows are
    compared by hash; rows that are equal in all columns have the same hash.
    """
    there, pulled = Counter(table.tolist()), Counter(hosts.tolist())
    return {
        "coverage": (there & pulled).total() / there.total(),
        "duplicate_rows": float((pulled - there).total()),
    }


def held_out(hashes: np.ndarray, rows: pa.Table, job: Job, table: data.Table) -> pa.Table:
    """Return the job's validation rows, by the split that is stored with the model."""
    split = job.preparation["split"]
    out = (hashes >> 32) < round(split["fraction"] * 2**31)
    held = rows.filter(pa.array(out & ~np.isnan(rows[table.target].to_numpy())))
    counted = sum(summary["rows_validation"] for summary in job.summaries.values())
    if held.num_rows != counted:
        raise ScenarioError(
            f"the hosts held out {counted} rows, but the split in the model gives {held.num_rows}"
        )
    return held


# --- models that must not be deployed ---


def refuse_weak(
    outputs: dict[str, str],
    table: data.Table,
    service: Service,
    held: pa.Table,
    metrics: dict[str, float],
    progress: Progress,
) -> Story:
    """Train a candidate that is worse than the model in service: it must be evaluated and not deployed."""
    some = held.slice(0, 20).select(table.features)
    with untouched(service, some, "a weak candidate"):
        found = aws.execute(
            outputs["StateMachineArn"], asked_for(table, **WEAK), progress, outputs["EndpointName"]
        ).succeeded()
        if found["deployed"]:
            raise ScenarioError("a weak candidate, of five rounds, replaced the model in service")
    metrics["weak_rmse"] = found["candidate_rmse"] / table.scale
    package = aws.client("sagemaker").describe_model_package(ModelPackageName=found["model_package_arn"])
    return Story(
        "A weaker model is not deployed",
        f"The same table, {WEAK['rounds']} rounds at depth {WEAK['max_depth']}.",
        f"Its error was {metrics['weak_rmse']:.3f} {table.unit} against "
        f"{found['champion_rmse'] / table.scale:.3f} of the model in service, on the same rows. "
        f"It is in the registry as {package['ModelApprovalStatus']}; the "
        "endpoint's configuration and predictions did not change.",
    )


def refuse_missing(
    outputs: dict[str, str],
    table: data.Table,
    service: Service,
    held: pa.Table,
    metrics: dict[str, float],
    progress: Progress,
) -> Story:
    """Start an execution with a missing table: it must fail with a reason that names the table."""
    some = held.slice(0, 20).select(table.features)
    with untouched(service, some, "a missing table"):
        execution = aws.execute(
            outputs["StateMachineArn"], {"table": NO_TABLE}, progress, outputs["EndpointName"]
        )
        if execution.status != "FAILED" or NO_TABLE not in execution.cause:
            raise ScenarioError(
                f"with the table {NO_TABLE} the state machine ended {execution.status}, "
                f"and its cause does not name the table: {execution.cause!r}"
            )
    metrics["seconds_to_refuse"] = execution.seconds
    return Story(
        "A missing table",
        f"The state machine was started with the table {NO_TABLE}.",
        f"After {execution.seconds:.1f} s it failed with the reason “{execution.cause}”. The model in "
        "service returned the same predictions as before.",
    )


@contextmanager
def untouched(service: Service, rows: pa.Table, what: str) -> Iterator[None]:
    """Raise `ScenarioError` if the `with` block changes the endpoint's configuration or predictions."""
    config, answers = service.serves(), service.ask(rows)
    yield
    if service.serves() != config or not np.array_equal(service.ask(rows), answers):
        raise ScenarioError(f"{what} changed the model in service")


# --- comparison with the published scheme ---


def connection_file() -> str:
    return os.environ["GROUNDPLAN_SNOWFLAKE"]


def benchmark(path: Path, connection: str, progress: Progress) -> dict[str, Any]:
    """Compare our scheme with the published one over several seeds. Return the benchmark's results."""
    return measure(
        "benchmarks.snowflake_training.schemes",
        path,
        progress,
        *("--hosts", str(HOSTS), "--seeds", str(SEEDS), "--rows-memory", str(ROWS_MEMORY)),
        *("--collective-rounds", "0", "--connection", connection),
    )


def compared_figures(found: dict[str, Any], turned: bool) -> dict[str, float]:
    """Return the benchmark's results for `HOSTS` hosts as this scenario's metrics.

    `turned` is whether the table has coordinates. `rmse_best` needs coordinates.
    """
    at, taken = found["hosts"][str(HOSTS)], found["memory"]
    if at["coverage"] < 1 or at["duplicate_rows"]:
        raise ScenarioError(
            f"in the comparison our hosts' parts were not disjoint and complete: coverage "
            f"{at['coverage']:.6f}, {at['duplicate_rows']} rows twice"
        )
    figures = {"rows_ratio_vs_sample": at["rows_ratio_vs_sample"], "seeds": float(found["seeds"])}
    estimates = {name: at[name] for name in ("rmse", "rmse_sample_scheme", "rmse_ratio")}
    estimates["rmse_ratio_same_split"] = found["same_split"]["rmse_ratio"]
    if turned:
        estimates["rmse_best"] = found["rmse_best"]
    for name, estimate in estimates.items():
        figures |= {name: estimate["mean"], f"{name}_low": estimate["low"], f"{name}_high": estimate["high"]}
    return figures | {
        "peak_memory_ratio": taken["peak_memory_ratio"],
        "peak_memory_mib": taken["ours_mib"],
        "peak_memory_sample_scheme_mib": taken["sample_mib"],
    }


# --- figures ---


def draw(
    out: Path,
    table: data.Table,
    job: Job,
    compared: dict[str, Any],
    true: np.ndarray,
    predicted: np.ndarray,
    rmse: float,
) -> list[Figure]:
    """Draw the report's figures, as SVG files in `out`."""
    schemes = {int(count): row for count, row in compared["hosts"].items()}
    at, taken = schemes[HOSTS], compared["memory"]
    return [
        figures.predictions(out / "predictions.svg", true, predicted, table.unit, rmse),
        figures.importance(out / "importance.svg", job.metrics["importance"]),
        figures.learning(out / "learning.svg", job.metrics["learning_curve"], table.unit, table.scale),
        figures.coverage(
            out / "coverage.svg",
            {count: row["coverage"] for count, row in schemes.items()},
            {count: row["coverage_sample_scheme"] for count, row in schemes.items()},
        ),
        figures.seeds(out / "seeds.svg", at["rmse"], at["rmse_sample_scheme"], at["rmse_ratio"], table.unit),
        figures.memory(
            out / "memory.svg",
            {"Groundplan: Arrow": taken["ours_mib"], "row tuples, pandas": taken["sample_mib"]},
            taken["rows"],
        ),
    ]
