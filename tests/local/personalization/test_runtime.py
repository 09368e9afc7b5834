"""The Lambda functions of `personalization` on a running cloud: killed after each write, called twice, called
too late, and never called. Each test makes separate tables and jobs, and checks them after the sweeper has
run."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from personalization.aws import environment
from personalization.aws.bucket import S3Bucket
from personalization.core.model import Status
from personalization.core.sweep import Sweeper
from personalization.handlers import dispatch, sweep
from tests.support.personalization.world import (
    BUCKET,
    IMAGE,
    KILLER,
    USER,
    World,
    check_ready,
    finish,
    killed,
    png,
    until,
)

pytestmark = pytest.mark.filterwarnings("ignore:No application metrics")

LAPSE = 5
"""Factor by which the functions' clock runs faster than real time: the functions wait for seconds, but a job
takes only a fraction of a second."""


def pause(seconds: float) -> None:
    """Sleep for `seconds` on the functions' clock."""
    time.sleep(seconds / LAPSE)


@pytest.fixture(autouse=True)
def _time_lapse(monkeypatch: pytest.MonkeyPatch) -> None:
    began = time.time()
    monkeypatch.setattr(environment.SystemClock, "now", lambda clock: began + (time.time() - began) * LAPSE)
    monkeypatch.setattr(dispatch, "time", SimpleNamespace(sleep=pause))
    monkeypatch.setattr(sweep, "Sweeper", functools.partial(Sweeper, sleep=pause))


def at_one_time(work: Callable[[World], None]) -> Callable[[World], None]:
    """Return `work` with a functions' clock that stands still, so that nothing gets stale during `work`."""

    def stopped(world: World) -> None:
        now = environment.SystemClock().now()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(environment.SystemClock, "now", lambda clock: now)
            work(world)

    return stopped


# Without faults


def test_model_becomes_an_archive_that_the_endpoint_loads(make_world):
    world = make_world()
    model = world.start(pictures=2)
    assert world.shown(model)["status"] == "QUEUED"
    world.dispatch()
    assert world.shown(model)["status"] == "LAUNCHED"
    until(world.ended, "the end of the training")
    world.collect()
    shown = world.shown(model)
    assert (shown["status"], shown["progress"]["done"], len(shown["previews"])) == ("READY", 1, 1)
    check_ready(world)
    measured = next(row for row in world.rows("jobs") if row["job"] == "#durations")
    assert measured["seconds_per_step"] == pytest.approx(0.1), "seconds_per_step must be 40 s / 400 steps"


def test_loss_of_a_training_reaches_cloudwatch(make_world):
    world = make_world()
    world.start()
    world.train()
    [job] = world.jobs()
    found = environment.client("sagemaker").describe_training_job(TrainingJobName=job)["FinalMetricDataList"]
    assert {metric["MetricName"]: metric["Value"] for metric in found} == {
        "train:loss": 0.5,
        "train:steps_per_second": 2.5,
    }
    asked: dict[str, Any] = {
        "Namespace": "/aws/sagemaker/TrainingJobs",
        "Dimensions": [{"Name": "TrainingJobName", "Value": job}],
    }
    cloudwatch = environment.client("cloudwatch")
    until(lambda: len(cloudwatch.list_metrics(**asked)["Metrics"]) == 2, "the arrival of the metrics")


@pytest.mark.parametrize("jump", [3600, 86_400, -3600, -86_400])
def test_sweeper_completes_rows_with_times_of_a_wrong_clock(make_world, monkeypatch, jump):
    # given a deleted model and a model that becomes ready, with a wrong clock and without events
    offset, real = [float(jump)], environment.SystemClock.now
    monkeypatch.setattr(environment.SystemClock, "now", lambda clock: real(clock) + offset[0])
    world = make_world()
    gone, kept = world.start(), world.start()
    world.ask("DELETE /api/models/{model}", model=gone)
    world.train()
    world.collect()
    assert world.shown(kept)["status"] == "READY"
    # when the clock is right again
    offset[0] = 0.0
    # then the sweeper deletes the data of the deleted model, and, if the wrong clock was ahead, sends the
    # notification about the other model

    def row(model: str) -> dict[str, Any]:
        return next((row for row in world.rows("requests") if row["request"] == model), {})

    until(
        lambda: "purged" in row(gone) or not row(gone),
        "the deletion of the model's data",
        meanwhile=world.sweep,
    )
    assert [key for key in world.objects() if gone in key] == []
    if jump > 0:
        until(lambda: "notified" in row(kept), "the notification", meanwhile=world.sweep)
    # and the next request is completed
    again = world.start()
    until(
        lambda: world.shown(again)["status"] == "READY", "completion of the next model", meanwhile=world.sweep
    )


