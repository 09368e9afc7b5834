"""Deployment: each version has an endpoint, which is tested before the parameter names it; rollback; and
killed deployments."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from power_bidding.core.bid_ports import EndpointThrottledError, ModelAnswerError, Serving
from power_bidding.core.deployment import (
    DeploymentFailedError,
    EndpointState,
    InService,
    Stage,
    Version,
    deploy,
    roll_back,
    version_of,
)
from power_bidding.core.trial import Trial
from tests.support.power_bidding.desks import NIGHT, SETTINGS, World
from tests.support.turns import Turns

PREFIX = "stack-model"


class Cloud:
    """Endpoints that are in service after some polls."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.value = InService(None, None)
        self.made: dict[str, str] = {}
        """Statuses by name"""
        self.looks = 2
        self.reason = ""
        self.failures: list[Exception] = []
        self.tried: list[str] = []
        self.deleted: list[str] = []
        self.time = 0.0

    def get(self) -> InService:
        return self.value

    def put(self, value: InService) -> None:
        self.value = value
        self.turns.wrote()

    def create(self, name: str, source: Mapping[str, str]) -> None:
        self.made.setdefault(name, "Creating")
        self.turns.wrote()

    def state(self, name: str) -> EndpointState:
        if self.looks:
            self.looks -= 1
        elif self.made[name] == "Creating":
            self.made[name] = "Failed" if self.reason else "InService"
        return EndpointState(self.made[name], self.reason)

    def names(self) -> list[str]:
        return [*self.made]

    def delete(self, name: str) -> None:
        self.made.pop(name, None)
        self.deleted.append(name)
        self.turns.wrote()

    def attempt(self, name: str) -> None:
        self.tried.append(name)
        if self.failures:
            raise self.failures.pop(0)

    def sleep(self, seconds: float) -> None:
        self.time += seconds

    @property
    def stage(self) -> Stage:
        return Stage(PREFIX, self, self, self.attempt, lambda: self.time, self.sleep)


def version(number: int) -> Version:
    return Version(f"{number:x}" * 32, str(number), NIGHT + number, {"model_package_arn": f"arn:{number}"})


def name(number: int) -> str:
    return f"{PREFIX}-{f'{number:x}' * 12}"


def deployed(cloud: Cloud, *numbers: int) -> None:
    for number in numbers:
        deploy(cloud.stage, version(number), 500)


def test_version_is_named_once_its_endpoint_was_tried() -> None:
    cloud = Cloud()
    serving = deploy(cloud.stage, version(1), 500)
    assert serving == Serving(name(1), "1", NIGHT + 1)
    assert cloud.value == InService(serving, None)
    assert cloud.tried == [name(1)]


def test_former_version_is_kept_and_older_ones_are_deleted() -> None:
    cloud = Cloud()
    cloud.made = {f"{PREFIX}-other": "InService", f"{PREFIX}er-{'a' * 12}": "InService"}
    deployed(cloud, 1, 2, 3)
    assert cloud.deleted == [name(1)]
    assert cloud.value.now == Serving(name(3), "3", NIGHT + 3)
    assert cloud.value.former == Serving(name(2), "2", NIGHT + 2)


def test_deployment_repeated_changes_nothing() -> None:
    cloud = Cloud()
    deployed(cloud, 1, 2)
    before, tried = cloud.value, len(cloud.tried)
    deployed(cloud, 2)
    assert (cloud.value, len(cloud.tried)) == (before, tried)


@pytest.mark.parametrize("at", [1, 2, 3])
def test_killed_deployment_is_finished_by_the_next_try(at: int) -> None:
    # given two deployed versions, and a third version whose deployment is killed after one of its writes
    cloud = Cloud()
    deployed(cloud, 1, 2)
    cloud.turns.run([lambda: deployed(cloud, 3)], [], [(0, at)])
    # when
    deployed(cloud, 3)
    # then
    assert cloud.value.now
    assert cloud.value.former
    assert (cloud.value.now.version, cloud.value.former.version) == ("3", "2")
    assert set(cloud.made) == {name(2), name(3)}


def fails_to_start(cloud: Cloud) -> None:
    cloud.reason = "no capacity"


