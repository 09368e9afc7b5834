"""The project's stack under enforced IAM: replayed hours of a market, offers, the stop switch, and
rollback."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from local.cloud import LocalCloud
from local.names import resolve_localhost
from scenarios import aws as scenario_aws
from scenarios.power_bidding import steps
from scenarios.power_bidding.desk import Desk
from scenarios.power_bidding.history import Replay, history, later
from scenarios.power_bidding.replay import FeedServer, replaying
from scenarios.power_bidding.steps import Plan
from tests.support.clouds import own_keys
from tests.support.notebooks import EXECUTE
from tests.support.waiting import until
from tooling import envs

STACK, ONLY = "groundplan-dev-power-bidding", {"only": "power_bidding"}
FEW = Plan(hours=11, rate=1200, room=60, load_down=1, weather_late=6, retrained=4, corrected=8)
NOTEBOOKS = envs.ROOT / "notebooks" / "power_bidding"

Outputs = dict[str, str]


@pytest.fixture(scope="module")
def replay() -> Replay:
    return history(lambda line: None)


@pytest.fixture(scope="module")
def deployed(cloud: LocalCloud, replay: Replay) -> Iterator[Outputs]:
    cloud.configure(create_training_job_burst=100)
    context = ONLY | {
        "power_bidding.assets": f"battery-1@{replay.location}",
        "power_bidding.time_zone": replay.zone,
        # in the replay, a lead of 10 hours lasts half a minute of real time, which is enough on a busy
        # machine too
        "power_bidding.lead_hours": "10",
        "power_bidding.late_minutes": "30",
    }
    outputs = cloud.deploy(STACK, context=context)[STACK]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cloud.env().items():
            patch.setenv(name, value)
        resolve_localhost()
        cloud.enforce_iam(True)
        yield outputs
        cloud.enforce_iam(False)


@pytest.fixture(scope="module")
def lived(deployed: Outputs, tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """The figures of a few replayed hours."""
    out = tmp_path_factory.mktemp("replayed")
    result = steps.run(STACK, out, lambda line: None, FEW)
    assert all(path.is_file() for path in result.artifacts)
    return result.metrics


@pytest.fixture(scope="module")
def desk(deployed: Outputs, lived: dict[str, float]) -> Desk:
    return Desk(deployed, FEW.rate)


@pytest.fixture(scope="module")
def hour(replay: Replay) -> str:
    """Return an hour that is later than the replayed hours."""
    return later(replay.first, FEW.hours + 2)


@pytest.fixture(scope="module")
def market(
    desk: Desk, replay: Replay, hour: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FeedServer]:
    """A market server whose clock is paused at `hour`."""
    folder = tmp_path_factory.mktemp("market")
    with replaying(replay, hour, 1, desk.assets(), folder) as feeds:
        desk.credentials(feeds.secret)
        desk.clock(hour, 1)
        yield feeds


# The tests must run in this order: each one depends on the state that the previous one leaves


def test_every_replayed_hour_has_one_offer_in_time(lived: dict[str, float]) -> None:
    wrong = ("hours_without_bid", "late_bids", "double_bids", "fallback_hours", "no_offer_hours")
    assert {name: lived[name] for name in wrong} == dict.fromkeys(wrong, 0)
    assert (lived["replayed_hours"], lived["corrected_hours"]) == (FEW.hours, 1)
    assert lived["interpolated_hours"] >= 2
    assert lived["retrainings"] >= 1


def test_athena_joins_offers_with_prices(desk: Desk, replay: Replay) -> None:
    found = desk.ask_athena(replay)
    names, *rows = found["offers and prices"]
    assert names[:4] == ["asset", "hour_utc", "market", "location"]
    assert {row[2] for row in rows} >= {"RT"}
    assert ["RT", "model"] in [row[:2] for row in found["sources"]]


def signed(cloud: LocalCloud, url: str) -> urllib.request.Request:
    """Return a GET request that is signed with the cloud's root access key."""
    keys = own_keys(cloud)
    credentials = Credentials(keys["aws_access_key_id"], keys["aws_secret_access_key"])
    request = AWSRequest("GET", url)
    SigV4Auth(credentials, "execute-api", cloud.region).add_auth(request)
    return urllib.request.Request(url, headers=dict(request.headers))  # noqa: S310


def test_api_answers_signed_requests_only(
    cloud: LocalCloud, deployed: Outputs, desk: Desk, replay: Replay
) -> None:
    url = scenario_aws.address(deployed["ApiUrl"])
    hour = later(replay.first, FEW.hours)
    with urllib.request.urlopen(signed(cloud, f"{url}/bids/{hour}")) as answer:  # noqa: S310
        (bid, *_) = json.load(answer)["bids"]
    assert (bid["hour"], bid["market"], bid["status"], bid["source"]) == (hour, "RT", "sent", "model")
    with urllib.request.urlopen(signed(cloud, f"{url}/status")) as answer:  # noqa: S310
        status = json.load(answer)
    assert (status["switch"], status["dataset"]["status"]) == ("go", "complete")
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{url}/status")  # noqa: S310


def run_of(desk: Desk, hour: str) -> dict[str, Any]:
    """Run the state machine `bid` for an hour; return the resulting real-time offer."""
    states = scenario_aws.client("stepfunctions")
    execution = states.start_execution(
        stateMachineArn=desk.outputs["BidArn"], input=json.dumps({"hour": hour, "version": 0, "rate": 60})
    )["executionArn"]
    (asset,) = desk.ended(execution, 120)["offers"]
    return asset["offers"][0]


