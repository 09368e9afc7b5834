"""From the queue into jobs and out of them, in virtual time: nothing lost, nothing twice, come what may."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from benchmarks.personalization_memory import MemoryObjects, MemoryStore
from personalization import ids, keys
from personalization.collect import collect
from personalization.dispatch import claim, dispatch, launch
from personalization.jobs import job_request
from personalization.model import IN_FLIGHT, Job, JobStatus, Request, Status
from personalization.ports import Backend, Described, PutOff, Refused
from personalization.prepare import prepare
from personalization.settings import JobSettings, Pace

START = 1_795_416_632.0
USER = "6f1c3a52-0d1e-4c7e-9c35-1b0f5a7d2e11"


class Clock:
    def __init__(self) -> None:
        self.time = START

    def now(self) -> float:
        return self.time


class SageMaker:
    """Takes a name once. `refuse` is raised as long as it is set, before anything is created."""

    def __init__(self) -> None:
        self.jobs: dict[str, Described] = {}
        self.asked: list[dict[str, Any]] = []
        self.stopped: list[str] = []
        self.refuse: Exception | None = None

    def create(self, request: dict[str, Any]) -> None:
        if self.refuse:
            raise self.refuse
        if request["TrainingJobName"] not in self.jobs:
            self.asked.append(request)
            self.jobs[request["TrainingJobName"]] = Described("InProgress")

    def describe(self, name: str) -> Described | None:
        return self.jobs.get(name)

    def stop(self, name: str) -> None:
        self.stopped.append(name)


class Store(MemoryStore):
    """Also tells which jobs were claimed."""

    def __init__(self, on_move: Callable[[Request | None, Request], object]) -> None:
        super().__init__(on_move)
        self.claimed: list[str] = []

    def claim(self, job: Job, changes: Sequence[tuple[Request, Request]]) -> bool:
        done = super().claim(job, changes)
        self.claimed += [job.job] * done
        return done

    def jobs(self) -> list[Job]:
        return [job for name in self.claimed if (job := self.job(name))]


class Desk:
    """A backend in memory and what a test asks of it."""

    def __init__(self, **settings: Any) -> None:
        pace: dict[str, Any] = {"rate": 1.0, "burst": 3}
        pace |= {name: settings.pop(name) for name in list(settings) if name in Pace.__dataclass_fields__}
        job: dict[str, Any] = {"image": "image", "role": "role", "instance_type": "ml.g5.xlarge"}
        job |= {"hosts_max": 2, "tasks_per_host": 2} | settings
        self.clock, self.training, self.objects = Clock(), SageMaker(), MemoryObjects()
        self.moves: list[tuple[Status, Status]] = []
        self.counted: Counter[str] = Counter()
        self.store = Store(lambda before, after: before and self.moves.append((before.status, after.status)))
        self.backend = Backend(
            store=self.store,
            objects=self.objects,
            training=self.training,
            clock=self.clock,
            settings=JobSettings(**job),
            pace=Pace(**pace),
            bucket="data",
            prefix="groundplan",
            count=lambda name, value: self.counted.update({name: value}),
        )

    def add(self, count: int = 1, **changes: Any) -> list[str]:
        added = []
        for _ in range(count):
            self.clock.time += 0.001
            name, now = ids.new(self.clock.time), self.clock.time
            request = Request(
                request=name, user=USER, model=name, subject="cat", images=2, steps=0, estimate=60.0,
                status=Status.QUEUED, attempt=1, last_attempt=3, queued_at=now, updated=now,
            )  # fmt: skip
            self.store.add(replace(request, **changes))
            added.append(name)
        return added

    def request(self, name: str) -> Request:
        return self.store.requests([name])[0]

    def job(self) -> Job:
        [job] = self.store.jobs()
        return job

    def end(self, job: str, status: str = "Completed", reason: str = "") -> None:
        self.training.jobs[job] = Described(status, reason)

    def result(self, name: str, **changes: Any) -> None:
        """What the training task of this request leaves behind."""
        folder = keys.checkpoint(self.request(name).job, name)
        files = {"adapter/adapter.json": b"{}", "adapter/adapter_model.safetensors": name.encode()}
        told = {k: {"bytes": len(v), "sha256": hashlib.sha256(v).hexdigest()} for k, v in files.items()}
        result = {"version": 1, "status": "done", "seconds": 30.0, "metrics": {"steps": 300}, "files": told}
        for key, content in files.items():
            self.objects.put(folder + key, content)
        self.objects.put(f"{folder}result.json", json.dumps(result | changes).encode())

    def sweep(self) -> None:
        while (wait := dispatch(self.backend)) is not None and wait < 60:
            self.clock.time += wait
        for job in self.store.due(JobStatus.CREATED, self.clock.now(), 100):
            collect(self.backend, job)


# Into jobs


def test_an_empty_queue_costs_nothing():
    desk = Desk()
    assert dispatch(desk.backend) is None
    assert desk.store.bucket() is None, "no token was taken"


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


def test_the_longest_waiting_go_first_and_the_rest_wait():
    desk = Desk()
    names = desk.add(7)
    dispatch(desk.backend)
    assert desk.job().requests == tuple(names[:4])
    assert [desk.request(name).status for name in names[4:]] == ["QUEUED"] * 3


def test_the_longest_tasks_are_shared_out_first():
    desk = Desk()
    long, *short = [*desk.add(estimate=90.0), *desk.add(3, estimate=30.0)]
    dispatch(desk.backend)
    tasks = json.loads(desk.objects.get(keys.tasks(desk.job().job)) or b"")["tasks"]
    hosts = {task["request"]: task["host"] for task in tasks}
    assert all(hosts[name] != hosts[long] for name in short)


def test_the_pace_holds_jobs_back_and_says_until_when():
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


def test_a_repeated_launch_writes_the_same_bytes_and_makes_no_second_job():
    desk = Desk()
    desk.add(4)
    dispatch(desk.backend)
    job = desk.job()
    before = {key: desk.objects.get(key) for key in desk.objects.list(f"jobs/{job.job}/")}
    launch(desk.backend, replace(job, status=JobStatus.CLAIMED))
    assert {key: desk.objects.get(key) for key in desk.objects.list(f"jobs/{job.job}/")} == before
    assert len(desk.training.asked) == 1


def test_what_is_put_off_keeps_its_name_and_waits_longer_each_time_while_others_wait_in_the_queue():
    desk = Desk(burst=100)
    desk.add(4)
    desk.training.refuse = PutOff("ResourceLimitExceeded")
    assert dispatch(desk.backend) == 0
    later = desk.add(4)
    waits = []
    for _ in range(4):
        wait = dispatch(desk.backend)
        assert wait
        waits.append(wait)
        desk.clock.time += wait
        assert dispatch(desk.backend) == 0
    assert waits == pytest.approx([2.0, 4.0, 8.0, 16.0], abs=0.01)
    name = desk.job().job
    assert {desk.request(request).status for request in later} == {Status.QUEUED}
    desk.training.refuse = None
    desk.clock.time += 32
    dispatch(desk.backend)
    dispatch(desk.backend)
    assert desk.training.asked[0]["TrainingJobName"] == name
    assert len(desk.training.asked) == 2


def test_a_quota_that_never_opens_fails_the_requests_in_the_end_and_says_what_to_do():
    desk = Desk(burst=1000, max_launches=5, max_attempts=1)
    [name] = desk.add(last_attempt=1)
    desk.training.refuse = PutOff("ResourceLimitExceeded")
    for _ in range(20):
        desk.clock.time += dispatch(desk.backend) or 60.0
    request = desk.request(name)
    assert request.status == Status.FAILED
    assert "no room" in request.reason
    assert "start it again" in request.reason


def test_a_job_that_was_created_while_its_answer_was_lost_is_not_given_up():
    desk = Desk(max_launches=1)
    [name] = desk.add()
    dispatch(desk.backend)
    desk.training.refuse = Refused("ValidationException")
    job = replace(desk.job(), status=JobStatus.CLAIMED)
    launch(desk.backend, job)
    assert desk.request(name).status == Status.LAUNCHED


def test_a_refused_job_gives_its_requests_another_chance_then_the_truth():
    desk = Desk(burst=100)
    [name] = desk.add()
    desk.training.refuse = Refused("ValidationException: no such image")
    for _ in range(10):
        dispatch(desk.backend)
    request = desk.request(name)
    assert (request.status, request.attempt, len(request.previous)) == (Status.FAILED, 3, 2)
    assert "ValidationException" not in request.reason, "that is for the log"


def test_a_request_deleted_after_its_claim_is_not_trained():
    desk = Desk()
    gone, kept = desk.add(2)
    job = claim(desk.backend, desk.store.queue(2), steady=False)
    assert job
    desk.store.move(desk.request(gone), replace(desk.request(gone), status=Status.DELETED))
    launch(desk.backend, job)
    tasks = json.loads(desk.objects.get(keys.tasks(job.job)) or b"")["tasks"]
    assert [task["request"] for task in tasks] == [kept]
    assert gone not in (desk.objects.get(keys.manifest(job.job)) or b"").decode()


def test_a_job_whose_requests_are_all_deleted_is_never_created():
    desk = Desk()
    [name] = desk.add()
    job = claim(desk.backend, desk.store.queue(1), steady=False)
    assert job
    desk.store.move(desk.request(name), replace(desk.request(name), status=Status.DELETED))
    launch(desk.backend, job)
    assert (desk.job().status, desk.training.asked) == (JobStatus.ENDED, [])


# What SageMaker is asked for


def asked(desk: Desk) -> dict[str, Any]:
    return desk.training.asked[-1]


def test_the_request_names_where_everything_is():
    base = {"uri": "s3://bases/sd15/"}
    desk = Desk(base=base, hyperparameters={"steps": 400, "train_text_encoder": False}, key="arn:key")
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
    assert request["ResourceConfig"]["VolumeKmsKeyId"] == request["OutputDataConfig"]["KmsKeyId"] == "arn:key"
    assert request["EnableNetworkIsolation"] is True, "pictures of people cannot leave it"


def test_a_base_from_hugging_face_is_a_hyperparameter_and_needs_the_network():
    desk = Desk(base={"id": "some/base"})
    desk.add()
    dispatch(desk.backend)
    assert asked(desk)["HyperParameters"]["base"] == "some/base"
    assert asked(desk)["EnableNetworkIsolation"] is False
    assert "base" not in [channel["ChannelName"] for channel in asked(desk)["InputDataConfig"]]


def test_spot_by_default_but_not_at_the_last_chance():
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
        assert spot != kept[-1], "SageMaker keeps no spot instances"
    assert kept == [False, True, True, False, True]


def test_the_same_job_asks_for_the_same():
    desk = Desk()
    desk.add()
    dispatch(desk.backend)
    assert job_request(desk.backend, desk.job(), 1) == asked(desk)


# Out of jobs


def test_a_job_that_runs_takes_its_requests_along():
    desk = Desk()
    names = desk.add(2)
    dispatch(desk.backend)
    collect(desk.backend, desk.job())
    assert {desk.request(name).status for name in names} == {Status.TRAINING}


def test_a_task_that_is_done_does_not_wait_for_the_others():
    desk = Desk()
    done, running = desk.add(2)
    dispatch(desk.backend)
    desk.result(done)
    collect(desk.backend, desk.job())
    assert (desk.request(done).status, desk.request(running).status) == (Status.READY, Status.TRAINING)
    assert desk.training.stopped == []


def test_each_task_of_a_job_has_an_end_of_its_own():
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
    """Between a collector's look at a request and its first change of it, somebody else acts."""
    move = desk.store.move

    def late(before: Request, after: Request, **more: Any) -> bool:
        desk.store.move = move
        meanwhile(before)
        return move(before, after, **more)

    desk.store.move = late


