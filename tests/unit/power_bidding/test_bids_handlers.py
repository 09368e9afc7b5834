"""The handlers: they convert events to calls of `core`, and results to responses."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from power_bidding.aws import desk
from power_bidding.core.assets import ModelSettings
from power_bidding.core.bid_ports import Serving
from power_bidding.core.deployment import EndpointState, InService
from power_bidding.core.waiting import Progress, Wait, WaitingRoom
from power_bidding.handlers import (
    api,
    check_model,
    deploy,
    fall_back,
    make_bids,
    pipeline_events,
    release,
    retrain,
    roll_back,
    sweep,
)
from tests.support.power_bidding.desks import ASSET, LOCATION, NIGHT, SETTINGS, World

HOUR = "2022-01-31T05:00Z"
CONTEXT: Any = SimpleNamespace(
    function_name="f",
    memory_limit_in_mb=128,
    invoked_function_arn="arn:f",
    aws_request_id="r",
    get_remaining_time_in_millis=lambda: 600_000,
)


class Parameter:
    """The parameter that names the endpoint in service, in memory."""

    def __init__(self) -> None:
        self.value = InService(Serving("m-111111111111", "1", NIGHT - 50), None)

    def get(self) -> InService:
        return self.value

    def put(self, value: InService) -> None:
        self.value = value


class Aws:
    """Waits, pipeline, callbacks, bucket and endpoints in memory, with the methods that the handlers use."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.row: Wait = {}
        self.started_with: tuple[str, ...] = ()
        self.told: list[str] = []

    def put(self, key: str, body: bytes, content_type: str) -> None:
        self.files[key] = body

    def model_data(self, name: str) -> str:
        return f"s3://bucket/models/{name}/model.tar.gz"

    def copy(self, source: str, key: str) -> None:
        self.files[key] = source.encode()

    def set(self, request: str, values: Wait) -> Wait:
        self.row.update({"request": request})
        self.row.update(values)
        return {**self.row}

    def open(self) -> list[Wait]:
        return [self.row]

    def started(self, hour: int) -> None:
        pass

    def last_start(self) -> int | None:
        return None

    def start(self, request: str, hour: str, training: str) -> str:
        self.started_with = request, hour, training
        return "arn:e"

    def request_of(self, execution: str) -> str | None:
        return self.row.get("request")

    def progress(self, execution: str) -> Progress:
        return Progress("Executing", "")

    def executing(self) -> bool:
        return False

    def succeed(self, token: str, output: str) -> bool:
        self.told.append(output)
        return True

    def fail(self, token: str, error: str, cause: str) -> bool:
        self.told.append(error)
        return True

    def beat(self, token: str) -> bool:
        self.told.append("beat")
        return True

    def create(self, name: str, source: Any) -> None:
        pass

    def state(self, name: str) -> EndpointState:
        return EndpointState("InService", "")

    def names(self) -> list[str]:
        return []

    def delete(self, name: str) -> None:
        raise AssertionError(name)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """Replace the handlers' adapters with a world in memory."""
    found, aws, parameter = World(), Aws(), Parameter()
    monkeypatch.setenv("BUCKET", "bucket")
    monkeypatch.setenv("ENDPOINT_NAME", "m")
    made = {
        "desk": found.desk,
        "assets": found.desk.assets,
        "market_settings": SETTINGS,
        "model_settings": ModelSettings(168, 24, 2),
        "bids": found.offers,
        "history": found.past,
        "datasets": found.ahead,
        "models": found.model,
        "clock": found.clock,
        "endpoint_parameter": parameter,
        "waits": aws,
        "pipeline": aws,
        "bucket": aws,
        "endpoints": aws,
        "waiting_room": WaitingRoom(aws, aws, aws),
        "hours_table": SimpleNamespace(rows=lambda of: {}),
        "aws": aws,
    }
    for name, value in made.items():
        monkeypatch.setattr(desk, name, lambda value=value: value, raising=False)
    monkeypatch.setattr(desk, "read_switch", lambda: found.switch)
    api.reader.cache_clear()
    return found


def test_bids_fallback_and_release_report_their_offers(world: World) -> None:
    world.switch = "approve"
    made = make_bids.handler({"hour": HOUR, "version": 1, "asset": ASSET}, CONTEXT)
    assert [offer["status"] for offer in made["offers"]] == ["proposed"]
    assert release.handler({"hour": HOUR}, CONTEXT)["sent"] == [f"{ASSET} 2022-01-31T07:00Z#RT"]
    error = {"Error": "ModelAnswerError", "Cause": "NaN"}
    fallen = fall_back.handler({"hour": HOUR, "asset": ASSET, "error": error}, CONTEXT)
    assert [offer["status"] for offer in fallen["offers"]] == ["sent"]


def test_reason_of_a_fallback_is_the_catchers_error(world: World) -> None:
    error = {"Error": "ModelAnswerError", "Cause": "NaN"}
    fallen = fall_back.handler({"hour": HOUR, "asset": ASSET, "error": error}, CONTEXT)
    assert [offer["reason"] for offer in fallen["offers"]] == ["ModelAnswerError: NaN"]


def test_retraining_writes_the_history_and_ends_by_the_event(world: World) -> None:
    aws = desk.aws()  # type: ignore[attr-defined]
    event: Any = {"hour": HOUR, "token": "t", "execution": "arn:machine"}
    started = retrain.handler(event, CONTEXT)
    request = started["request"]
    assert started["execution"] == "arn:e"
    champion = f"training/{request}/champion/model.tar.gz"
    assert list(aws.files) == [f"training/{request}/history/{LOCATION}.csv", champion]
    assert aws.files[champion] == b"s3://bucket/models/m-111111111111/model.tar.gz"
    assert aws.started_with == (request, HOUR, f"s3://bucket/training/{request}")
    step: Any = {"detail": {"pipelineExecutionArn": "arn:e", "currentStepStatus": "Succeeded"}}
    end: Any = {"detail": {"pipelineExecutionArn": "arn:e", "currentPipelineExecutionStatus": "Succeeded"}}
    pipeline_events.handler(step, CONTEXT)
    sweep.handler({}, CONTEXT)
    pipeline_events.handler(end, CONTEXT)
    assert aws.told[:2] == ["beat", "beat"]
    assert json.loads(aws.told[2]) == {"request": request, "status": "Succeeded", "execution": "arn:e"}


def test_model_is_checked_deployed_and_rolled_back(world: World) -> None:
    assert check_model.handler({"hour": HOUR}, CONTEXT) == {
        "current": True,
        "reason": "current",
        "endpoint": "m-111111111111",
    }
    world.model.change = {"real_time": {"hour": "2022-01-31T07:00Z", "segments": [[0.0, -150.0]]}}
    event: Any = {"hour": HOUR, "request": "2" * 32, "version": "2", "model_package_arn": "arn:p"}
    assert deploy.handler(event, CONTEXT) == {"endpoint": "m-222222222222", "version": "2"}
    assert roll_back.handler({}, CONTEXT) == {"endpoint": "m-111111111111", "version": "1"}


def test_api_answers_and_hides_failures(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert api.handler({"routeKey": "GET /status"}, CONTEXT)["statusCode"] == 200

    def fails() -> Any:
        raise OSError("a secret detail")

    monkeypatch.setattr(desk, "read_switch", fails)
    api.reader.cache_clear()
    answered = api.handler({"routeKey": "GET /status"}, CONTEXT)
    assert answered["statusCode"] == 500
    assert "secret" not in answered["body"]
