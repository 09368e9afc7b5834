"""Requests from the queue to jobs and results, in virtual time: none is lost or repeated after failures."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from personalization.core import keys
from personalization.core.collect import collect
from personalization.core.dispatch import claim, dispatch, launch
from personalization.core.jobs import job_request
from personalization.core.model import IN_FLIGHT, JobStatus, Request, Status
from personalization.core.ports import JobRefusedError, LaunchPostponedError, QuotaExceededError
from personalization.core.prepare import prepare
from tests.support.personalization.desk import USER, Desk

REFUSALS = (
    LaunchPostponedError("Throttling"),
    *(QuotaExceededError("", *of) for of in ((None, 0), (0, 0), (2, 0), (2, 1))),
)
"""Refusals of CreateTrainingJob: throttled; quota unreadable, 0, used up, or too small for the job."""


def test_dispatch_of_an_empty_queue_takes_no_token():
    desk = Desk()
    assert dispatch(desk.backend) is None
    assert desk.store.bucket() is None, "no token must be taken"


def test_waiting_requests_become_one_job_with_a_task_each():
    desk = Desk(prompts=("a photo of {trigger}", "{subject} at sea"))
    names = desk.add(3)
    assert dispatch(desk.backend) == 0
    assert dispatch(desk.backend) is None
    job = desk.job()
    assert (job.status, job.requests, job.hosts) == (JobStatus.CREATED, tuple(names), 2)
    tasks = json.loads(desk.objects.get(keys.tasks(job.job)) or b"")["tasks"]
    assert {task["request"] for task in tasks} == set(names)
    assert {task["host"] for task in tasks} == {0, 1}
    assert tasks[0]["prompts"] == ["a photo of sks cat", "cat at sea"]
    manifest = json.loads(desk.objects.get(keys.manifest(job.job)) or b"")
    assert manifest[0] == {"prefix": "s3://data/uploads/"}
    assert sorted(manifest[1:]) == sorted(image for task in tasks for image in task["images"])
    assert f"{USER}/{names[0]}/01" in manifest


def test_oldest_requests_are_dispatched_first():
    desk = Desk()
    names = desk.add(7)
    dispatch(desk.backend)
    assert desk.job().requests == tuple(names[:4])
    assert [desk.request(name).status for name in names[4:]] == ["QUEUED"] * 3


def test_longest_tasks_are_shared_out_first():
    desk = Desk()
    long, *short = [*desk.add(estimate=90.0), *desk.add(3, estimate=30.0)]
    dispatch(desk.backend)
    tasks = json.loads(desk.objects.get(keys.tasks(desk.job().job)) or b"")["tasks"]
    hosts = {task["request"]: task["host"] for task in tasks}
    assert all(hosts[name] != hosts[long] for name in short)


def test_dispatch_above_the_pace_returns_the_wait():
    desk = Desk(burst=1, rate=0.5)
    desk.add(9)
    assert dispatch(desk.backend) == 0
    assert dispatch(desk.backend) == pytest.approx(2.0)
    assert len(desk.training.jobs) == 1
    desk.clock.time += 2.0
    assert dispatch(desk.backend) == 0
    assert len(desk.training.jobs) == 2


def test_two_dispatchers_with_the_same_list_make_one_job():
    desk = Desk()
    desk.add(4)
    seen = desk.store.queue(4)
    assert claim(desk.backend, seen, steady=False)
    assert claim(desk.backend, seen, steady=False) is None
    assert len(desk.store.jobs()) == 1


def test_repeated_launch_writes_the_same_bytes_without_a_second_job():
    desk = Desk()
    desk.add(4)
    dispatch(desk.backend)
    job = desk.job()
    before = {key: desk.objects.get(key) for key in desk.objects.list(f"jobs/{job.job}/")}
    launch(desk.backend, replace(job, status=JobStatus.CLAIMED))
    assert {key: desk.objects.get(key) for key in desk.objects.list(f"jobs/{job.job}/")} == before
    assert len(desk.training.asked) == 1


def test_postponed_job_keeps_its_name_and_backs_off():
    desk = Desk(burst=100)
    desk.add(4)
    desk.training.refuse = LaunchPostponedError("InternalFailure")
    waits = []
    for _ in range(5):
        assert dispatch(desk.backend) == 0
        wait = desk.job().not_before - desk.clock.time
        waits.append(wait)
        desk.clock.time += wait
    assert waits == pytest.approx([2.0, 4.0, 8.0, 16.0, 32.0], abs=0.01)
    name = desk.job().job
    desk.training.refuse = None
    dispatch(desk.backend)
    assert [request["TrainingJobName"] for request in desk.training.asked] == [name]


def test_requests_back_off_while_the_quota_is_used_up():
    desk = Desk(burst=100)
    names = desk.add(4)
    desk.training.refuse = QuotaExceededError("ResourceLimitExceeded", 4, 0)
    assert dispatch(desk.backend) == 0
    names += desk.add(4)
    waits = []
    for _ in range(4):
        wait = dispatch(desk.backend)
        assert wait
        waits.append(wait)
        desk.clock.time += wait
        assert dispatch(desk.backend) == 0
        assert {desk.request(name).status for name in names} == {Status.QUEUED}
        assert [request.request for request in desk.store.queue(9)] == names, (
            "the queue must keep the order of arrival"
        )
    assert waits == pytest.approx([2.0, 4.0, 8.0, 16.0], abs=0.01)
    desk.training.refuse = None
    desk.clock.time += 32
    dispatch(desk.backend)
    dispatch(desk.backend)
    assert len(desk.training.asked) == 2
    assert {desk.request(name).attempt for name in names} == {1}


def test_requests_fail_with_advice_while_the_quota_is_used_up():
    desk = Desk(burst=1000, max_launches=5, max_attempts=1)
    [name] = desk.add(last_attempt=1)
    desk.training.refuse = QuotaExceededError("ResourceLimitExceeded", 4, 0)
    for _ in range(20):
        desk.clock.time += dispatch(desk.backend) or 60.0
    request = desk.request(name)
    assert request.status == Status.FAILED
    assert "No instance" in request.reason
    assert "start it again" in request.reason


def test_created_job_is_kept_when_its_response_was_lost():
    desk = Desk(max_launches=1)
    [name] = desk.add()
    dispatch(desk.backend)
    desk.training.refuse = JobRefusedError("ValidationException")
    job = replace(desk.job(), status=JobStatus.CLAIMED)
    launch(desk.backend, job)
    assert desk.request(name).status == Status.LAUNCHED


def test_requests_of_refused_jobs_fail_after_their_last_attempt():
    desk = Desk(burst=100)
    [name] = desk.add()
    desk.training.refuse = JobRefusedError("ValidationException: no such image")
    for _ in range(10):
        dispatch(desk.backend)
    request = desk.request(name)
    assert (request.status, request.attempt, len(request.previous)) == (Status.FAILED, 3, 2)
    assert "ValidationException" not in request.reason, "the error code must be in the log only"


def test_request_deleted_after_its_claim_is_not_trained():
    desk = Desk()
    gone, kept = desk.add(2)
    job = claim(desk.backend, desk.store.queue(2), steady=False)
    assert job
    desk.store.move(desk.request(gone), replace(desk.request(gone), status=Status.DELETED))
    launch(desk.backend, job)
    tasks = json.loads(desk.objects.get(keys.tasks(job.job)) or b"")["tasks"]
    assert [task["request"] for task in tasks] == [kept]
    assert gone not in (desk.objects.get(keys.manifest(job.job)) or b"").decode()


def test_job_whose_requests_are_all_deleted_is_never_created():
    desk = Desk()
    [name] = desk.add()
    job = claim(desk.backend, desk.store.queue(1), steady=False)
    assert job
    desk.store.move(desk.request(name), replace(desk.request(name), status=Status.DELETED))
    launch(desk.backend, job)
    assert (desk.job().status, desk.training.asked) == (JobStatus.ENDED, [])


def asked(desk: Desk) -> dict[str, Any]:
    return desk.training.asked[-1]


def test_training_request_names_all_s3_locations():
    base = {"uri": "s3://bases/sd15/"}
    desk = Desk(base=base, hyperparameters={"steps": 400, "train_text_encoder": False})
    desk.add(3)
    dispatch(desk.backend)
    job, request = desk.job().job, asked(desk)
    channels = {
        channel["ChannelName"]: channel["DataSource"]["S3DataSource"]
        for channel in request["InputDataConfig"]
    }
    assert channels["base"]["S3Uri"] == "s3://bases/sd15/"
    assert channels["tasks"]["S3Uri"] == f"s3://data/jobs/{job}/tasks.json"
    assert channels["images"]["S3Uri"] == f"s3://data/jobs/{job}/images.manifest"
    assert channels["images"]["S3DataType"] == "ManifestFile"
    assert request["CheckpointConfig"]["S3Uri"] == f"s3://data/jobs/{job}/checkpoints/"
    assert request["HyperParameters"] == {"steps": "400", "train_text_encoder": "false"}
    assert request["ResourceConfig"]["InstanceCount"] == 2
    assert request["EnableNetworkIsolation"] is True, "the training container must have no network"


@pytest.mark.parametrize(("key", "volume_key"), [("arn:key", "arn:key"), ("arn:key", ""), ("", "")])
def test_output_has_its_key_when_volumes_take_none(key: str, volume_key: str):
    # given instances whose volumes use the stack's key, instances with local disks, or a stack without a key
    desk = Desk(key=key, volume_key=volume_key)
    # when a job is created
    desk.add()
    dispatch(desk.backend)
    # then the output and the volumes each have the expected key
    request = asked(desk)
    assert request["OutputDataConfig"].get("KmsKeyId", "") == key
    assert request["ResourceConfig"].get("VolumeKmsKeyId", "") == volume_key


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_container_gets_the_required_device(device: str):
    desk = Desk(base={"uri": "s3://bases/sd15/"}, device=device)
    desk.add()
    dispatch(desk.backend)
    assert asked(desk)["Environment"] == {"GROUNDPLAN_DEVICE": device}


def test_base_from_hugging_face_is_a_hyperparameter_with_network_access():
    desk = Desk(base={"id": "some/base"})
    desk.add()
    dispatch(desk.backend)
    assert asked(desk)["HyperParameters"]["base"] == "some/base"
    assert asked(desk)["EnableNetworkIsolation"] is False
    assert "base" not in [channel["ChannelName"] for channel in asked(desk)["InputDataConfig"]]


def test_spot_is_used_except_for_the_last_attempt():
    desk = Desk(burst=9)
    desk.add()
    dispatch(desk.backend)
    assert asked(desk)["EnableManagedSpotTraining"] is True
    stop = asked(desk)["StoppingCondition"]
    assert stop["MaxWaitTimeInSeconds"] >= stop["MaxRuntimeInSeconds"]
    desk.add(attempt=3)
    dispatch(desk.backend)
    assert "EnableManagedSpotTraining" not in asked(desk)
    assert "MaxWaitTimeInSeconds" not in asked(desk)["StoppingCondition"]


def test_instances_are_kept_only_while_jobs_follow_each_other():
    desk = Desk(keep_alive=600, burst=9)
    kept = []
    for pause in (0, 300, 300, 5000, 300):
        desk.clock.time += pause
        desk.add()
        dispatch(desk.backend)
        kept.append("KeepAlivePeriodInSeconds" in asked(desk)["ResourceConfig"])
        spot = "EnableManagedSpotTraining" in asked(desk)
        assert spot != kept[-1], "a job must either use spot or keep its instances"
    assert kept == [False, True, True, False, True]


def test_training_request_of_a_job_is_reproducible():
    desk = Desk()
    desk.add()
    dispatch(desk.backend)
    assert job_request(desk.backend, desk.job(), 1) == asked(desk)


def test_requests_of_a_running_job_are_training():
    desk = Desk()
    names = desk.add(2)
    dispatch(desk.backend)
    collect(desk.backend, desk.job())
    assert {desk.request(name).status for name in names} == {Status.TRAINING}


def test_finished_task_is_ready_while_others_run():
    desk = Desk()
    done, running = desk.add(2)
    dispatch(desk.backend)
    desk.result(done)
    collect(desk.backend, desk.job())
    assert (desk.request(done).status, desk.request(running).status) == (Status.READY, Status.TRAINING)
    assert desk.training.stopped == []


def test_tasks_of_one_job_end_separately():
    desk = Desk()
    done, failed, lost = desk.add(3)
    dispatch(desk.backend)
    job = desk.job()
    desk.result(done)
    desk.result(failed, status="failed", reason="The pictures show nothing.")
    desk.end(job.job, "Failed", "AlgorithmError")
    collect(desk.backend, job)
    assert desk.request(done).status == Status.READY
    assert (desk.request(failed).status, desk.request(failed).reason) == (
        Status.FAILED,
        "The pictures show nothing.",
    )
    back = desk.request(lost)
    assert (back.status, back.attempt, back.job, back.previous) == (Status.QUEUED, 2, "", (job.job,))
    assert desk.job().status == JobStatus.ENDED


def overtaken(desk: Desk, meanwhile: Callable[[Request], object]) -> None:
    """Run `meanwhile` after a collector has read a request, and before the collector's first write."""
    move = desk.store.move

    def late(before: Request, after: Request, **more: Any) -> bool:
        desk.store.move = move
        meanwhile(before)
        return move(before, after, **more)

    desk.store.move = late