def test_a_task_that_is_done_is_not_trained_again_when_another_look_was_a_moment_faster():
    desk = Desk()
    [name] = desk.add()
    dispatch(desk.backend)
    desk.result(name)
    desk.end(desk.job().job)
    # A collector that saw the job run, and was slow, marks the request as in training only now
    overtaken(desk, lambda seen: desk.store.move(seen, replace(seen, status=Status.TRAINING)))
    collect(desk.backend, desk.job())
    assert (desk.request(name).status, desk.request(name).attempt) == (Status.READY, 1)


def test_a_late_look_at_an_ended_job_leaves_a_request_alone_that_is_in_another_job():
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


def test_who_is_interrupted_goes_on_from_the_last_checkpoint():
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
    # A launch that is repeated late must not turn back what the job has reached since
    desk.objects.put(f"{copied}state/step", b"second")
    running = desk.store.job(second)
    assert running
    launch(desk.backend, replace(running, status=JobStatus.CLAIMED))
    assert desk.objects.get(f"{copied}state/step") == b"second"


@pytest.mark.parametrize(
    ("reason", "told"), [("CapacityError: no ml.g5.xlarge", "no room"), ("AlgorithmError", "again and again")]
)
def test_the_last_failure_tells_what_it_was(reason, told):
    desk = Desk()
    [name] = desk.add(attempt=3)
    dispatch(desk.backend)
    desk.end(desk.job().job, "Failed", reason)
    collect(desk.backend, desk.job())
    assert desk.request(name).status == Status.FAILED
    assert told in desk.request(name).reason


