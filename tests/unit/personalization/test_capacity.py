"""Quotas of a new account: requests are trained on any kind of capacity that the account has."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import pytest
from botocore.exceptions import ClientError

from benchmarks.personalization.fleet import Terms
from benchmarks.personalization.growth import Account, Outcome
from personalization.aws.training import SageMaker
from personalization.core import keys, sweep
from personalization.core.collect import collect
from personalization.core.dispatch import dispatch, launch
from personalization.core.model import JobStatus
from personalization.core.ports import LaunchPostponedError, QuotaExceededError
from tests.support.personalization.desk import Desk

CALM = {
    "startup_spread": 0.0,
    "capacity_error": 0.0,
    "task_failure": 0.0,
    "faults": 0.0,
    "interruptions": 0.0,
}


def first_requests(on_demand: int, spots: int, warm: int = 0, spot: bool = True) -> Outcome:
    """Submit four requests within ten minutes, on an account with these quotas."""
    terms = Terms(quota=on_demand, spot_quota=spots, warm_quota=warm, **CALM)  # type: ignore[arg-type]
    return Account(users=4, terms=terms, keep_alive=600, steadily=600, spot=spot).launch_day()


@pytest.mark.parametrize("spot", [True, False])
@pytest.mark.parametrize(
    ("on_demand", "spots", "warm"), [(0, 2, 0), (2, 0, 0), (1, 0, 0), (0, 1, 0), (2, 0, 2), (2, 2, 2)]
)
def test_dispatch_uses_any_capacity_of_the_account(on_demand: int, spots: int, warm: int, spot: bool) -> None:
    day = first_requests(on_demand, spots, warm, spot)
    assert (day.ready, day.lost, day.duplicates) == (4, 0, 0)
    # A few successive jobs and their starts take 45 minutes, so no request has waited for a postponed job
    assert day.waits[100] < 45 * 60


def test_dispatch_fails_requests_with_a_reason_without_any_quota() -> None:
    day = first_requests(0, 0)
    assert (day.ready, day.failed, day.without_room, day.lost) == (0, 4, 4, 0)


class SmallAccount:
    """SageMaker's client for an account with these quotas. Jobs do not end."""

    def __init__(self, on_demand: int, spot: int) -> None:
        self.quota, self.used = {False: on_demand, True: spot}, {False: 0, True: 0}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.statuses: dict[str, str] = {}
        self.calls = 0

    def create_training_job(self, **request: Any) -> None:
        self.calls += 1
        spot, hosts = request.get("EnableManagedSpotTraining", False), request["ResourceConfig"]
        kind = f"{hosts['InstanceType']} for {'spot ' if spot else ''}training job usage"
        if request["TrainingJobName"] in self.jobs:
            raise error("ResourceInUse", "Training job names must be unique")
        if self.used[spot] + hosts["InstanceCount"] > self.quota[spot]:
            raise error(
                "ResourceLimitExceeded",
                f"The account-level service limit '{kind}' is {self.quota[spot]} Instances, with current"
                f" utilization of {self.used[spot]} Instances and a request delta of"
                f" {hosts['InstanceCount']} Instances. Please use AWS Service Quotas to request an increase"
                " for this quota.",
            )
        self.used[spot] += hosts["InstanceCount"]
        self.jobs[request["TrainingJobName"]] = request

    def describe_training_job(self, TrainingJobName: str) -> dict[str, str]:
        if TrainingJobName not in self.jobs:
            raise error("ValidationException", "Requested resource not found.")
        return {"TrainingJobStatus": self.statuses.get(TrainingJobName, "InProgress")}


def error(code: str, message: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "CreateTrainingJob")


def desk_of(on_demand: int, spot: int, **settings: Any) -> tuple[Desk, SmallAccount]:
    desk, account = Desk(burst=100, **settings), SmallAccount(on_demand, spot)
    client: Any = account
    object.__setattr__(desk.backend, "training", SageMaker(client))
    return desk, account


def drain(desk: Desk) -> None:
    while dispatch(desk.backend) == 0:
        desk.clock.time += 1