def test_finished_task_is_not_trained_again_after_a_race():
    desk = Desk()
    [name] = desk.add()
    dispatch(desk.backend)
    desk.result(name)
    desk.end(desk.job().job)
    # A slow collector, which read the job while it was running, marks the request as TRAINING only now
    overtaken(desk, lambda seen: desk.store.move(seen, replace(seen, status=Status.TRAINING)))
    collect(desk.backend, desk.job())
    assert (desk.request(name).status, desk.request(name).attempt) == (Status.READY, 1)


def test_late_collection_does_not_change_requests_of_another_job():
    desk = Desk()
    [name] = desk.add()
    dispatch(desk.backend)
    first = desk.job()
    desk.result(name)
    desk.end(first.job, "Failed", "InternalServerError")

    def go_on(seen: Request) -> None:
        back = replace(seen, status=Status.QUEUED, attempt=2, previous=(first.job,), job="")
        assert desk.store.move(seen, back)
        desk.clock.time += 10
        dispatch(desk.backend)

    overtaken(desk, go_on)
    collect(desk.backend, first)
    now = desk.request(name)
    assert (now.status, now.attempt, now.job) == (Status.LAUNCHED, 2, desk.store.claimed[1])
    assert len(desk.store.claimed) == 2


def test_interrupted_request_resumes_from_its_last_checkpoint():
    desk = Desk()
    [name] = desk.add()
    dispatch(desk.backend)
    first = desk.job().job
    folder = keys.checkpoint(first, name)
    for key in ("state/step", "progress.json", "previews/0.png"):
        desk.objects.put(folder + key, b"first")
    desk.end(first, "Stopped")
    collect(desk.backend, desk.job())
    dispatch(desk.backend)
    second = desk.request(name).job
    assert second != first
    copied = keys.checkpoint(second, name)
    assert desk.objects.get(f"{copied}state/step") == b"first"
    assert desk.objects.get(f"{copied}progress.json") is None
    # A launch that is repeated late must not revert the job to an earlier status
    desk.objects.put(f"{copied}state/step", b"second")
    running = desk.store.job(second)
    assert running
    launch(desk.backend, replace(running, status=JobStatus.CLAIMED))
    assert desk.objects.get(f"{copied}state/step") == b"second"


