"""The measurements of `benchmarks.snowflake_training.schemes`, which run in a separate Python environment."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import xgboost
from scipy import stats
from snowflake.connector import SnowflakeConnection

from benchmarks.snowflake_training import collective, our_scheme, sample_scheme
from benchmarks.snowflake_training.collective import fit
from scenarios import Metric, data
from snowflake_xgboost.connection import connect
from snowflake_xgboost.preparation import Preparation
from snowflake_xgboost.settings import Settings
from snowflake_xgboost.source import Batch
from tooling.table import print_table

PREFIX = "GROUNDPLAN_BENCHMARK"
TEST_FRACTION = 0.2

PLAIN: dict[str, Any] = {"max_depth": 8, "eta": 0.05, "subsample": 0.8}
PLAIN |= {"colsample_bytree": 1, "min_child_weight": 1}
"""The hyperparameters that the AWS sample tunes, with values that allow long training; otherwise defaults."""

KINDEST: dict[str, Any] = PLAIN | {"colsample_bytree": 0.8, "min_child_weight": 5}
"""The hyperparameters with which the AWS sample's scheme has its lowest error, of five sets that were tried
with 8 seeds."""

PUBLISHED: dict[str, Any] = {
    "max_depth": 5,
    "eta": 0.2,
    "gamma": 4,
    "min_child_weight": 6,
    "subsample": 0.7,
    "colsample_bytree": 1,
    "rounds": 50,
    "early_stopping_rounds": 0,
}
"""The hyperparameters of the AWS sample."""

OTHERS = {
    "same_split": "if the sample scheme holds out the same share as ours",
    "kindest": "with the hyperparameters that are best for the sample scheme",
    "published": "with the hyperparameters that the sample publishes",
}
"""Further comparisons of the schemes at the first host count."""

AT_ONCE, THREADS = 2, 1
"""Number of concurrent seeds, and threads of each: the table is too small for several threads to speed up a
tree."""

WANTED = [
    Metric("coverage", "share of the table's rows that our hosts hold together", "", "higher", 1.0),
    Metric("duplicate_rows", "rows that our hosts hold more often than the table does", "", "lower", 0),
    Metric(
        "rows_ratio_vs_sample", "distinct rows learned from, ours divided by the sample's", "", "higher", 1.3
    ),
    Metric("rmse", "our error on rows that neither scheme saw"),
    Metric("rmse_sample_scheme", "the sample's error on the same rows, same hyperparameters"),
    Metric("rmse_ratio", "our error divided by the sample's, mean of the pairs", "", "lower", 0.98),
    Metric("rmse_best", "our error with rotated coordinates too", "", "lower", 0.42),
    Metric("peak_memory_ratio", "peak memory of a pull, ours divided by the sample's", "", "lower", 0.5),
]
"""The figures at the first host count, with their bounds for California Housing."""


@dataclass(frozen=True)
class Estimate:
    """A mean over repetitions and its 95 % interval by Student's t."""

    mean: float
    low: float
    high: float
    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> Estimate:
        """Return the estimate from at least two values."""
        mean, half = statistics.fmean(values), 0.0
        if spread := statistics.stdev(values):
            half = float(stats.t.ppf(0.975, len(values) - 1)) * spread / len(values) ** 0.5
        return cls(mean, mean - half, mean + half, tuple(values))

    def __str__(self) -> str:
        return f"{self.mean:.4f} [{self.low:.4f}, {self.high:.4f}]"


@dataclass(frozen=True)
class SchemeResult:
    """Result of a scheme for one host count and seed.

    `coverage` is the share of the table's distinct rows that the hosts have. `duplicates` is the number of
    rows that the hosts have in addition to those of the table. `distinct` is the number of their distinct
    rows, `rmse` the error on the test rows."""

    coverage: float
    duplicates: int
    distinct: int
    rmse: float


Pair = tuple[SchemeResult, SchemeResult]
"""Results of our scheme and of the AWS sample's scheme, tested on the same rows."""


def say(line: str) -> None:
    print(line, flush=True)


# --- the data ---