def test_a_job_that_sagemaker_forgot_does_not_hold_its_requests_for_ever():
    desk = Desk()
    [name] = desk.add()
    dispatch(desk.backend)
    desk.training.jobs.clear()
    collect(desk.backend, desk.job())
    assert desk.request(name).status == Status.QUEUED


def test_a_job_that_works_for_nobody_is_stopped():
    desk = Desk()
    [name] = desk.add()
    dispatch(desk.backend)
    desk.store.move(desk.request(name), replace(desk.request(name), status=Status.DELETED))
    collect(desk.backend, desk.job())
    assert desk.training.stopped == [desk.job().job]


def test_one_request_that_cannot_be_read_does_not_stop_the_others():
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
    assert desk.job().status == JobStatus.CREATED, "it is looked at again"
    desk.objects.get = get  # type: ignore[method-assign]
    collect(desk.backend, desk.job())
    assert (desk.request(broken).status, desk.job().status) == (Status.READY, JobStatus.ENDED)


# Results


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
def test_a_result_that_is_not_whole_is_never_served(how):
    desk = Desk()
    [name] = desk.add()
    dispatch(desk.backend)
    desk.result(name)
    broken_results()[how](desk, name)
    assert prepare(desk.backend, desk.request(name)).status == Status.LAUNCHED
    assert desk.objects.list("adapters/") == []
    desk.end(desk.job().job)
    collect(desk.backend, desk.job())
    assert desk.request(name).status == Status.QUEUED, "at the job's end it is trained again"