@pytest.mark.parametrize(
    ("reason", "told"), [("CapacityError: no ml.g5.xlarge", "No instance"), ("AlgorithmError", "too often")]
)
def test_last_failure_is_reported_with_its_reason(reason, told):
    desk = Desk()
    [name] = desk.add(attempt=3)
    dispatch(desk.backend)
    desk.end(desk.job().job, "Failed", reason)
    collect(desk.backend, desk.job())
    assert desk.request(name).status == Status.FAILED
    assert told in desk.request(name).reason


def test_requests_of_an_unknown_job_return_to_the_queue():
    desk = Desk()
    [name] = desk.add()
    dispatch(desk.backend)
    desk.training.jobs.clear()
    collect(desk.backend, desk.job())
    assert desk.request(name).status == Status.QUEUED


def test_job_whose_requests_are_deleted_is_stopped():
    desk = Desk()
    [name] = desk.add()
    dispatch(desk.backend)
    desk.store.move(desk.request(name), replace(desk.request(name), status=Status.DELETED))
    collect(desk.backend, desk.job())
    assert desk.training.stopped == [desk.job().job]


def test_unreadable_result_does_not_block_other_requests():
    desk = Desk()
    broken, good = desk.add(2)
    dispatch(desk.backend)
    job = desk.job()
    for name in (broken, good):
        desk.result(name)
    get = desk.objects.get

    def fail(key: str) -> bytes | None:
        if broken in key:
            raise OSError("S3 is away")
        return get(key)

    desk.objects.get = fail  # type: ignore[method-assign]
    desk.end(job.job)
    with pytest.raises(ExceptionGroup):
        collect(desk.backend, job)
    assert desk.request(good).status == Status.READY
    assert desk.job().status == JobStatus.CREATED, "the job must be collected again"
    desk.objects.get = get  # type: ignore[method-assign]
    collect(desk.backend, desk.job())
    assert (desk.request(broken).status, desk.job().status) == (Status.READY, JobStatus.ENDED)


