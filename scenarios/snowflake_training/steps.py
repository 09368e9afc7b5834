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

from scenarios import Figure, Progress, Report, ScenarioError, ScenarioResult, Story, aws, data
from scenarios.measuring import measure
from scenarios.snowflake_training import figures, warehouse
from scenarios.snowflake_training.job import Job, finished
from scenarios.snowflake_training.metrics import declared

HOSTS, SEEDS, ROWS_MEMORY = 2, 5, 1_000_000
WEAK = {"rounds": "5", "max_depth": "2", "early_stopping_rounds": "0"}
NO_TABLE = "GROUNDPLAN_NO_SUCH_TABLE"
ASK = 500  # rows in one request to the endpoint


def run(stack: str, out: Path, progress: Progress) -> ScenarioResult:
    """Use the deployed stack from end to end; what it makes goes below `out`.

    Needs the stack, and in `GROUNDPLAN_SNOWFLAKE` the name of a file with a Snowflake connection.
    Raises `ScenarioError` when the architecture does not do what it is for. May be run again on the
    same stack: the new model then has the last one to beat.
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
    hashes, rows = warehouse.hashed(connection, table, job.summaries[min(job.summaries)]["row_hash"])
    metrics |= {"hosts": len(job.summaries)} | reached(hashes, job.rows)
    if metrics["coverage"] < 1 or metrics["duplicate_rows"]:
        raise ScenarioError(
            f"the hosts' parts are not disjoint and complete: coverage {metrics['coverage']:.6f}, "
            f"{metrics['duplicate_rows']:.0f} rows twice"
        )
    held = held_out(hashes, rows, job, table)
    progress(f"asking the endpoint for {held.num_rows:,} held-out rows")
    service = Service(outputs["EndpointName"])
    true, predicted = (
        held[table.target].to_numpy() / table.scale,
        service.ask(held.select(table.features)) / table.scale,
    )
    metrics["validation_rmse"] = trained["validation_rmse"] / table.scale
    metrics["served_rmse"] = float(np.sqrt(np.mean((true - predicted) ** 2)))
    if trained["deployed"] and abs(metrics["served_rmse"] / metrics["validation_rmse"] - 1) > 0.005:
        raise ScenarioError(
            f"the endpoint's error is {metrics['served_rmse']:.4f} where the model's was "
            f"{metrics['validation_rmse']:.4f}: it does not serve what was trained"
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
            "Rows with a blank": f"{sum(s['rows_blank_features'] for s in job.summaries.values()):,}, kept",
            "Training job": job.name,
            "Rows by host": ", ".join(f"{s['rows_pulled']:,}" for s in job.summaries.values()),
        },
        path=trained["path"],
        figures=drawn,
        stories=stories,
    )
    artifacts = [out / "predictions.csv", out / "benchmark.json", *(figure.path for figure in drawn)]
    return ScenarioResult(metrics, declared(table), artifacts, report)


# --- the way of a model into service ---


def train(
    outputs: dict[str, str], table: data.Table, metrics: dict[str, float], progress: Progress
) -> dict[str, Any]:
    """Run the state machine and ask the endpoint once; returns the execution's output and its `path`."""
    payload = asked_for(table, record_rows="true")
    execution = aws.execute(outputs["StateMachineArn"], payload, progress, outputs["EndpointName"])
    trained = execution.succeeded()
    metrics["seconds_pipeline"] = execution.seconds
    if not trained["deployed"] and trained["champion_rmse"] is None:
        raise ScenarioError("nothing was in service, and yet the first model was not deployed")
    progress("asking the endpoint for its first prediction")
    Service(outputs["EndpointName"]).ask(table.rows.slice(0, 1).select(table.features))
    metrics["seconds_to_first_prediction"] = time.time() - execution.started
    return trained | {"path": execution.path}


def asked_for(table: data.Table, **hyperparameters: str) -> dict[str, Any]:
    """The input of an execution that trains on `table`."""
    return {
        "table": f'"{table.name}"',
        "target": table.target,
        "hosts": HOSTS,
        "hyperparameters": {"coordinates": table.coordinates, **hyperparameters},
    }


@dataclass(frozen=True)
class Service:
    """The endpoint, asked as an application would ask it."""

    endpoint: str

    def ask(self, rows: pa.Table) -> np.ndarray:
        """Predictions of `rows`, float64 (rows,). They go as CSV with a heading, a blank as nothing."""
        return np.concatenate([self._ask(rows.slice(start, ASK)) for start in range(0, rows.num_rows, ASK)])

    def _ask(self, rows: pa.Table) -> np.ndarray:
        body = io.BytesIO()
        pyarrow.csv.write_csv(rows, body)
        answer = aws.client("sagemaker-runtime").invoke_endpoint(
            EndpointName=self.endpoint, ContentType="text/csv", Accept="text/csv", Body=body.getvalue()
        )
        lines = answer["Body"].read().decode().split()
        if len(lines) != rows.num_rows:
            raise ScenarioError(f"the endpoint answered {rows.num_rows} rows by {len(lines)} predictions")
        return np.array(lines, dtype=np.float64)

    def serves(self) -> str:
        """The name of the configuration in service."""
        return aws.client("sagemaker").describe_endpoint(EndpointName=self.endpoint)["EndpointConfigName"]