def test_switch_stops_offers_or_holds_them_for_release(desk: Desk, market: FeedServer, hour: str) -> None:
    ssm, functions = scenario_aws.client("ssm"), scenario_aws.client("lambda")

    def turned(to: str) -> None:
        ssm.put_parameter(Name=desk.outputs["SwitchParameterName"], Value=to, Type="String", Overwrite=True)

    try:
        # given an offer that waits for its release
        turned("approve")
        assert run_of(desk, hour)["status"] == "proposed"
        assert market.results()["offers"] == []
        # when the offer is released, then the market has it once
        answer = functions.invoke(
            FunctionName=desk.outputs["ReleaseFunctionName"], Payload=json.dumps({"hour": hour})
        )
        released = json.load(answer["Payload"])
        assert (len(released["sent"]), released["refused"]) == (1, [])
        assert run_of(desk, hour)["status"] == "sent"
        assert [offer["market"] for offer in market.results()["offers"]] == ["RT"]
        # when the switch stops all offers, then the next offer is not sent until the switch allows offers
        # again
        turned("stop")
        assert run_of(desk, later(hour, 1))["status"] == "stopped"
        assert len(market.results()["offers"]) == 1
    finally:
        turned("go")
    assert run_of(desk, later(hour, 1))["status"] == "sent"
    assert len(market.results()["offers"]) == 2


def test_roll_back_function_restores_the_former_model(
    desk: Desk, deployed: Outputs, market: FeedServer, hour: str, replay: Replay
) -> None:
    # given two model versions that have been deployed
    functions, sagemaker = scenario_aws.client("lambda"), scenario_aws.client("sagemaker")
    before = json.loads(desk.endpoint())
    if before["former"] is None:  # the second model was not better, so it was not deployed
        found = sagemaker.describe_model_package(ModelPackageName=before["version"])
        (container,) = found["InferenceSpecification"]["Containers"]
        event = {"hour": hour, "request": "0123456789ab", "version": "the same again"}
        event |= {"image": container["Image"], "model_data": container["ModelDataUrl"]}
        functions.invoke(FunctionName=deployed["DeployFunctionName"], Payload=json.dumps(event))
        before = json.loads(desk.endpoint())
    # when an operator rolls back
    answer = functions.invoke(FunctionName=deployed["RollBackFunctionName"], Payload=b"{}")
    back = json.load(answer["Payload"])
    # then the former version serves, and the replaced version is recorded as the former version
    assert back["version"] == before["former"]["version"]
    assert json.loads(desk.endpoint())["former"]["version"] == before["version"]


def test_missing_endpoint_leads_to_a_fallback_or_no_offer(
    desk: Desk, market: FeedServer, hour: str, aws: Callable
) -> None:
    ssm, name = scenario_aws.client("ssm"), desk.outputs["EndpointParameterName"]
    before = desk.endpoint()
    gone = json.loads(before) | {"endpoint": f"{STACK}-000000000000"}
    try:
        ssm.put_parameter(Name=name, Value=json.dumps(gone), Type="String", Overwrite=True)
        offer = run_of(desk, later(hour, 2))
    finally:
        ssm.put_parameter(Name=name, Value=before, Type="String", Overwrite=True)
    assert (offer["status"], offer["source"]) in [("sent", "fallback"), ("no_offer", "none")]


def test_backfill_prepares_every_listed_hour(
    desk: Desk, deployed: Outputs, market: FeedServer, hour: str, aws: Callable
) -> None:
    hours = [later(hour, number) for number in (-30, -29, -28)]
    aws("s3").put_object(Bucket=deployed["BucketName"], Key="backfill/hours.json", Body=json.dumps(hours))
    states = scenario_aws.client("stepfunctions")
    execution = states.start_execution(
        stateMachineArn=deployed["BackfillArn"],
        input=json.dumps({"bucket": deployed["BucketName"], "key": "backfill/hours.json"}),
    )["executionArn"]
    assert desk.ended(execution, 120) == {"prepared": True}
    assert {row["hour"] for row in desk.versions()} >= set(hours)


def test_notebook_drives_and_inspects_the_machines(
    cloud: LocalCloud, deployed: Outputs, market: FeedServer, hour: str
) -> None:
    done = subprocess.run(
        [
            *(str(envs.environment("notebooks-power_bidding")), "-c", EXECUTE, "machines.ipynb"),
            "status=status, states=len(states), offers=len(offers)",
        ],
        cwd=NOTEBOOKS,
        env=os.environ | cloud.env() | {"GROUNDPLAN_STACK": STACK, "GROUNDPLAN_HOUR": later(hour, -2)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.strip().splitlines()[-1])
    assert (told["status"], told["states"] > 5, told["offers"] > 0) == ("SUCCEEDED", True, True)


def test_destroyed_stack_leaves_no_endpoint_logs(
    cloud: LocalCloud, deployed: Outputs, desk: Desk, aws: Callable
) -> None:
    # given log groups of endpoints, with a retention period
    cloud.enforce_iam(False)
    beginning = f"/aws/sagemaker/Endpoints/{STACK}-"

    def logs() -> list[dict[str, Any]]:
        return aws("logs").describe_log_groups(logGroupNamePrefix=beginning)["logGroups"]

    assert {each["retentionInDays"] for each in logs()} == {30}
    # when the stack is destroyed
    cloud.destroy(STACK, context=ONLY)
    # then the logs are deleted
    assert logs() == []
    left = aws("sagemaker").list_endpoints(NameContains=STACK)["Endpoints"]
    until(lambda: not aws("sagemaker").list_endpoints(NameContains=STACK)["Endpoints"], f"the end of {left}")
    assert not aws("sagemaker").list_pipelines(PipelineNamePrefix=STACK)["PipelineSummaries"]
