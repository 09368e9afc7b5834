"""The benchmark, run from the command line with few rows and seeds. The benchmark starts a separate local
Snowflake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.snowflake_training import schemes
from tooling import envs

HOSTS = (2, 3)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "GROUNDPLAN_SNOWFLAKE"}
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.snowflake_training.schemes", *arguments],
        cwd=envs.ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """Figures and output of a short benchmark run."""
    figures = tmp_path_factory.mktemp("benchmark") / "new" / "figures.json"
    sizes = ["--seeds", "2", "--rounds", "60", "--rows-memory", "120000", "--collective-rounds", "5"]
    sizes += ["--memory-repeats", "1"]
    finished = run("--hosts", *map(str, HOSTS), *sizes, "--json", str(figures))
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return json.loads(figures.read_text()), finished.stdout


@pytest.mark.parametrize("hosts", HOSTS)
def test_hosts_have_every_row_once_unlike_in_the_aws_sample(done: tuple, hosts: int) -> None:
    at = done[0]["hosts"][str(hosts)]
    assert (at["coverage"], at["duplicate_rows"]) == (1.0, 0)
    # In the AWS sample, each of n hosts draws a random share p of the rows. A row is in no draw with
    # probability (1 - p)^n.
    expected = 1 - (1 - round(100 / hosts) / 100) ** hosts
    assert at["coverage_sample_scheme"] == pytest.approx(expected, abs=0.01)
    assert at["duplicate_rows_sample_scheme"] > 1_000
    assert at["rows_ratio_vs_sample"] == pytest.approx(1 / expected, rel=0.02)


def test_errors_have_student_t_intervals_over_seeds(done: tuple) -> None:
    for at in (*done[0]["hosts"].values(), done[0]["published"], done[0]["same_split"]):
        for name in ("rmse", "rmse_sample_scheme", "rmse_ratio"):
            found = at[name]
            assert len(found["values"]) == 2
            assert found["mean"] == pytest.approx(sum(found["values"]) / 2)
            # Student's t with one degree of freedom: 12.706 standard errors
            half = 12.706 * abs(found["values"][0] - found["values"][1]) / 2
            assert found["high"] - found["mean"] == pytest.approx(half, rel=1e-3)
            assert found["mean"] - found["low"] == pytest.approx(half, rel=1e-3)
        pairs = zip(at["rmse"]["values"], at["rmse_sample_scheme"]["values"], strict=True)
        assert at["rmse_ratio"]["values"] == pytest.approx([ours / sample for ours, sample in pairs])


def test_models_of_both_schemes_beat_the_mean(done: tuple) -> None:
    # predicting the mean of all house values has an RMSE of 1.15 on California Housing, in units of $100,000
    best, plain = done[0]["rmse_best"]["mean"], done[0]["hosts"]["2"]
    if "California" in done[0]["data"]:
        assert best < plain["rmse"]["mean"] < 0.7
        assert plain["rmse_sample_scheme"]["mean"] < 0.7


def test_pull_by_arrow_takes_less_memory_than_by_tuples(done: tuple) -> None:
    taken = done[0]["memory"]
    assert taken["rows"] == 120_000
    assert taken["peak_memory_ratio"] == pytest.approx(taken["ours_mib"] / taken["sample_mib"])
    assert taken["peak_memory_ratio"] < 0.9
    assert taken["ratio_over_imports"] < 0.5


def test_several_processes_train_the_same_model_as_one(done: tuple) -> None:
    for scheme in ("ours", "sample"):
        for hosts in HOSTS:
            assert done[0]["collective"][scheme][str(hosts)] == pytest.approx(1, abs=0.02)


def test_missed_bound_is_printed(done: tuple) -> None:
    # sixty rounds are too few to reach the bound on `rmse_best`
    figures, said = done
    assert figures["metrics"]["rmse_best"] > 0.42
    (line,) = [line for line in said.splitlines() if line.strip().startswith("rmse_best")]
    assert "NOT REACHED" in line
    (line,) = [line for line in said.splitlines() if line.strip().startswith("coverage")]
    assert "NOT REACHED" not in line


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--hosts", "1"], "--hosts must be whole numbers from 2"),
        (["--seeds", "1"], "--seeds must be a whole number from 2"),
        (["--connection", "nowhere.json"], "there is no connection file nowhere.json"),
    ],
)
def test_invalid_option_is_refused_with_one_sentence(
    wrong: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        schemes.main(wrong)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_failed_run_leaves_no_files_and_no_server(tmp_path: Path) -> None:
    # given a run that fails right after the start of its Snowflake
    environment = os.environ | {"TMPDIR": str(tmp_path), "GROUNDPLAN_DATA": str(tmp_path)}
    environment.pop("GROUNDPLAN_SNOWFLAKE", None)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.snowflake_training.schemes", "--rows-memory", "0"],
        cwd=envs.ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    # then the benchmark reports the failure, and leaves neither its folder nor its server
    assert done.returncode != 0
    assert "there is no california_housing.csv" in done.stderr
    assert list(tmp_path.iterdir()) == []
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not [command for command in commands if str(tmp_path).encode() in command]