def numbers_only(table: data.Table) -> data.Table:
    """Return the table as the AWS sample uses it: only columns of numbers, with the target in the table's
    unit."""
    rows = table.rows.select([field.name for field in table.rows.schema if pa.types.is_floating(field.type)])
    index = rows.column_names.index(table.target)
    told = pa.array(rows[table.target].to_numpy() / table.scale, from_pandas=True)
    return replace(table, rows=rows.set_column(index, table.target, told), scale=1)


def keys(columns: dict[str, np.ndarray]) -> list[bytes]:
    """Return a key of each row: the bytes of its values, missing values included."""
    values = np.column_stack([np.asarray(columns[name], dtype=np.float64) for name in sorted(columns)])
    values[np.isnan(values)] = np.nan  # the same bytes for all missing values
    return [row.tobytes() for row in values]


def of_arrow(rows: pa.Table) -> dict[str, np.ndarray]:
    return {name: rows[name].to_numpy() for name in rows.column_names}


def load(values: dict[str, Any], table: data.Table) -> None:
    """Create the table in Snowflake and load its rows as one file through a stage."""
    columns = ", ".join(f'"{name}" DOUBLE' for name in table.rows.column_names)
    with connect(values) as session, session.cursor() as cursor, tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.parquet")
        pyarrow.parquet.write_table(table.rows, path)
        cursor.execute(f"CREATE OR REPLACE TABLE {table.name} ({columns})")
        stage = f"{table.name}_FILES"  # unique: the local Snowflake shares stages between sessions
        cursor.execute(f"CREATE OR REPLACE TEMPORARY STAGE {stage}")
        cursor.execute(f"PUT 'file://{path}' @{stage} AUTO_COMPRESS=FALSE")
        cursor.execute(
            f"COPY INTO {table.name} FROM @{stage}/{path.name} FILE_FORMAT=(TYPE=PARQUET) "
            "MATCH_BY_COLUMN_NAME=CASE_INSENSITIVE"
        )


# --- one repetition ---


@dataclass(frozen=True)
class Repetition:
    """A split of the rows: `test` has the test rows, the table `table` in Snowflake the other rows."""

    seed: int
    table: str
    target: str
    held: Counter[bytes]
    test: pa.Table

    def error(self, booster: xgboost.Booster, features: np.ndarray) -> float:
        """Return the RMSE on the test rows."""
        matrix = xgboost.DMatrix(features, nthread=THREADS)
        said = booster.predict(matrix, iteration_range=(0, booster.best_iteration + 1))
        return float(np.sqrt(np.mean((said - self.test[self.target].to_numpy()) ** 2)))

    def result(self, got: Sequence[bytes], rmse: float) -> SchemeResult:
        found = Counter(got)
        if strange := len(found.keys() - self.held.keys()):
            raise RuntimeError(f"{strange} rows were read that are not in the table")
        return SchemeResult(len(found) / len(self.held), (found - self.held).total(), len(found), rmse)


def repetition(values: dict[str, Any], table: data.Table, seed: int) -> Repetition:
    order = np.random.default_rng(seed).permutation(table.rows.num_rows)
    cut = round(TEST_FRACTION * len(order))
    test, rest = table.rows.take(np.sort(order[:cut])), table.rows.take(np.sort(order[cut:]))
    name = f"{PREFIX}_{seed}"
    load(values, replace(table, name=name, rows=rest))
    return Repetition(seed, name, table.target, Counter(keys(of_arrow(rest))), test)


def ours(session: SnowflakeConnection, now: Repetition, wanted: Settings, hosts: int) -> SchemeResult:
    """Read every host's rows with the image's code, train one model on all of them, and return the result."""
    seen, preparation = our_scheme.look(session, wanted)
    parts = [list(our_scheme.part(session, seen, preparation, host, hosts)) for host in range(hosts)]
    batches: list[Batch] = list(chain.from_iterable(parts))
    got = [key for batch in batches for key in keys(_columns(batch, now.target))]
    with tempfile.TemporaryDirectory() as folder:
        training, validation = our_scheme.share(batches, preparation, Path(folder)).matrices(THREADS)
    booster = fit(wanted, training, validation, THREADS)
    return now.result(got, now.error(booster, encoded(now.test, preparation)))


def _columns(batch: Batch, target: str) -> dict[str, np.ndarray]:
    return of_arrow(batch.columns) | {target: batch.target}


