"""A complete training job: the rows of the hosts, their model, their files and their failures."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import time
from pathlib import Path

import numpy as np
import pytest

from snowflake_xgboost.source import pull, survey
from snowflake_xgboost.split import Split
from snowflake_xgboost.table import Table
from tests.support.processes import children
from tests.support.snowflake_training.image import (
    IMAGE,
    PATIENCE,
    QUICK,
    Host,
    Image,
    Job,
    Warehouse,
    addresses,
)
from tests.support.waiting import until
from tooling.containers import import_path
from toolkit.failure import FatalError
from toolkit.sagemaker import Cluster
from toolkit.watch import PORT, SHUTDOWN, Watch

LOSS_GRACE = 2
"""Seconds that hosts wait after the loss of a host. Shorter than the default, because tests wait for the end
of this time"""


@pytest.fixture(scope="module")
def table(warehouse: Warehouse) -> str:
    return warehouse.numbers("TRAINING", 4000)


@pytest.fixture
def given(table: str, secret: str) -> dict[str, str]:
    return {**QUICK, "secret": secret, "table": table, "target": "Y"}


def wait_for(host: Host, pattern: str) -> re.Match[str]:
    """Wait for a match in the host's log; return it."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if found := re.search(pattern, host.log):
            return found
        assert host.process.poll() is None, f"{host.failure}\n{host.log[-3000:]}"
        time.sleep(0.02)
    pytest.fail(f"{pattern} is not in the log:\n{host.log[-3000:]}")


def test_any_number_of_hosts_trains_one_model_on_all_rows(image: Image, given: dict[str, str]):
    # given the same job on 1, 2, 3 and 5 hosts
    jobs = {hosts: image.train({**given, "record_rows": "true"}, hosts).succeeded() for hosts in (1, 2, 3, 5)}
    (whole,) = (np.sort(host.rows) for host in jobs[1].hosts)
    held_out = jobs[1].metrics()["rows_validation"]
    assert whole.size == 4000
    for job in jobs.values():
        # then the hosts have each row of the table once
        parts = [host.rows for host in job.hosts]
        assert np.array_equal(np.sort(np.concatenate(parts)), whole)
        # and the hosts together hold out as many rows as a single host
        summaries = [host.output("summary") for host in job.hosts]
        assert sum(summary["rows_validation"] for summary in summaries) == held_out
        assert sum(summary["rows_train"] for summary in summaries) == 4000 - held_out
        # and the error on the holdout is the same, except for the approximation of quantile sketches
        assert job.metrics()["validation_rmse"] == pytest.approx(
            jobs[1].metrics()["validation_rmse"], rel=0.03
        )
        assert job.metrics()["hosts"] == len(job.hosts)


LATE = """
import time
from xgboost import collective
leave = collective.finalize
def late():
    time.sleep(2 * collective.get_rank())
    leave()
collective.finalize = late
"""


def test_host_with_a_late_shutdown_message_is_not_lost(image: Image, given: dict[str, str], tmp_path: Path):
    # given a second host that waits between its last round and its shutdown message
    (tmp_path / "sitecustomize.py").write_text(LATE)
    job = image.train(given, hosts=2, PYTHONPATH=os.pathsep.join((import_path(IMAGE), str(tmp_path))))
    # then the first host, to which all other hosts connect, has waited for the message
    job.succeeded()


def test_job_writes_model_metrics_and_learning_curves(image: Image, given: dict[str, str]):
    job = image.train(given, hosts=2).succeeded()
    metrics, preparation = job.metrics(), job.preparation()
    model = job.first.base / "model"
    assert sorted(path.name for path in model.iterdir()) == ["metrics.json", "model.ubj", "preparation.json"]
    assert not list((job.hosts[1].base).glob("model/*"))
    # SageMaker reads the metrics from the log; the last value of each metric is that of the best round
    for name in ("train", "validation"):
        for host in job.hosts:
            scraped = [float(value) for value in re.findall(rf"(?<!\w){name}:rmse=([0-9.eE+-]+)", host.log)]
            assert scraped[-1] == pytest.approx(metrics[f"{name}_rmse"], rel=1e-4)
            assert len(scraped) == int(given["rounds"]) + 1
    assert re.findall(r"rows:pulled=(\d+) rows:blank=(\d+)", job.first.log) == [("4000", "0")]
    # every host writes the learning curves of all rows, and the learning curve of its own rows
    curve = metrics["learning_curve"]
    assert len(curve["train"]) == len(curve["validation"]) == int(given["rounds"])
    assert len(curve["hosts"]) == 2
    for rank, host in enumerate(job.hosts):
        kept = host.output("learning-curve")
        assert kept == {
            "train": curve["train"],
            "validation": curve["validation"],
            "own": curve["hosts"][rank],
        }
    # the mean of the hosts' squared errors, weighted by their numbers of rows, is the squared error of all
    # rows
    weights = [host.output("summary")["rows_validation"] for host in job.hosts]
    squares = np.average(np.square(curve["hosts"]), axis=0, weights=weights)
    assert np.sqrt(squares) == pytest.approx(curve["validation"], rel=1e-4)
    # feature importance by column name
    assert set(metrics["importance"]) == {"A", "B"} == set(preparation["kinds"])
    assert sum(metrics["importance"].values()) == pytest.approx(1)