def test_model_shows_its_progress_while_it_trains(make_world):
    world = make_world(mode="wait")
    model = world.start()
    world.dispatch()
    until(lambda: any("progress.json" in key for key in world.objects("jobs/")), "a first checkpoint")
    world.collect()
    shown = world.shown(model)
    assert shown["status"] == "TRAINING"
    assert shown["progress"] == {"stage": "training", "step": 100, "steps": 400, "done": 0.25}


def test_requests_that_wait_together_are_trained_together(make_world):
    world = make_world(settings={"tasks_per_host": 2, "hosts_max": 2})
    for _ in range(5):
        world.start()
    world.dispatch()
    finish([world])
    assert sorted(len(row["requests"]) for row in world.rows("jobs") if "requests" in row) == [1, 4]
    assert set(world.statuses()) == {"READY"}


# Killed after each write

PREPARED = ["TransactWriteItems", "PutObject", "CopyObject", "TransactWriteItems", "UpdateItem"]
"""Writes of the preparation: the status PREPARING, the archive, the first picture, the status READY, and the
measured seconds of a training step"""
STEPS: dict[str, tuple[str, list[Callable[[World], None]], Callable[[World], None], list[str]]] = {
    # name: (end of the training, steps before, the step that is killed, the writes of this step)
    "dispatcher": (
        "done",
        [],
        World.dispatch,
        ["UpdateItem", "TransactWriteItems", "PutObject", "PutObject", "CreateTrainingJob", "UpdateItem"],
    ),
    "collector, at the end": (
        "done",
        [World.train],
        World.collect,
        [*PREPARED, "UpdateItem"],
    ),
    "collector, of an interruption": (
        "interrupted",
        [World.train],
        World.collect,
        ["TransactWriteItems", "UpdateItem"],
    ),
    "dispatcher, after an interruption": (
        "interrupted",
        [World.train, World.collect],
        World.dispatch,
        [
            *("UpdateItem", "TransactWriteItems", "CopyObject", "PutObject", "PutObject"),
            *("CreateTrainingJob", "UpdateItem"),
        ],
    ),
    "preparer": ("done", [World.train], World.prepare, PREPARED),
    "notifier": ("done", [World.train, World.collect], World.notify, ["Publish", "UpdateItem"]),
    "sweeper": (
        "done",
        [World.train, lambda world: pause(1)],
        at_one_time(World.sweep),  # otherwise, a slow sweep would also send the notification
        [*PREPARED, "UpdateItem"],
    ),
}


@pytest.mark.parametrize("step", STEPS)
def test_step_killed_after_any_write_loses_and_repeats_nothing(make_world, step):
    mode, before, work, writes = STEPS[step]
    worlds = [make_world(mode=mode) for _ in range(len(writes) + 1)]
    for world in worlds:
        world.enter().start()
    for earlier in before:  # each step is started in all worlds before the next step
        for world in worlds:
            if earlier is World.train:
                world.enter().dispatch()
        for world in worlds:
            earlier(world.enter())
    for after, world in enumerate(worlds, 1):
        assert killed(world.enter(), work, after) == (after <= len(writes))
        assert KILLER.seen == writes[:after]
    finish(worlds)
    for world in worlds:
        check_ready(world, jobs=2 if mode == "interrupted" else 1)


def test_start_killed_after_any_write_can_be_repeated(make_world):
    worlds: list[World] = []
    while True:
        world = make_world()
        worlds.append(world)
        model = world.upload()

        def start(world: World, model: str = model) -> Any:
            return world.ask("POST /api/models/{model}/start", model=model)

        alive = not killed(world, start, after=len(worlds))
        assert start(world) == (202, {"model": model}) == start(world)
        if alive:
            break
    assert len(worlds) == 3, (
        "start must write twice: the rate limit, and then the request with its model and the user's count"
    )
    finish(worlds)
    for world in worlds:
        check_ready(world)


def test_repeated_late_and_reordered_events_change_nothing(make_world):
    world = make_world()
    world.start()
    world.prepare()
    world.notify()
    world.dispatch()
    world.dispatch()
    world.prepare()
    until(world.ended, "the end of the training")
    for _ in range(2):
        world.prepare()
        world.collect()
        world.notify()
        world.dispatch()
    finish([world])
    check_ready(world)


def test_sweeper_completes_requests_without_any_event(make_world):
    world = make_world()
    world.start()
    world.start()
    finish([world])
    assert set(world.statuses()) == {"READY"}
    until(
        lambda: all("notified" in row for row in world.rows("requests")),
        "the notifications",
        meanwhile=world.sweep,
    )