def test_dispatch_narrows_a_job_to_the_instances_that_are_free() -> None:
    # given four requests, which make a job of two hosts, and a quota of one instance
    desk, account = desk_of(on_demand=0, spot=1)
    names = desk.add(4)
    # when the requests are dispatched
    drain(desk)
    # then the requests of one host are trained, and the others are still queued, all at their first attempt
    [request] = account.jobs.values()
    assert request["ResourceConfig"]["InstanceCount"] == 1
    tasks = json.loads(desk.objects.get(keys.tasks(request["TrainingJobName"])) or b"")["tasks"]
    assert [(task["request"], task["host"]) for task in tasks] == [(name, 0) for name in names[:2]]
    assert [desk.request(name).status for name in names] == ["LAUNCHED"] * 2 + ["QUEUED"] * 2
    assert {desk.request(name).attempt for name in names} == {1}


def test_dispatch_keeps_the_place_of_requests_that_do_not_fit() -> None:
    desk, _ = desk_of(on_demand=0, spot=1)
    names = desk.add(8)
    dispatch(desk.backend)
    assert [request.request for request in desk.store.queue(10)] == names[2:]


def returned_after_an_interruption(desk: Desk, account: SmallAccount) -> tuple[str, str]:
    """Return two requests that are packed into one job while the quota is used up. The first was interrupted
    after two hours of training. The second was queued ten minutes before the interruption."""
    [early] = desk.add(1, user="a")
    dispatch(desk.backend)
    job = desk.job()
    desk.clock.time += 6600
    [late] = desk.add(1, user="b")
    desk.clock.time += 600
    account.statuses[job.job] = "Stopped"
    collect(desk.backend, job)
    assert desk.request(early).attempt == 2
    dispatch(desk.backend)
    return early, late


def test_dispatch_requeues_an_interrupted_request_at_its_return_time() -> None:
    # given an interrupted request, and a request that was queued ten minutes before the interruption
    desk, account = desk_of(on_demand=0, spot=1)
    early, late = returned_after_an_interruption(desk, account)
    # when the job with both requests gets no instance
    assert {desk.request(name).status for name in (early, late)} == {"QUEUED"}
    # then the request that was not interrupted is first in the queue
    assert [request.request for request in desk.store.queue(10)] == [late, early]


def test_sweeper_measures_the_wait_since_a_request_was_queued_again(monkeypatch: pytest.MonkeyPatch) -> None:
    # given an interrupted request that was packed into another job, which could not start
    desk, account = desk_of(on_demand=0, spot=1)
    returned_after_an_interruption(desk, account)
    told: dict[str, float] = {}
    backend = replace(desk.backend, count=told.__setitem__)
    monkeypatch.setattr(sweep, "DISPATCH_SECONDS", 0)
    # when the sweeper reads the queue
    assert sweep.Sweeper(backend, Mock(), Mock(), Mock()).queue() == []
    # then the waiting time is ten minutes, and does not include the earlier training
    assert told == {"QueueDepth": 2, "OldestQueuedSeconds": pytest.approx(600, abs=1)}


def test_dispatch_waits_for_used_spot_despite_free_on_demand() -> None:
    # given a spot quota that is used up, and free on-demand capacity
    desk, account = desk_of(on_demand=9, spot=1)
    desk.add(1)
    drain(desk)
    desk.add(1)
    drain(desk)
    assert account.used == {False: 0, True: 1}


def test_dispatch_uses_free_spot_instead_of_waiting_for_warm_pools() -> None:
    # given successive jobs, whose instances would be kept in warm pools, and no free on-demand capacity
    desk, account = desk_of(on_demand=1, spot=9, keep_alive=600)
    for _ in range(4):
        desk.add(1)
        drain(desk)
    assert account.used == {False: 1, True: 3}


def test_failing_creation_of_a_job_does_not_block_later_requests() -> None:
    # given a job whose creation repeatedly fails in SageMaker
    desk = Desk(burst=100)
    [first] = desk.add(1)
    create, broken = desk.training.create, []

    def fail_first(request: dict[str, Any]) -> None:
        broken.append(request["TrainingJobName"])
        if request["TrainingJobName"] == broken[0]:
            raise LaunchPostponedError("InternalFailure")
        create(request)

    desk.training.create = fail_first  # type: ignore[method-assign]
    dispatch(desk.backend)
    # when another request is queued
    [second] = desk.add(1)
    dispatch(desk.backend)
    # then that request does not wait for the first job
    jobs = {name: desk.request(name).job for name in (first, second)}
    assert list(desk.training.jobs) == [jobs[second]]