def test_best_round_is_kept(image: Image, given: dict[str, str]):
    # given a job that overfits: deep trees, large steps, few rows
    overfit = {**given, "rounds": "300", "eta": "1", "max_depth": "12", "early_stopping_rounds": "7"}
    overfit |= {"validation_fraction": "0.9", "min_child_weight": "0", "subsample": "0.3"}
    job = image.train(overfit, hosts=2).succeeded()
    metrics = job.metrics()
    curve = metrics["learning_curve"]["validation"]
    # then the job stops 7 rounds (`early_stopping_rounds`) after its best round, and keeps the model of that
    # round
    assert metrics["rounds"] == metrics["best_round"] + 7 < 300
    assert metrics["validation_rmse"] == min(curve)


def sides(warehouse: Warehouse, table: Table, split: Split) -> set[bool]:
    """Return a set that has True if some rows are held out, and False if some rows are not."""
    batches = pull(warehouse.session, table, {}, split)
    return {bool(out) for batch in batches for out in split.held_out(batch.hashes)}


def test_host_without_rows_takes_part(image: Image, warehouse: Warehouse, given: dict[str, str]):
    # given three distinct rows, 10 times each, so that at least two of five hosts get no row
    warehouse.run("CREATE OR REPLACE TABLE FEW (A FLOAT, Y FLOAT)")
    for a in (1, 2, 3):
        warehouse.run(f"INSERT INTO FEW SELECT {a}, {a} FROM TABLE(GENERATOR(ROWCOUNT => 10))")
    few = survey(warehouse.session, "FEW", "Y")
    seed = next(
        seed for seed in range(99) if sides(warehouse, few, Split.of(few, seed, 0.5)) == {True, False}
    )
    asked = {**given, "table": "FEW", "validation_fraction": "0.5", "seed": str(seed)}
    job = image.train(asked, hosts=5).succeeded()
    parts = [host.output("summary")["rows_pulled"] for host in job.hosts]
    assert sum(parts) == 30
    assert parts.count(0) >= 2
    for host, rows in zip(job.hosts, parts, strict=True):
        own = host.output("learning-curve")["own"]
        assert len(own) == int(given["rounds"])
        assert rows or own == [None] * len(own)


def test_hosts_may_start_in_any_order(image: Image, given: dict[str, str], tmp_path: Path):
    # given hosts that start seconds before the first host, to which they connect
    bases = [tmp_path / str(rank) for rank in range(3)]
    job = image.train(given, hosts=3, bases=bases)
    os.killpg(job.first.process.pid, signal.SIGKILL)
    job.first.process.wait()
    time.sleep(1)
    late = Host(job.first.name, job.first.base, image.start("train", job.first.base))
    Job([late, *job.hosts[1:]]).succeeded()


# --- checkpoints ---