def test_what_is_ready_is_measured_once():
    desk = Desk()
    [name] = desk.add()
    dispatch(desk.backend)
    desk.result(name)
    desk.clock.time += 100
    for _ in range(3):
        prepare(desk.backend, desk.request(name))
    assert desk.store.seconds_per_step() == pytest.approx(0.1)
    assert desk.counted["TimeToReadySeconds"] == pytest.approx(100)


# All of it, with everything going wrong


@pytest.mark.parametrize("seed", range(12))
def test_whatever_goes_wrong_every_request_ends_once_and_is_in_one_job_at_a_time(seed):
    """Two hundred requests; calls die at random between any two steps, events are lost, jobs fail."""
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
        desk.training.refuse = PutOff("Throttling") if rng.random() < 0.2 else None
        alive(lambda: dispatch(desk.backend))
        for job, described in list(desk.training.jobs.items()):
            if described.ended or rng.random() < 0.7:
                continue
            for request in desk.store.requests(desk.store.job(job).requests):  # type: ignore[union-attr]
                if request.job == job and request.status in IN_FLIGHT and rng.random() < 0.85:
                    alive(lambda name=request.request: desk.result(name))
            desk.end(job, rng.choice(["Completed", "Failed", "Stopped"]))
            if rng.random() < 0.6:  # else the event is lost
                alive(lambda job=job: collect(desk.backend, desk.store.job(job)))  # type: ignore[arg-type]
        desk.clock.time += rng.uniform(1, 60)
        alive(desk.sweep)
    statuses = Counter(desk.request(name).status for name in names)
    assert set(statuses) <= {Status.READY, Status.FAILED}
    assert statuses[Status.READY] > 180
    launched = Counter(name for job in desk.store.jobs() for name in job.requests)
    for name in names:
        request = desk.request(name)
        assert launched[name] == request.attempt == len(request.previous) + 1
    created = [request["TrainingJobName"] for request in desk.training.asked]
    assert len(created) == len(set(created))
    assert desk.moves.count((Status.PREPARING, Status.READY)) == statuses[Status.READY]
    for name in names:
        archive = desk.objects.get(keys.adapter(USER, name))
        assert (archive is not None) == (desk.request(name).status == Status.READY)