def broken_results() -> dict[str, Callable[[Desk, str], None]]:
    def edit(path: str, content: bytes) -> Callable[[Desk, str], None]:
        return lambda desk, name: desk.objects.put(
            keys.checkpoint(desk.request(name).job, name) + path, content
        )

    weights = "adapter/adapter_model.safetensors"
    return {
        "weights cut short": edit(weights, b"01"),
        "weights of the same size": lambda desk, name: edit(weights, b"x" * 26)(desk, name),
        "no result yet": lambda desk, name: desk.objects.delete([keys.result(desk.request(name).job, name)]),
        "half a result": edit("result.json", b'{"version": 1, "sta'),
        "another version": edit("result.json", b'{"version": 2, "status": "done"}'),
        "a list": edit("result.json", b"[]"),
        "no files": edit("result.json", b'{"version": 1, "status": "done"}'),
    }


@pytest.mark.parametrize("how", broken_results())
def test_incomplete_result_is_not_published(how):
    desk = Desk()
    [name] = desk.add()
    dispatch(desk.backend)
    desk.result(name)
    broken_results()[how](desk, name)
    assert prepare(desk.backend, desk.request(name)).status == Status.LAUNCHED
    assert desk.objects.list("adapters/") == []
    desk.end(desk.job().job)
    collect(desk.backend, desk.job())
    assert desk.request(name).status == Status.QUEUED, "an incomplete result must be trained again"