# Failures of training


def test_failed_task_reports_its_reason_to_the_user(make_world):
    world = make_world(mode="bad")
    model = world.start()
    world.train()
    world.collect()
    shown = world.shown(model)
    assert (shown["status"], shown["reason"]) == ("FAILED", "The second picture shows nothing.")
    assert world.rows("users")[0]["active"] == 0


def test_failed_request_advises_a_restart_after_the_last_attempt(make_world):
    world = make_world(mode="crash", pace={"max_attempts": 2})
    model = world.start()
    finish([world])
    shown = world.shown(model)
    assert shown["status"] == "FAILED"
    assert "start the model again" in shown["reason"]
    assert len(world.jobs()) == 2
    # in this mode, a job fails unless it resumes from a checkpoint
    world.mode = "interrupted"
    world.enter()
    assert world.ask("POST /api/models/{model}/start", model=model)[0] == 202
    assert world.shown(model)["reason"] == ""
    finish([world])
    assert world.statuses() == ["READY"], "the job must resume from the checkpoint of the previous job"
    assert len(world.jobs()) == 3
    assert world.rows("users")[0]["active"] == 0


def test_requests_stay_queued_while_the_quota_is_zero(make_world, personalization_cloud):
    world = make_world()
    world.start()
    world.start()
    personalization_cloud.configure(training_instances=0, training_spot_instances=0)
    try:
        world.dispatch()
    finally:
        personalization_cloud.configure(training_instances=1000, training_spot_instances=1000)
    [job] = [row for row in world.rows("jobs") if "requests" in row]
    assert (job["status"], job["attempt"], job["requests"], world.jobs()) == ("CLAIMED", 2, [], [])
    assert world.statuses() == ["QUEUED", "QUEUED"]
    finish([world])
    assert len(world.jobs()) == 1
    check_ready(world)


@pytest.mark.parametrize("spot", [True, False])
@pytest.mark.parametrize(
    ("on_demand", "spots", "warm"), [(0, 1, 0), (1, 0, 0), (1, 0, 1), (2, 1, 0)], ids=str
)
def test_requests_are_trained_with_any_nonzero_quota(
    make_world, personalization_cloud, on_demand, spots, warm, spot
):
    # given an account with these quotas only, and a deployment that keeps instances between jobs
    quotas = {"training_instances": on_demand, "training_spot_instances": spots, "warm_pool_instances": warm}
    settings = {"spot": spot, "keep_alive": 60, "hosts_max": 2, "tasks_per_host": 1}
    personalization_cloud.configure(**quotas)
    try:
        world = make_world(settings=settings)
        # when three requests arrive: enough for a job of two instances and a further job
        for _ in range(3):
            world.start()
        # then all requests are trained
        finish([world])
        assert world.statuses() == ["READY"] * 3
        assert [user["active"] for user in world.rows("users")] == [0]
        # and warm pools are removed for the next test
        sagemaker = environment.client("sagemaker")
        for pool in sagemaker.list_training_jobs(WarmPoolStatusEquals="Available")["TrainingJobSummaries"]:
            over = {"KeepAlivePeriodInSeconds": 0}
            sagemaker.update_training_job(TrainingJobName=pool["TrainingJobName"], ResourceConfig=over)
    finally:
        personalization_cloud.configure(
            training_instances=1000, training_spot_instances=1000, warm_pool_instances=None
        )


def test_permanently_refused_job_fails_its_request(make_world):
    world = make_world(settings={"image": IMAGE.replace("tests:1", "tests:gone")}, pace={"max_attempts": 2})
    model = world.start()
    finish([world])
    assert world.shown(model)["status"] == "FAILED"
    assert world.jobs() == []


# Deletion