def test_killed_job_resumes_from_its_checkpoint(image: Image, given: dict[str, str], tmp_path: Path):
    long = {**given, "rounds": "400", "early_stopping_rounds": "30", "eta": "0.1", "checkpoint_every": "20"}
    long |= {"subsample": "0.5", "colsample_bytree": "0.5", "max_depth": "6"}
    whole = image.train(long, hosts=2).succeeded().metrics()
    # given a job whose hosts are all killed in the middle of the training
    bases = [tmp_path / "killed" / str(rank) for rank in range(2)]
    killed = image.train(long, hosts=2, bases=bases)
    wait_for(killed.first, r"\[45\] ")
    for host in killed.hosts:
        os.killpg(host.process.pid, signal.SIGKILL)
    killed.wait()
    (checkpoint,) = (bases[0] / "checkpoints").iterdir()
    assert not (bases[1] / "checkpoints").exists()
    assert not (bases[0] / "model").exists()
    # when new hosts with other addresses start, and only the first one has the job's checkpoint
    new = [tmp_path / "resumed" / str(rank) for rank in range(2)]
    shutil.copytree(bases[0] / "checkpoints", new[0] / "checkpoints")
    resumed = image.train(long, hosts=2, bases=new).succeeded()
    # then training resumes, and both hosts log the round of the checkpoint
    for host in resumed.hosts:
        begun = int(wait_for(host, r"continuing from the checkpoint of round (\d+)")[1])
        assert begun >= 40
        assert begun % 20 == 0
        assert int(wait_for(host, r"(?m)^INFO \[(\d+)\] ")[1]) == begun + 1
    # and the learning curve, early stopping and model are those of an uninterrupted job
    again = resumed.metrics()
    assert again["rounds"] == whole["rounds"]
    assert again["best_round"] == whole["best_round"]
    for name in ("train", "validation"):
        assert again["learning_curve"][name] == pytest.approx(whole["learning_curve"][name], rel=1e-4)
    hosts = zip(whole["learning_curve"]["hosts"], again["learning_curve"]["hosts"], strict=True)
    for before, after in hosts:
        assert after == pytest.approx(before, rel=1e-4)
    assert (new[0] / "checkpoints" / checkpoint.name).exists()


def test_checkpoint_of_other_settings_is_ignored(image: Image, given: dict[str, str], tmp_path: Path):
    bases = [tmp_path / "0"]
    image.train({**given, "checkpoint_every": "5"}, bases=bases).succeeded()
    for marker in ("uploading", "uploaded"):  # a marker, as SageMaker writes it next to checkpoints
        (bases[0] / "checkpoints" / f"checkpoint.ubj.sagemaker-{marker}").touch()
    changed = image.train({**given, "checkpoint_every": "5", "max_depth": "4"}, bases=bases).succeeded()
    assert (
        "made with other settings or another table: training starts from the beginning" in changed.first.log
    )
    assert changed.metrics()["rounds"] == int(given["rounds"])
    # a checkpoint stays valid when the number of rounds changes
    more = image.train({**given, "max_depth": "4", "rounds": "20"}, bases=bases).succeeded()
    assert "continuing from the checkpoint of round 10" in more.first.log
    assert more.metrics()["rounds"] == 20


def test_damaged_checkpoint_is_ignored(image: Image, given: dict[str, str], tmp_path: Path):
    bases = [tmp_path / "0"]
    (bases[0] / "checkpoints").mkdir(parents=True)
    (bases[0] / "checkpoints" / "checkpoint.ubj").write_bytes(b"half of")
    job = image.train(given, bases=bases).succeeded()
    assert "cannot be read: training starts from the beginning" in job.first.log


def test_sigterm_saves_a_checkpoint_and_ends_cleanly(image: Image, given: dict[str, str], tmp_path: Path):
    bases = [tmp_path / str(rank) for rank in range(2)]
    endless = {**given, "rounds": "50000", "checkpoint_every": "0"}
    job = image.train(endless, hosts=2, bases=bases)
    wait_for(job.first, r"\[10\] ")
    # when the job is stopped: SIGTERM reaches the hosts one after the other
    for host in job.hosts:
        host.process.terminate()
        time.sleep(0.1)
    job.succeeded()
    stopped = [int(re.findall(r"stopped after round (\d+)", host.log)[0]) for host in job.hosts]
    assert stopped[0] == stopped[1]
    assert not (bases[0] / "model").exists()
    # then the job can resume from the saved checkpoint
    finish = image.train({**endless, "rounds": str(stopped[0] + 3)}, hosts=2, bases=bases).succeeded()
    assert finish.metrics()["rounds"] == stopped[0] + 3
    assert f"continuing from the checkpoint of round {stopped[0]}" in finish.first.log


@pytest.mark.parametrize("victim", [0, 1])
def test_lost_host_fails_the_others(image: Image, given: dict[str, str], victim: int):
    # given a host that is killed without a shutdown message
    job = image.train({**given, "rounds": "50000", "timeout": "600"}, hosts=3)
    wait_for(job.first, r"\[5\] ")
    started = time.monotonic()
    os.killpg(job.hosts[victim].process.pid, signal.SIGKILL)
    job.wait()
    # then the other hosts fail with the reason, long before their timeouts
    assert time.monotonic() - started < 60
    for rank, host in enumerate(job.hosts):
        if rank != victim:
            assert job.codes[rank] == 1
            assert host.failure
            assert "lost" in host.failure


