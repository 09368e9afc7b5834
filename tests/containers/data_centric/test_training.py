"""`train` as SageMaker starts it: results, resuming, and input that it refuses."""

from __future__ import annotations

import io
import re
import signal
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from tests.support.data_centric.training_image import ended, start, start_hosts, train
from tests.support.image_jobs import Job, prepared
from tests.support.waiting import until

QUICK = {"strategy": "glister", "fraction": "0.3", "epochs": "4", "interval": "2", "threads": "1"}


def arrays(count: int, seed: int) -> dict[str, bytes]:
    """Pictures of 8 by 8 pixels: noise with a bright column, whose position is the class."""
    labels = np.arange(count) % 3
    images = np.random.default_rng(seed).integers(0, 120, (count, 8, 8), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[:, 1 + 2 * label] += 90
    content = io.BytesIO()
    np.savez(content, images=images, labels=labels)
    return {"part.npz": content.getvalue()}


CHANNELS = {"train": arrays(90, 0), "validation": arrays(30, 1), "test": arrays(30, 2)}


@pytest.fixture(scope="module")
def job(trainer: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A completed job with two seeds. Tests must not change it."""
    base = tmp_path_factory.mktemp("data_centric") / "job"
    done = train(base, trainer, QUICK | {"seeds": "0,7"}, **CHANNELS)
    assert done.code == 0, done.log
    return done


def test_job_leaves_a_row_for_each_epoch_of_each_seed(job: Job) -> None:
    rows = pyarrow.parquet.read_table(job.base / "output/data/epochs.parquet").to_pylist()
    assert [(row["seed"], row["epoch"]) for row in rows] == [(s, e) for s in (0, 7) for e in (1, 2, 3, 4)]
    assert {(row["strategy"], row["fraction"], row["examples"]) for row in rows} == {("glister", 0.3, 27)}
    assert all(0 <= row["validation_accuracy"] <= 1 for row in rows)
    # and the log has the same numbers, in the form that SageMaker's metric definitions match
    logged = re.findall(r"validation:accuracy=(\S+) training:seconds=(\S+) selection:seconds=(\S+)", job.log)
    assert [float(found[0]) for found in logged] == pytest.approx(
        [row["validation_accuracy"] for row in rows], abs=1e-6
    )
    assert [float(found[2]) for found in logged] == pytest.approx(
        [row["selection_seconds"] for row in rows], abs=1e-6
    )


def test_results_count_selection_in_the_seconds(job: Job) -> None:
    rows = pyarrow.parquet.read_table(job.base / "output/data/epochs.parquet").to_pylist()
    results = job.json("output/data/results.json")
    for run in results["runs"]:
        own = [row for row in rows if row["seed"] == run["seed"]]
        assert run["seconds"] == pytest.approx(
            sum(row["training_seconds"] + row["selection_seconds"] for row in own)
        )
        assert run["cpu_seconds"] == pytest.approx(
            sum(row["training_cpu_seconds"] + row["selection_cpu_seconds"] for row in own)
        )
        assert (run["examples"], run["selection_forwards"]) == (4 * 27, 90)
        assert run["validation_accuracy"] == own[-1]["validation_accuracy"]
        assert 0 <= run["test_accuracy"] <= 1
    card = job.json("model/card.json")
    assert (card["classes"], card["shape"], card["data"]) == (["0", "1", "2"], [1, 8, 8], results["data"])
    assert card["validation_accuracy"] == max(run["validation_accuracy"] for run in results["runs"])
    assert (job.base / "model/model.pt").stat().st_size > 10_000


def test_resumed_job_trains_the_same_model(trainer: Path, tmp_path: Path) -> None:
    # given a job that is long enough to get SIGTERM before its end, even on a busy machine
    settings = QUICK | {"seeds": "0,7", "epochs": "150"}
    job = train(tmp_path / "whole", trainer, settings, **CHANNELS)
    base = prepared(tmp_path / "job", settings, CHANNELS)
    process = start(base, trainer)
    until(lambda: "epoch=2/150" in (base / "log").read_text(), "the second epoch", process=process)
    process.send_signal(signal.SIGTERM)
    stopped = ended(base, process)
    assert (stopped.code, stopped.failure) == (0, "")
    assert not (base / "model").exists()
    # when SageMaker restarts it
    again = ended(base, start(base, trainer))
    # then the job resumes, and writes the model of an uninterrupted job
    assert again.code == 0, again.log
    assert "seed 0 continues after epoch" in again.log
    assert (base / "model/model.pt").read_bytes() == (job.base / "model/model.pt").read_bytes()


@pytest.mark.parametrize(
    ("hyperparameters", "channels", "reason"),
    [
        ({"strategy": "glitter"}, {}, "hyperparameter strategy must be full or"),
        ({}, {"validation": arrays(2, 1)}, "validation must have an example of each class, got none of 2"),
    ],
)
def test_invalid_job_fails_with_the_reason_before_training(
    hyperparameters: dict[str, str],
    channels: dict[str, dict[str, bytes]],
    reason: str,
    trainer: Path,
    tmp_path: Path,
) -> None:
    job = train(tmp_path, trainer, QUICK | hyperparameters, **CHANNELS | channels)
    assert job.code == 1
    assert reason in job.failure
    assert "epoch=" not in job.log


LONG = {"strategy": "full", "epochs": "10000", "threads": "1", "timeout": "60"}


def hosts_of(
    folder: Path, hyperparameters: dict[str, str], *channels: dict[str, dict[str, bytes]]
) -> list[Path]:
    """Prepare a folder for each host. `channels` has the input channels of each host."""
    return [prepared(folder / str(rank), hyperparameters, each) for rank, each in enumerate(channels)]


def test_job_of_two_hosts_resumes_with_one(job: Job, trainer: Path, tmp_path: Path) -> None:
    # given a job of two hosts and many seeds, whose second host gets SIGTERM
    many = QUICK | {"seeds": ",".join(map(str, [7, 0, *range(100, 198)])), "timeout": "60"}
    bases = hosts_of(tmp_path, many, CHANNELS, CHANNELS)
    (_, first), (_, second) = start_hosts(bases, trainer)
    until(lambda: "seed=7 epoch=2/4" in (bases[0] / "log").read_text(), "the second epoch", process=first)
    second.send_signal(signal.SIGTERM)
    stopped = [ended(base, process) for base, process in zip(bases, (first, second), strict=True)]
    # then both hosts stop, and only the first host has written a checkpoint
    assert [(job.code, job.failure) for job in stopped] == [(0, "")] * 2, stopped[0].log + stopped[1].log
    assert (bases[0] / "checkpoints" / "seed-7.pt").exists()
    assert "epoch=" not in stopped[1].log
    written = "checkpoints", "output", "model"
    assert not [path for name in written for path in (bases[1] / name).glob("**/*")]
    # when the first host resumes alone
    (bases[0] / "input" / "config" / "resourceconfig.json").unlink()
    prepared(bases[0], QUICK | {"seeds": "0,7"}, {})
    again = ended(bases[0], start(bases[0], trainer))
    # then the results are those of a job on one host
    assert again.code == 0, again.log
    assert "seed 7 continues after epoch" in again.log
    for run, other in zip(runs(again), runs(job), strict=True):
        for name in ("validation_loss", "validation_accuracy", "test_loss", "test_accuracy"):
            assert run[name] == pytest.approx(other[name], rel=1e-4), name


def runs(job: Job) -> list[dict[str, float]]:
    return job.json("output/data/results.json")["runs"]


@pytest.mark.parametrize("victim", [0, 1])
def test_lost_host_is_the_reason_of_the_other(victim: int, trainer: Path, tmp_path: Path) -> None:
    bases = hosts_of(tmp_path, LONG, CHANNELS, CHANNELS)
    hosts = start_hosts(bases, trainer)
    until(lambda: "epoch=2/" in (bases[0] / "log").read_text(), "the second epoch", process=hosts[0][1])
    # when a host is killed
    hosts[victim][1].kill()
    # then the other host ends with an error that names the lost host
    job = ended(bases[1 - victim], hosts[1 - victim][1])
    assert (job.code, job.failure) == (1, f"host {hosts[victim][0]} was lost; see its log"), job.log


def test_reason_of_a_failed_host_is_that_of_all_hosts(trainer: Path, tmp_path: Path) -> None:
    # given a second host whose channel lacks a class
    broken = CHANNELS | {"validation": arrays(2, 1)}
    bases = hosts_of(tmp_path, LONG, CHANNELS, broken)
    hosts = start_hosts(bases, trainer)
    jobs = [ended(base, process) for base, (_, process) in zip(bases, hosts, strict=True)]
    reason = "channel validation must have an example of each class, got none of 2"
    assert [(job.code, job.failure) for job in jobs] == [(1, reason)] * 2, jobs[0].log + jobs[1].log