@pytest.mark.parametrize("state", ["CREATED", "QUEUED", "LAUNCHED", "TRAINING", "READY", "FAILED"])
def test_deleted_model_disappears_at_once_and_its_data_after_purge(make_world, state):
    world = make_world(mode={"TRAINING": "wait", "FAILED": "bad"}.get(state, "done"))
    model = world.upload()
    if state != "CREATED":
        assert world.ask("POST /api/models/{model}/start", model=model)[0] == 202
    if state in ("LAUNCHED", "TRAINING", "READY", "FAILED"):
        world.dispatch()
    if state == "TRAINING":
        until(lambda: any("progress.json" in key for key in world.objects("jobs/")), "a first checkpoint")
        world.collect()
    if state in ("READY", "FAILED"):
        until(world.ended, "the end of the training")
        world.collect()
    assert world.shown(model)["status"] == state
    assert world.ask("DELETE /api/models/{model}", model=model) == (
        202,
        {"model": model, "status": "DELETED"},
    )
    assert world.ask("GET /api/models")[1] == {"models": []}
    assert world.ask("GET /api/models/{model}", model=model)[0] == 404
    assert world.ask("DELETE /api/models/{model}", model=model)[0] == 404
    world.purge()
    world.purge()
    if state in ("TRAINING", "READY", "FAILED", "LAUNCHED"):
        until(world.ended, "the job's end", meanwhile=world.collect)
    until(lambda: not world.rows("requests"), "the removal of all data", meanwhile=world.sweep)
    assert world.rows("models") == []
    assert [key for key in world.objects() if not key.startswith("jobs/")] == []
    assert [key for key in world.objects("jobs/") if "/checkpoints/" in key] == []
    [user] = world.rows("users")
    assert (user["models"], user.get("active", 0)) == (0, 0)


def test_deletion_killed_after_any_write_still_removes_everything(make_world):
    writes = ["DeleteObjects", "DeleteItem", "UpdateItem"]
    worlds = [make_world() for _ in range(len(writes) + 1)]
    for world in worlds:
        world.enter().start()
        world.dispatch()
    for after, world in enumerate(worlds, 1):
        world.enter().train()
        world.collect()
        world.ask("DELETE /api/models/{model}", model=world.models[0])
        assert killed(world, World.purge, after) == (after <= len(writes))
        assert KILLER.seen == writes[:after]
    for world in worlds:
        world.enter()
        until(lambda world=world: not world.rows("requests"), "the removal of the row", meanwhile=world.sweep)
        assert world.rows("models") == []
        assert [key for key in world.objects() if model_data(key)] == []


def model_data(key: str) -> bool:
    return "/checkpoints/" in key or not key.startswith("jobs/")


def test_deletion_in_a_shared_job_does_not_affect_other_models(make_world):
    world = make_world(settings={"tasks_per_host": 2, "hosts_max": 1})
    gone, kept = world.start(), world.start()
    world.dispatch()
    world.ask("DELETE /api/models/{model}", model=gone)
    world.purge()
    until(world.ended, "the end of the training")
    assert world.objects(f"uploads/{USER}/{gone}/")
    # when the function `collect` processes the job's end, then the data is deleted, without the sweeper
    world.collect()
    assert [key for key in world.objects() if gone in key and model_data(key)] == []
    assert world.shown(kept)["status"] == "READY"
    until(lambda: len(world.rows("requests")) == 1, "the removal of the row", meanwhile=world.sweep)
    [job] = world.jobs()
    described = environment.client("sagemaker").describe_training_job(TrainingJobName=job)
    assert described["TrainingJobStatus"] == "Completed"


def test_upload_after_the_deletion_is_removed(make_world):
    world = make_world()
    model = world.upload()
    world.ask("DELETE /api/models/{model}", model=model)
    world.purge()
    late = f"uploads/{USER}/{model}/00"
    environment.client("s3").put_object(Bucket=BUCKET, Key=late, Body=png(), ContentType="image/png")
    until(lambda: not world.rows("requests"), "the sweeper's last pass", meanwhile=world.sweep)
    assert world.objects("uploads/") == []


def test_model_deleted_while_its_archive_is_written_leaves_no_archive(make_world, monkeypatch):
    world = make_world()
    model = world.start()
    world.train()
    put, deleted = S3Bucket.put, []

    def put_and_delete(bucket: S3Bucket, key: str, body: bytes, content_type: str = "") -> None:
        put(bucket, key, body, content_type)
        if key.startswith("adapters/") and not deleted:
            deleted.append(key)
            world.ask("DELETE /api/models/{model}", model=model)
            world.purge()

    monkeypatch.setattr(S3Bucket, "put", put_and_delete)
    world.prepare()
    assert world.statuses() == [Status.DELETED]
    assert world.objects("adapters/") == []
    assert world.objects("previews/") == []


# The rate of job creation


def test_several_dispatchers_create_jobs_at_the_configured_pace(make_world):
    world = make_world(pace={"rate": 0.001, "burst": 2}, settings={"tasks_per_host": 1, "hosts_max": 1})
    for _ in range(4):
        world.start()
    for _ in range(3):
        world.dispatch()
    assert len(world.jobs()) == 2
    assert sorted(world.statuses()) == ["LAUNCHED", "LAUNCHED", "QUEUED", "QUEUED"]