@pytest.mark.parametrize("victim", [0, 1])
def test_worker_that_waits_for_a_lost_host_is_ended(image: Image, given: dict[str, str], victim: int):
    # given a worker that does not notice the loss of a host, which sometimes happens with XGBoost
    endless = {**given, "rounds": "50000", "timeout": "600"}
    job = image.train(endless, hosts=3, GROUNDPLAN_LOSS_GRACE_SECONDS=str(LOSS_GRACE))
    wait_for(job.first, r"\[5\] ")
    lost = job.hosts[victim]
    others = [host for host in job.hosts if host is not lost]
    for host in others:
        (worker,) = children(host.process.pid)
        os.kill(worker, signal.SIGSTOP)
    os.killpg(lost.process.pid, signal.SIGKILL)
    job.wait()
    # then the worker is ended, and each host's reason names the lost host
    told = f"host {lost.name} was lost while other hosts waited for it; see its log"
    assert [(host.process.returncode, host.failure) for host in others] == [(1, told)] * 2


def test_host_that_finished_early_is_not_reported_as_lost(image: Image, given: dict[str, str]):
    # given a first host that takes longer to write the model than hosts wait after a loss
    base = image.folder / "slow"
    slow = base / "model" / ".model.ubj.part"
    slow.parent.mkdir(parents=True)
    os.mkfifo(slow)
    bases = [base, image.folder / "other"]
    job = image.train(given, hosts=2, bases=bases, GROUNDPLAN_LOSS_GRACE_SECONDS=str(LOSS_GRACE))
    first, other = job.hosts
    assert other.wait() == 0
    time.sleep(LOSS_GRACE + 2)
    # then the first host is not interrupted
    assert first.process.poll() is None
    assert slow.read_bytes()
    job.succeeded()


@pytest.fixture
def first() -> Watch:
    """The connection watcher on the first of three hosts."""
    hosts = tuple(addresses(3))
    watch = Watch(Cluster(hosts, hosts[0]))
    watch.start()
    return watch


def join(watch: Watch, name: str) -> socket.socket:
    connection = socket.create_connection((watch.cluster.host, PORT), timeout=PATIENCE)
    connection.sendall(f"{name}\n".encode())
    return connection


def test_host_is_lost_only_without_a_shutdown_message(first: Watch):
    _, second, third = first.cluster.hosts
    staying = join(first, third)
    # given a host that has finished, and a client that is not a host of the job
    for name, last_words in ((second, SHUTDOWN), ("somebody", b"")):
        with join(first, name) as connection:
            connection.sendall(last_words)
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(100) == b""  # the shutdown message of the host has arrived
    assert first.lost is None
    assert not first.alone
    # when one host is lost without a shutdown message, then all hosts are notified, even a host that connects
    # later
    join(first, second).close()
    assert staying.recv(100) == f"{second}\n".encode()
    assert first.lost == second
    assert join(first, third).recv(100) == f"{second}\n".encode()
    # and when all other hosts have disconnected, then `first.alone` is true
    staying.close()
    until(lambda: first.alone, "the disconnection of all other hosts")


def test_connections_between_hosts_use_tcp_keepalive(first: Watch):
    # given two hosts that send no messages
    Watch(Cluster(first.cluster.hosts, first.cluster.hosts[1])).start()
    # then the kernel sends keepalive probes on both sides
    until = time.monotonic() + PATIENCE
    while timers(first.cluster.host, PORT) != ["02", "02"]:
        assert time.monotonic() < until, timers(first.cluster.host, PORT)
        time.sleep(0.05)


def test_port_in_use_is_named(first: Watch):
    with pytest.raises(
        FatalError,
        match=f"^host {first.cluster.host} cannot listen on port {PORT}: Address already in use$",
    ):
        Watch(first.cluster).start()


def timers(host: str, port: int) -> list[str]:
    """Return the pending kernel timer at either end of each connection to a port; 02 means keepalive."""
    address = f"{int.from_bytes(socket.inet_aton(host), 'little'):08X}:{port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    established = "01"
    return [row[5][:2] for row in rows if row[3] == established and address in row[1:3]]