def encoded(rows: pa.Table, preparation: Preparation) -> np.ndarray:
    """Return the features of rows for our model."""
    return preparation.encode(rows.select(list(preparation.kinds)))


def plain(rows: pa.Table, target: str) -> np.ndarray:
    """Return the features of rows for the AWS sample's model."""
    return np.column_stack([rows[name].to_numpy() for name in rows.column_names if name != target])


def sample(
    session: SnowflakeConnection,
    now: Repetition,
    wanted: Settings,
    hosts: int,
    held_out: float = sample_scheme.VALIDATION_FRACTION,
) -> SchemeResult:
    """Draw and split every host's rows as the AWS sample does, train one model on all, and return the
    result."""
    seeds = [sample_scheme.seed(now.seed, host) for host in range(hosts)]
    drawn = [sample_scheme.draw(session, now.table, hosts, seed) for seed in seeds]
    got = [key for frame in drawn for key in keys({name: frame[name].to_numpy() for name in frame})]
    splits = [sample_scheme.split(frame, held_out, now.seed) for frame in drawn]
    train, validation = (pd.concat(rows, ignore_index=True) for rows in zip(*splits, strict=True))
    matrices = sample_scheme.matrix(train, now.target), sample_scheme.matrix(validation, now.target)
    booster = fit(wanted, *matrices, THREADS)
    return now.result(got, now.error(booster, plain(now.test, now.target)))


# --- memory ---