# --- which rows reached the model ---


def reached(table: np.ndarray, hosts: np.ndarray) -> dict[str, float]:
    """Of the hashes in the table, the share that reached a host; of the hosts' hashes, how many are
    there more often than in the table. Rows that are equal in every column share a hash."""
    there, pulled = Counter(table.tolist()), Counter(hosts.tolist())
    return {
        "coverage": (there & pulled).total() / there.total(),
        "duplicate_rows": float((pulled - there).total()),
    }


def held_out(hashes: np.ndarray, rows: pa.Table, job: Job, table: data.Table) -> pa.Table:
    """The rows that the job kept for validation, by the split that it wrote down with the model."""
    split = job.preparation["split"]
    out = (hashes >> 32) < round(split["fraction"] * 2**31)
    held = rows.filter(pa.array(out & ~np.isnan(rows[table.target].to_numpy())))
    counted = sum(summary["rows_validation"] for summary in job.summaries.values())
    if held.num_rows != counted:
        raise ScenarioError(f"the hosts held out {counted} rows, their split means {held.num_rows}")
    return held


# --- what should not be deployed ---


def refuse_weak(
    outputs: dict[str, str],
    table: data.Table,
    service: Service,
    held: pa.Table,
    metrics: dict[str, float],
    progress: Progress,
) -> Story:
    """A candidate that is worse than the model in service is evaluated and not deployed."""
    some = held.slice(0, 20).select(table.features)
    with untouched(service, some, "a weak candidate"):
        found = aws.execute(
            outputs["StateMachineArn"], asked_for(table, **WEAK), progress, outputs["EndpointName"]
        ).succeeded()
        if found["deployed"]:
            raise ScenarioError("a candidate of five rounds was deployed over the model in service")
    metrics["weak_rmse"] = found["candidate_rmse"] / table.scale
    package = aws.client("sagemaker").describe_model_package(ModelPackageName=found["model_package_arn"])
    return Story(
        "A weaker model stays out",
        f"The same table, {WEAK['rounds']} rounds at depth {WEAK['max_depth']}.",
        f"Its error was {metrics['weak_rmse']:.3f} {table.unit} against "
        f"{found['champion_rmse'] / table.scale:.3f} of the model in service, on the same rows. "
        f"It is in the registry as {package['ModelApprovalStatus']}; the "
        "endpoint's configuration and its answers stayed as they were.",
    )


def refuse_missing(
    outputs: dict[str, str],
    table: data.Table,
    service: Service,
    held: pa.Table,
    metrics: dict[str, float],
    progress: Progress,
) -> Story:
    """A table that is not there ends the execution with a reason that names it."""
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
        "A table that is not there",
        f"The state machine was started with the table {NO_TABLE}.",
        f"After {execution.seconds:.1f} s it failed with the reason “{execution.cause}”. The model in "
        "service answered as before.",
    )


@contextmanager
def untouched(service: Service, rows: pa.Table, what: str) -> Iterator[None]:
    """What runs inside must leave the model in service as it is, its answers included."""
    config, answers = service.serves(), service.ask(rows)
    yield
    if service.serves() != config or not np.array_equal(service.ask(rows), answers):
        raise ScenarioError(f"{what} changed the model in service")


# --- beside the source's scheme ---


def connection_file() -> str:
    return os.environ["GROUNDPLAN_SNOWFLAKE"]


def benchmark(path: Path, connection: str, progress: Progress) -> dict[str, Any]:
    """Ours and the source's scheme side by side, over several seeds; returns what it measured."""
    return measure(
        "benchmarks.snowflake_training.schemes",
        path,
        progress,
        *("--hosts", str(HOSTS), "--seeds", str(SEEDS), "--rows-memory", str(ROWS_MEMORY)),
        *("--collective-rounds", "0", "--connection", connection),
    )


def compared_figures(found: dict[str, Any], turned: bool) -> dict[str, float]:
    """The benchmark's figures at this number of hosts under this scenario's names; `turned` when the
    table has coordinates, without which there is no better preparation to speak of."""
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


# --- pictures ---


def draw(
    out: Path,
    table: data.Table,
    job: Job,
    compared: dict[str, Any],
    true: np.ndarray,
    predicted: np.ndarray,
    rmse: float,
) -> list[Figure]:
    """The report's pictures, as SVG files in `out`."""
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