def starts_too_slowly(cloud: Cloud) -> None:
    cloud.looks = 999


def answers_wrong(cloud: Cloud) -> None:
    cloud.failures = [ModelAnswerError("NaN")]


def never_answers(cloud: Cloud) -> None:
    cloud.failures = [EndpointThrottledError("busy")] * 999


@pytest.mark.parametrize("fail", [fails_to_start, starts_too_slowly, answers_wrong, never_answers])
def test_failed_trial_deletes_its_endpoint(fail: Callable[[Cloud], None]) -> None:
    cloud = Cloud()
    deployed(cloud, 1, 2)
    before = cloud.value
    fail(cloud)
    with pytest.raises(DeploymentFailedError) as raised:
        deploy(cloud.stage, version(3), 500)
    assert name(3) in str(raised.value)
    assert cloud.value == before
    assert set(cloud.made) == {name(1), name(2)} - {*cloud.deleted[:-1]}
    assert cloud.deleted[-1] == name(3)
    assert cloud.time <= 500 + 10


def test_cold_endpoint_is_tried_until_it_answers() -> None:
    cloud = Cloud()
    cloud.failures = [EndpointThrottledError("starts")] * 3
    deployed(cloud, 1)
    assert len(cloud.tried) == 4


def test_rollback_swaps_the_two_versions() -> None:
    cloud = Cloud()
    deployed(cloud, 1, 2)
    assert roll_back(cloud.stage, None).version == "1"
    assert cloud.value.former
    assert cloud.value.former.version == "2"
    # a repeated rollback has no effect, because the request names the version to return to
    assert roll_back(cloud.stage, "1").version == "1"
    assert roll_back(cloud.stage, "2").version == "2"


def test_rollback_without_a_former_version_is_refused() -> None:
    cloud = Cloud()
    with pytest.raises(ValueError, match="no previous version"):
        roll_back(cloud.stage, None)
    deployed(cloud, 1, 2)
    with pytest.raises(ValueError, match="version must be the previous one, 1, got 9"):
        roll_back(cloud.stage, "9")
    cloud.made[name(1)] = "Failed"
    with pytest.raises(ValueError, match="is Failed"):
        roll_back(cloud.stage, "1")
    assert cloud.value.now
    assert cloud.value.now.version == "2"


def test_deployment_after_a_rollback_succeeds() -> None:
    cloud = Cloud()
    deployed(cloud, 1, 2)
    roll_back(cloud.stage, None)
    deployed(cloud, 3)
    assert cloud.value.now
    assert cloud.value.former
    assert (cloud.value.now.version, cloud.value.former.version) == ("3", "1")
    assert set(cloud.made) == {name(1), name(3)}


@pytest.mark.parametrize(
    ("event", "named"),
    [
        ({}, "request must be"),
        ({"request": "x" * 32}, "request must be"),
        ({"request": "a" * 32}, "version must be given"),
        ({"request": "a" * 32, "version": "1"}, "model_package_arn, or"),
        ({"request": "a" * 32, "version": "1", "model_data": "s3://a"}, "model_package_arn, or"),
    ],
)
def test_wrong_request_to_deploy_names_the_field(event: dict[str, str], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        version_of(event, NIGHT)


def test_deployment_accepts_a_package_or_an_image() -> None:
    given = {"request": "a" * 32, "version": "1"}
    assert version_of({**given, "model_package_arn": "arn"}, 5).source == {"model_package_arn": "arn"}
    source = {"model_data": "s3://a", "image": "b"}
    assert version_of({**given, **source}, 5) == Version("a" * 32, "1", 5, source)


def test_trial_sends_a_request_of_bids_and_checks_the_response() -> None:
    world = World()
    desk = world.desk
    trial = Trial(desk.assets, SETTINGS, desk.history, desk.datasets, desk.models)
    world.model.change = {"real_time": {"hour": "2022-01-31T07:00Z", "segments": [[0.0, -150.0]]}}
    trial.attempt("e", NIGHT)
    (asked,) = world.model.asked
    assert asked["state_of_charge"] == 0.0
    world.model.change["model"] = None
    with pytest.raises(ModelAnswerError, match="version"):
        trial.attempt("e", NIGHT)