def memory(
    values: dict[str, Any], connection: Path, table: data.Table, rows: int, repeats: int
) -> dict[str, float]:
    """Return the median peak memory in MiB of several pulls by each scheme, each in a new process."""
    name = f"{PREFIX}_ROWS"
    source = replace(table, name=f"{PREFIX}_SOURCE")
    load(values, source)
    copies = -(-rows // table.rows.num_rows)
    columns = ", ".join(f'h."{n}" * (1 + MOD(g.N, 97) * 1e-6) AS "{n}"' for n in table.rows.column_names)
    with connect(values) as session, session.cursor() as cursor:
        cursor.execute(
            f"CREATE OR REPLACE TABLE {name} AS SELECT {columns} FROM {source.name} h CROSS JOIN "
            f"(SELECT SEQ4() AS N FROM TABLE(GENERATOR(ROWCOUNT => {copies}))) g LIMIT {rows}"
        )
    peaks: dict[str, list[tuple[float, float]]] = {"ours": [], "sample": []}
    for turn in range(repeats):
        say(f"  memory of a pull of {rows:,} rows, {turn + 1} of {repeats}")
        started = []
        for scheme in peaks:
            command = [sys.executable, "-m", "benchmarks.snowflake_training.memory"]
            command += [scheme, name, table.target, str(connection)]
            started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        for process, found in zip(started, peaks.values(), strict=True):
            output, _ = process.communicate()
            if process.returncode:
                raise RuntimeError("a process that reads the table failed; its output is above")
            before, peak = map(float, output.split()[-2:])
            found.append((peak, peak - before))
    with connect(values) as session, session.cursor() as cursor:
        cursor.execute(f"DROP TABLE {name}")
        cursor.execute(f"DROP TABLE {source.name}")
    (ours_peak, ours_own), (sample_peak, sample_own) = (
        tuple(map(statistics.median, zip(*found, strict=True))) for found in peaks.values()
    )
    return {
        "rows": rows,
        "columns": table.rows.num_columns,
        "ours_mib": ours_peak,
        "sample_mib": sample_peak,
        "peak_memory_ratio": ours_peak / sample_peak,
        "ours_mib_over_imports": ours_own,
        "sample_mib_over_imports": sample_own,
        "ratio_over_imports": ours_own / sample_own,
    }


# --- the whole benchmark ---


def at_seed(
    values: dict[str, Any], table: data.Table, options: argparse.Namespace, seed: int
) -> dict[int | str, Pair]:
    """Return the results of both schemes at every host count. At the first host count there are also

    - "kindest" and "published": other hyperparameters for both schemes;
    - "same_split": the AWS sample's scheme with our validation fraction;
    - "best": our scheme with the image's hyperparameters and rotated coordinates."""
    now, started = repetition(values, table, seed), time.monotonic()
    chosen: dict[str, Any] = {"seed": seed} | ({"rounds": options.rounds} if options.rounds else {})
    first = options.hosts[0]

    def settings(coordinates: str = "", **more: Any) -> Settings:
        return our_scheme.settings(now.table, now.target, coordinates, **chosen | more)

    with connect(values) as session:

        def pair(wanted: Settings, hosts: int) -> Pair:
            return ours(session, now, wanted, hosts), sample(session, now, wanted, hosts)

        found: dict[int | str, Pair] = {hosts: pair(settings(**PLAIN), hosts) for hosts in options.hosts}
        found["kindest"] = pair(settings(**KINDEST), first)
        found["published"] = pair(settings(**PUBLISHED), first)
        same = settings(**PLAIN)
        found["same_split"] = found[first][0], sample(session, now, same, first, same.validation_fraction)
        found["best"] = ours(session, now, settings(table.coordinates), first), found[first][1]
        session.cursor().execute(f"DROP TABLE {now.table}")
    (mine, theirs), seconds = found[first], time.monotonic() - started
    say(
        f"  seed {seed + 1} of {options.seeds}: at {first} hosts ours {mine.rmse:.4f}, "
        f"sample {theirs.rmse:.4f} ({seconds:.0f} s)"
    )
    return found


def compared(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Return the figures of one host count over all seeds."""
    mine, theirs = zip(*pairs, strict=True)
    return {
        "coverage": min(result.coverage for result in mine),
        "coverage_sample_scheme": statistics.fmean(result.coverage for result in theirs),
        "duplicate_rows": max(result.duplicates for result in mine),
        "duplicate_rows_sample_scheme": round(statistics.fmean(result.duplicates for result in theirs)),
        "rows_ratio_vs_sample": sum(r.distinct for r in mine) / sum(r.distinct for r in theirs),
        "rmse": Estimate.of([result.rmse for result in mine]),
        "rmse_sample_scheme": Estimate.of([result.rmse for result in theirs]),
        "rmse_ratio": Estimate.of([a.rmse / b.rmse for a, b in pairs]),
    }


def check(values: dict[str, Any], table: data.Table, options: argparse.Namespace) -> dict[str, Any]:
    """Return the error with a process for each host divided by the error in one process, by scheme and host
    count."""
    found: dict[str, Any] = {"rounds": options.collective_rounds}
    now = repetition(values, table, 0)
    wanted = our_scheme.settings(
        now.table, now.target, seed=0, rounds=options.collective_rounds, early_stopping_rounds=0
    )
    with connect(values) as session:
        _, preparation = our_scheme.look(session, wanted)
        schemes: dict[str, tuple[Callable[..., SchemeResult], np.ndarray]] = {
            "ours": (ours, encoded(now.test, preparation)),
            "sample": (sample, plain(now.test, now.target)),
        }
        for hosts in options.hosts:
            for scheme, (alone, features) in schemes.items():
                say(f"  {hosts} real processes, {scheme}, {wanted.rounds} rounds")
                booster = collective.train(scheme, values, wanted, hosts, seed=0)
                apart, one = now.error(booster, features), alone(session, now, wanted, hosts).rmse
                found.setdefault(scheme, {})[hosts] = apart / one
        session.cursor().execute(f"DROP TABLE {now.table}")
    return found


def figures(report: dict[str, Any]) -> dict[str, float]:
    """Return the figures in `WANTED` at the first host count."""
    first = next(iter(report["hosts"].values()))
    known = first | report.get("memory", {}) | {"rmse_best": report["rmse_best"]}
    return {
        metric.name: value.mean if isinstance(value, Estimate) else value
        for metric in WANTED
        if (value := known.get(metric.name)) is not None
    }


def told(report: dict[str, Any], table: data.Table) -> None:
    """Print the report."""
    say(f"\n{table.title}; {report['seeds']} seeds, each with {TEST_FRACTION:.0%} of the rows for a test.")
    say(f"RMSE in {table.unit}: a mean and its 95 % interval. Two figures: ours / sample.\n")
    heads = ("hosts", "coverage", "rows twice", "rows ratio", "rmse, ours", "rmse, sample", "rmse ratio")
    rows = []
    for hosts, row in report["hosts"].items():
        coverage = f"{row['coverage']:.3f} / {row['coverage_sample_scheme']:.3f}"
        twice = f"{row['duplicate_rows']:,} / {row['duplicate_rows_sample_scheme']:,}"
        errors = (row["rmse"], row["rmse_sample_scheme"], row["rmse_ratio"])
        rows.append((hosts, coverage, twice, f"{row['rows_ratio_vs_sample']:.3f}", *errors))
    print_table(rows, heads, left=())
    first = next(iter(report["hosts"]))
    say(f"\nAt {first} hosts:")
    for name, what in OTHERS.items():
        row = report[name]
        say(f"  {what}: {row['rmse']} / {row['rmse_sample_scheme']}, ratio {row['rmse_ratio']}")
    say(f"Ours with the image's hyperparameters and rotated coordinates: {report['rmse_best']}")
    if taken := report.get("memory"):
        say(
            f"Peak memory of a pull of {taken['rows']:,} rows, {taken['columns']} columns: ours "
            f"{taken['ours_mib']:.0f} MiB, sample {taken['sample_mib']:.0f} MiB, "
            f"ratio {taken['peak_memory_ratio']:.2f}; above the memory of the imports "
            f"{taken['ours_mib_over_imports']:.0f} and {taken['sample_mib_over_imports']:.0f} MiB, "
            f"ratio {taken['ratio_over_imports']:.2f}"
        )
    if checked := report.get("collective"):
        off = max(abs(ratio - 1) for scheme in ("ours", "sample") for ratio in checked[scheme].values())
        say(
            f"A process for each host, {checked['rounds']} rounds: errors within {off:.2%} of the error in "
            "one process"
        )
    say(f"\nWanted, at {first} hosts:")
    for metric in WANTED:
        value = report["metrics"].get(metric.name)
        if value is not None and metric.bound is not None:
            sign = "at least" if metric.better == "higher" else "at most"
            say(f"  {metric.name} {value:.4g}, {sign} {metric.bound:g}: {verdict(report, metric, value)}")
            say(f"    {metric.meaning}")


def verdict(report: dict[str, Any], metric: Metric, value: float) -> str:
    if metric.reached(value):
        return "reached"
    interval = next(iter(report["hosts"].values())).get(metric.name, report.get(metric.name))
    if isinstance(interval, Estimate) and interval.low <= (metric.bound or 0) <= interval.high:
        return "NOT REACHED by the mean; the bound lies within the interval, so more seeds are needed to tell"
    return "NOT REACHED"


def plainly(value: Any) -> Any:
    """Convert an `Estimate` for JSON."""
    if isinstance(value, Estimate):
        return {"mean": value.mean, "low": value.low, "high": value.high, "values": list(value.values)}
    raise TypeError(type(value).__name__)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--hosts", type=int, nargs="+", required=True)
    for name in ("--seeds", "--rounds", "--rows-memory", "--memory-repeats", "--collective-rounds"):
        parser.add_argument(name, type=int)
    for name in ("--connection", "--json"):
        parser.add_argument(name, type=Path)
    options = parser.parse_args()
    started = time.monotonic()
    values = json.loads(options.connection.read_text())
    table = numbers_only(data.load(say))
    say(f"{table.title} ({table.source})")
    report: dict[str, Any] = {"data": table.title, "source": table.source, "seeds": options.seeds}
    if options.rows_memory:
        report["memory"] = memory(
            values, options.connection, table, options.rows_memory, options.memory_repeats
        )
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(partial(at_seed, values, table, options), range(options.seeds)))
    report["hosts"] = {hosts: compared([seed[hosts] for seed in found]) for hosts in options.hosts}
    for name, chosen in (("same_split", PLAIN), ("kindest", KINDEST), ("published", PUBLISHED)):
        report[name] = compared([seed[name] for seed in found]) | {"hyperparameters": chosen}
    report["rmse_best"] = compared([seed["best"] for seed in found])["rmse"]
    if options.collective_rounds:
        report["collective"] = check(values, table, options)
    report["metrics"] = figures(report)
    told(report, table)
    report["seconds"] = round(time.monotonic() - started, 1)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1, default=plainly) + "\n")
    say(f"\nTook {report['seconds']:.0f} s." + (f" Figures in {options.json}." if options.json else ""))


if __name__ == "__main__":
    main()