def test_killed_worker_is_the_failure_reason(image: Image, given: dict[str, str]):
    job = image.train({**given, "rounds": "50000"})
    wait_for(job.first, r"\[5\] ")
    (worker,) = children(job.first.process.pid)
    os.kill(worker, signal.SIGKILL)
    told = f"training on host {job.first.name} was ended by SIGKILL: most likely it ran out of memory"
    assert job.reason() == told
    assert job.first.log.splitlines()[-1] == f"ERROR {told}"


def test_killed_worker_is_the_failure_reason_on_every_host(image: Image, given: dict[str, str]):
    job = image.train({**given, "rounds": "50000", "timeout": "600"}, hosts=3)
    wait_for(job.first, r"\[5\] ")
    (worker,) = children(job.hosts[1].process.pid)
    os.kill(worker, signal.SIGKILL)
    told = f"training on host {job.hosts[1].name} was ended by SIGKILL: most likely it ran out of memory"
    assert job.reason() == told
    assert [host.log.splitlines()[-1] for host in job.hosts] == [f"ERROR {told}"] * 3


# --- preparation ---


@pytest.fixture(scope="module")
def mixed(warehouse: Warehouse) -> str:
    """A table with coordinates, a category, and blanks in a feature (every 10th row) and in the target (every
    8th)."""
    warehouse.run(
        "CREATE OR REPLACE TABLE MIXED AS SELECT SEQ4() % 40 / 10::FLOAT AS LAT, "
        "SEQ4() % 39 / 10::FLOAT AS LON, "
        "CASE SEQ4() % 3 WHEN 0 THEN 'inland' WHEN 1 THEN ' coast' END AS KIND, "
        "CASE WHEN SEQ4() % 10 = 0 THEN NULL ELSE SEQ4() % 17 END AS ROOMS, "
        "'house ' || SEQ4() AS NAME, CAST(NULL AS FLOAT) AS NOTHING, "
        "CASE WHEN SEQ4() % 8 = 0 THEN NULL ELSE SEQ4() % 40 + SEQ4() % 39 + 10 * (SEQ4() % 3) END AS PRICE "
        "FROM TABLE(GENERATOR(ROWCOUNT => 2000))"
    )
    return "MIXED"


def test_blanks_are_counted_and_kept_or_dropped(image: Image, secret: str, mixed: str):
    job = {**QUICK, "secret": secret, "table": mixed, "target": "PRICE"}
    kept, dropped = (image.train({**job, "blanks": choice}, hosts=2) for choice in ("keep", "drop"))
    ids = np.arange(2000)
    labelled = ids % 8 != 0
    blank = (ids % 10 == 0) | (ids % 3 == 2)
    for training in (kept, dropped):
        found = training.succeeded().metrics()
        assert found["rows_pulled"] == 2000
        assert found["rows_blank_target"] == (~labelled).sum()
        assert found["rows_blank_features"] == (labelled & blank).sum()
    rows = [job.metrics()["rows_train"] + job.metrics()["rows_validation"] for job in (kept, dropped)]
    assert rows == [labelled.sum(), (labelled & ~blank).sum()]


def test_text_columns_become_categories_and_unusable_columns_are_named(image: Image, secret: str, mixed: str):
    job = image.train({**QUICK, "secret": secret, "table": mixed, "target": "PRICE", "rounds": "60"}, hosts=2)
    found = job.succeeded().preparation()
    assert found["categories"] == {"KIND": ["coast", "inland"]}
    assert found["left_out"] == {
        "NAME": "text with more than 255 distinct values",
        "NOTHING": "blank in all rows",
    }
    assert "column NAME is not used: text with more than 255 distinct values" in job.first.log
    assert job.metrics()["importance"]["KIND"] > 0


def test_rotated_coordinates_are_added_as_features(image: Image, secret: str, mixed: str):
    given = {**QUICK, "secret": secret, "table": mixed, "target": "PRICE"}
    job = image.train({**given, "coordinates": "lat, lon"}).succeeded()
    importance = job.metrics()["importance"]
    assert {"LAT", "LON", "LAT~LON 10°", "LAT~LON 170°"} < set(importance)
    assert "LAT~LON 90°" not in importance
    assert sum(value for name, value in importance.items() if "°" in name) > 0


def test_json_files_have_no_nan_and_no_infinity(image: Image, given: dict[str, str]):
    """NaN and Infinity are not JSON, although Python's parser accepts them by default."""
    job = image.train(given).succeeded()
    paths = [*job.first.base.glob("model/*.json"), *job.first.base.glob("output/data/*.json")]
    assert len(paths) == 4
    for path in paths:
        json.loads(path.read_text(), parse_constant=pytest.fail)