def test_no_new_job_is_claimed_while_many_are_postponed() -> None:
    desk = Desk(burst=1000, rate=10.0, tasks_per_host=1, hosts_max=1)
    desk.training.refuse = LaunchPostponedError("ServiceUnavailable")
    desk.add(100)
    for _ in range(300):
        desk.clock.time += dispatch(desk.backend) or 0.1
    assert len(desk.store.claimed) <= 10


def test_existing_job_is_not_narrowed() -> None:
    # given a job in SageMaker whose creation response was lost, and an account whose quota has been used up
    # since then
    desk, account = desk_of(on_demand=0, spot=2)
    names = desk.add(4)
    dispatch(desk.backend)
    job = desk.job()
    claimed = desk.store.job(job.job)
    assert claimed
    # SageMaker checks quotas before it checks whether the name is taken
    account.used[True] = 1
    request = account.jobs.pop(job.job)
    again = replace(claimed, status=JobStatus.CLAIMED)
    desk.store.change(claimed, again)
    found = account.describe_training_job
    account.describe_training_job = lambda TrainingJobName: {"TrainingJobStatus": "InProgress"}  # type: ignore[method-assign]
    # when the launch of the job is repeated
    launch(desk.backend, again)
    # then the job keeps all of its requests
    account.describe_training_job, account.jobs[job.job] = found, request  # type: ignore[method-assign]
    assert {desk.request(name).job for name in names} == {job.job}
    assert desk.job().status == JobStatus.CREATED


@pytest.mark.parametrize(
    ("message", "limit", "free"),
    [
        (
            "The account-level service limit 'ml.g5.2xlarge for spot training job usage' is 8 Instances, with"
            " current utilization of 7 Instances and a request delta of 2 Instances. Please contact AWS",
            8,
            1,
        ),
        (
            "The account-level service limit 'Number of instances across all training jobs' is 4 Instances,"
            " with current utilization of 5 Instances and a request delta of 1 Instances.",
            4,
            0,
        ),
        ("Something else.", None, 0),
    ],
)
def test_sagemaker_reads_the_quota_from_the_message(message: str, limit: int | None, free: int) -> None:
    class Client:
        def create_training_job(self, **_: Any) -> None:
            raise error("ResourceLimitExceeded", message)

    client: Any = Client()
    with pytest.raises(QuotaExceededError) as raised:
        SageMaker(client).create({})
    assert (raised.value.limit, raised.value.free) == (limit, free)


# Users


def of(user: str, desk: Desk, count: int) -> list[str]:
    return desk.add(count, user=user)


def test_first_request_of_a_user_is_in_the_next_job() -> None:
    # given a user with the maximum number of requests, and a user whose request comes later
    desk = Desk(burst=100)
    of("many", desk, 100)
    desk.clock.time += 600
    [first] = of("one", desk, 1)
    # when a job is created
    dispatch(desk.backend)
    # then the job has requests of both users
    members = desk.store.requests(desk.job().requests)
    assert first in [request.request for request in members]
    assert [request.user for request in members].count("many") == 3


def test_weighting_users_halves_waits_when_one_has_many_requests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # given four instances, a user with a hundred requests, and fifty other users in the next two hours
    def others_wait() -> float:
        terms = Terms(quota=0, spot_quota=4, **CALM)  # type: ignore[arg-type]
        return Account(users=150, heavy=100, terms=terms, steadily=7200).launch_day().waits_of_others[50]

    # when users are weighted, and when requests are first come, first served
    weighed = others_wait()
    monkeypatch.setattr("personalization.core.dispatch.FURTHER_SECONDS", 0.0)
    unweighed = others_wait()
    # then weights reduce the median wait of the other users by at least 40 %
    assert weighed < 0.6 * unweighed


def test_host_trains_first_requests_and_short_ones_first() -> None:
    desk = Desk(tasks_per_host=4, hosts_max=1)
    [long] = desk.add(1, user="a", estimate=90.0)
    [further] = desk.add(1, user="a", estimate=10.0)
    [short] = desk.add(1, user="b", estimate=30.0)
    dispatch(desk.backend)
    tasks = json.loads(desk.objects.get(keys.tasks(desk.job().job)) or b"")["tasks"]
    assert [task["request"] for task in tasks] == [short, long, further]