def test_ready_request_is_measured_once():
    desk = Desk()
    [name] = desk.add()
    dispatch(desk.backend)
    desk.result(name)
    desk.clock.time += 100
    for _ in range(3):
        prepare(desk.backend, desk.request(name))
    assert desk.store.seconds_per_step() == pytest.approx(0.1)
    assert desk.counted["TimeToReadySeconds"] == pytest.approx(100)


@pytest.mark.parametrize("seed", range(12))
def test_random_crashes_end_each_request_exactly_once(seed):
    """Dispatch two hundred requests, with random crashes between steps, lost events and failed jobs."""
    rng, desk = random.Random(seed), Desk(burst=5, rate=1.0)
    names = desk.add(200)

    class Dead(BaseException):
        pass

    def mortal(target: Any, *methods: str) -> None:
        for method in methods:
            whole = getattr(target, method)

            def dying(*args: Any, whole: Any = whole, **kwargs: Any) -> Any:
                before, after = rng.random() < 0.02, rng.random() < 0.02
                if before:
                    raise Dead
                answer = whole(*args, **kwargs)
                if after:
                    raise Dead
                return answer

            setattr(target, method, dying)

    mortal(desk.store, "claim", "move", "change", "swap_bucket", "learn")
    mortal(desk.objects, "put", "copy")
    mortal(desk.training, "create", "stop")

    def alive(work: Callable[[], Any]) -> None:
        try:
            work()
        except (Dead, ExceptionGroup):
            return

    for _ in range(3000):
        if all(desk.request(name).status not in IN_FLIGHT for name in names):
            break
        desk.training.refuse = rng.choice(REFUSALS) if rng.random() < 0.3 else None
        alive(lambda: dispatch(desk.backend))
        for job, described in list(desk.training.jobs.items()):
            if described.ended or rng.random() < 0.7:
                continue
            for request in desk.store.requests(desk.store.job(job).requests):  # type: ignore[union-attr]
                if request.job == job and request.status in IN_FLIGHT and rng.random() < 0.85:
                    alive(lambda name=request.request: desk.result(name))
            desk.end(job, rng.choice(["Completed", "Failed", "Stopped"]))
            if rng.random() < 0.6:  # in the remaining cases the event is lost
                alive(lambda job=job: collect(desk.backend, desk.store.job(job)))  # type: ignore[arg-type]
        desk.clock.time += rng.uniform(1, 60)
        alive(desk.sweep)
    statuses = Counter(desk.request(name).status for name in names)
    assert set(statuses) <= {Status.READY, Status.FAILED}
    assert statuses[Status.READY] > 180
    members = {job.job: job.requests for job in desk.store.jobs()}
    histories = {}
    for name in names:
        request = desk.request(name)
        histories[name] = {*request.previous, request.job}
        assert len(histories[name]) == request.attempt == len(request.previous) + 1
        assert all(name in members[job] for job in histories[name])
    for job in desk.training.jobs:
        tasks = json.loads(desk.objects.get(keys.tasks(job)) or b"")["tasks"]
        assert all(job in histories[task["request"]] for task in tasks), (
            "a job must train only its own requests"
        )
    created = [request["TrainingJobName"] for request in desk.training.asked]
    assert len(created) == len(set(created))
    assert desk.moves.count((Status.PREPARING, Status.READY)) == statuses[Status.READY]
    for name in names:
        archive = desk.objects.get(keys.adapter(USER, name))
        assert (archive is not None) == (desk.request(name).status == Status.READY)
