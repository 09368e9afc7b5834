"""The adapters: valid requests to AWS, plain values in responses, and errors as exceptions."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.exceptions import ReadTimeoutError
from botocore.response import StreamingBody
from botocore.stub import ANY, Stubber

from power_bidding.aws.bids_table import DynamoBids, item_of, offer_of
from power_bidding.aws.endpoint import EndpointModels, SageMakerEndpoints
from power_bidding.aws.parameters import EndpointParameter, MarketClock, Parameters, switch
from power_bidding.aws.pipeline import DynamoWaits, SageMakerPipeline, StepFunctions
from power_bidding.aws.stores import HistoryReader
from power_bidding.aws.tables import Table, marshal
from power_bidding.core.assets import assets_of, market_of
from power_bidding.core.bid_ports import EndpointThrottledError, Forecast, ModelAnswerError, Serving
from power_bidding.core.deployment import EndpointState, InService
from power_bidding.core.offers import Offer, Slot
from power_bidding.core.waiting import Progress
from tests.support.power_bidding.desks import ASSET, NIGHT

OFFER = Offer(
    ASSET,
    Slot(NIGHT, "RT"),
    NIGHT - 2,
    ((-8.0, -150.0), (8.0, 50.5)),
    "proposed",
    "model",
    "7",
    3,
    "a",
    reason="r",
)


def stubbed(service: Any) -> tuple[Any, Stubber]:
    client = boto3.client(service, region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="x")
    stubber = Stubber(client)
    stubber.activate()
    return client, stubber


def test_offer_is_read_back_unchanged() -> None:
    client, stub = stubbed("dynamodb")
    stub.add_response("get_item", {"Item": marshal(item_of(OFFER))})
    assert DynamoBids(Table(client, "bids")).get(ASSET, OFFER.slot) == OFFER
    none = Offer(ASSET, Slot(NIGHT, "DA"), NIGHT, (), "no_offer", "none", "", 0, "b")
    assert offer_of(item_of(none)) == none


def test_swap_compares_the_row_that_was_read() -> None:
    client, stub = stubbed("dynamodb")
    table = DynamoBids(Table(client, "bids"))
    asked = {
        "TableName": "bids",
        "Item": ANY,
        "ConditionExpression": "#status = :status AND #digest = :digest AND #tried = :tried AND"
        " #refused = :refused AND #made = :made AND #run = :run AND #version = :version",
        "ExpressionAttributeNames": ANY,
        "ExpressionAttributeValues": {
            ":status": {"S": "proposed"},
            ":digest": {"S": OFFER.digest},
            ":tried": {"S": ""},
            ":refused": {"S": ""},
            ":made": {"S": "a"},
            ":run": {"N": str(NIGHT - 2)},
            ":version": {"N": "3"},
        },
    }
    stub.add_response("put_item", {}, asked)
    stub.add_client_error("put_item", "ConditionalCheckFailedException")
    assert table.swap(OFFER, OFFER)
    assert not table.swap(None, OFFER)
    final = Offer(ASSET, OFFER.slot, NIGHT, (), "sent", "none", "", 0, "b")
    with pytest.raises(ValueError, match="is sent, and must not change"):
        table.swap(final, OFFER)


def test_rows_of_other_kinds_are_not_offers() -> None:
    client, stub = stubbed("dynamodb")
    table = DynamoBids(Table(client, "bids"))
    names = {"#asset": "asset", "#offer": "offer"}

    def range_of(first: str, last: str) -> dict[str, Any]:
        values = {":key": {"S": ASSET}, ":first": {"S": first}, ":last": {"S": last}}
        return {
            "TableName": "bids",
            "KeyConditionExpression": "#asset = :key AND #offer BETWEEN :first AND :last",
            "ConsistentRead": True,
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": values,
        }

    wanted = range_of("2022-01-31T05:00Z#", "2022-01-31T06:00Z#~")
    first = {"Items": [marshal(item_of(OFFER))], "LastEvaluatedKey": {"asset": {"S": "x"}}}
    stub.add_response("query", first, wanted)
    stub.add_response("query", {"Items": []}, wanted | {"ExclusiveStartKey": {"asset": {"S": "x"}}})
    assert table.between(ASSET, NIGHT, NIGHT + 1) == [OFFER]
    level = {"offer": {"S": "charge#2022-01-31T04:00Z"}, "level": {"N": "12.5"}}
    newest = {"ScanIndexForward": False, "Limit": 1}
    stub.add_response("query", {"Items": [level]}, range_of("charge#", "charge#2022-01-31T05:00Z") | newest)
    assert table.level(ASSET, NIGHT) == (NIGHT - 1, 12.5)


def test_forecast_is_read_back_unchanged() -> None:
    client, stub = stubbed("dynamodb")
    table = DynamoBids(Table(client, "bids"))
    forecast = Forecast(ASSET, "2022-02-01", NIGHT, [1.5, -2.0], "7", NIGHT, "m")
    kept: dict[str, Any] = {}

    def keep(params: dict[str, Any], **_: Any) -> None:
        kept.update(params)

    client.meta.events.register("provide-client-params.dynamodb.PutItem", keep)
    stub.add_response("put_item", {})
    table.put_forecast(forecast)
    assert kept["ConditionExpression"] == "attribute_not_exists(#offer) OR #run <= :run"
    stub.add_response("query", {"Items": [kept["Item"]]})
    assert table.forecasts(ASSET, "2022-02-01", "2022-02-02") == [forecast]


def test_history_gives_cells_only() -> None:
    client, stub = stubbed("dynamodb")
    item = {"location": "A", "day": "2022-01-31", "h05": "1.0,,,", "n05": 2, "f05": "3.5", "g05": 9}
    stub.add_response("query", {"Items": [marshal(item)]})
    found = HistoryReader(Table(client, "history")).days("A", "2022-01-30", "2022-01-31")
    assert found == {"2022-01-31": {"h05": "1.0,,,", "f05": "3.5", "g05": 9}}


def test_wait_is_updated_and_read_in_one_call() -> None:
    client, stub = stubbed("dynamodb")
    waits = DynamoWaits(Table(client, "waits"))
    after = {"request": "r", "ended": "Failed", "token": "t", "expires": 1}
    asked = {
        "TableName": "waits",
        "Key": {"request": {"S": "r"}},
        "UpdateExpression": "SET #ended = :ended, #expires = :expires",
        "ReturnValues": "ALL_NEW",
        "ExpressionAttributeNames": {"#ended": "ended", "#expires": "expires"},
        "ExpressionAttributeValues": {":ended": {"S": "Failed"}, ":expires": ANY},
    }
    stub.add_response("update_item", {"Attributes": marshal(after)}, asked)
    assert waits.set("r", {"ended": "Failed"}) == after
    stub.add_response("scan", {"Items": [marshal(after)]})
    assert list(waits.open()) == [after]
    stub.add_response("get_item", {"Item": marshal({"request": "#latest", "hour": "2022-01-31T05:00Z"})})
    stub.add_response("get_item", {})
    assert (waits.last_start(), waits.last_start()) == (NIGHT, None)


def test_pipeline_starts_with_the_token_and_its_parameters() -> None:
    client, stub = stubbed("sagemaker")
    pipeline = SageMakerPipeline(client, "p")
    given = {"Request": "r" * 32, "Hour": "h", "Training": "s3://b/t/"}
    asked = {
        "PipelineName": "p",
        "ClientRequestToken": "r" * 32,
        "PipelineParameters": [{"Name": name, "Value": value} for name, value in given.items()],
    }
    stub.add_response("start_pipeline_execution", {"PipelineExecutionArn": "arn:e"}, asked)
    assert pipeline.start("r" * 32, "h", "s3://b/t/") == "arn:e"
    pages = [
        {"PipelineParameters": [{"Name": "Hour", "Value": "h"}], "NextToken": "n"},
        {"PipelineParameters": [{"Name": "Request", "Value": "r"}]},
        {"PipelineParameters": []},
    ]
    for page in pages:
        stub.add_response("list_pipeline_parameters_for_execution", page)
    assert (pipeline.request_of("arn:e"), pipeline.request_of("arn:e")) == ("r", None)
    found = {"PipelineExecutionStatus": "Failed", "FailureReason": "why"}
    stub.add_response("describe_pipeline_execution", found)
    assert pipeline.progress("arn:e") == Progress("Failed", "why")
    for statuses, executing in ((["Succeeded", "Executing"], True), (["Failed"], False)):
        summaries = [{"PipelineExecutionStatus": status} for status in statuses]
        stub.add_response("list_pipeline_executions", {"PipelineExecutionSummaries": summaries})
        assert pipeline.executing() is executing


@pytest.mark.parametrize("code", ["TaskTimedOut", "TaskDoesNotExist", "InvalidToken"])
def test_answer_to_a_task_that_is_over_is_no_error(code: str) -> None:
    client, stub = stubbed("stepfunctions")
    functions = StepFunctions(client)
    calls: list[tuple[str, Callable[[], bool]]] = [
        ("send_task_success", lambda: functions.succeed("t", "{}")),
        ("send_task_failure", lambda: functions.fail("t", "e", "c")),
        ("send_task_heartbeat", lambda: functions.beat("t")),
    ]
    for operation, call in calls:
        stub.add_client_error(operation, code)
        stub.add_response(operation, {})
        assert (call(), call()) == (False, True)


def models_of(client: Any) -> EndpointModels:
    return EndpointModels(client, EndpointParameter(Parameters(client, "p")))


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("ThrottlingException", None, EndpointThrottledError),
        ("ModelNotReadyException", None, EndpointThrottledError),
        ("ServiceUnavailable", None, EndpointThrottledError),
        ("ModelError", 503, EndpointThrottledError),
        ("ModelError", 400, ModelAnswerError),
        ("ModelError", 500, ModelAnswerError),
        ("ValidationError", None, ModelAnswerError),
    ],
)
def test_endpoint_error_raises_its_exception(code: str, status: int | None, kind: type[Exception]) -> None:
    client, stub = stubbed("sagemaker-runtime")
    more = {"OriginalStatusCode": status, "OriginalMessage": "hour must be"} if status else {}
    stub.add_client_error("invoke_endpoint", code, modeled_fields=more or None)
    with pytest.raises(kind) as raised:
        models_of(client).ask("e", {})
    assert not status or "hour must be" in str(raised.value)


def test_endpoint_that_answers_no_json_is_a_wrong_answer() -> None:
    client, stub = stubbed("sagemaker-runtime")
    for body in (b"<html>", b'{"model": "7"}'):
        stub.add_response("invoke_endpoint", {"Body": StreamingBody(io.BytesIO(body), len(body))})
    with pytest.raises(ModelAnswerError, match="is not JSON"):
        models_of(client).ask("e", {})
    assert models_of(client).ask("e", {}) == {"model": "7"}
    with pytest.raises(ValueError, match="Out of range"):
        models_of(client).ask("e", {"price": float("nan")})


def test_endpoint_that_does_not_answer_in_time_is_busy() -> None:
    class Slow:
        def invoke_endpoint(self, **_: Any) -> None:
            raise ReadTimeoutError(endpoint_url="x")

    with pytest.raises(EndpointThrottledError, match="e did not answer: ReadTimeoutError"):
        models_of(Slow()).ask("e", {})


HOSTING = {
    "variant": {"ServerlessConfig": {"MemorySizeInMB": 3072, "MaxConcurrency": 5}},
    "vpc": {},
    "key": "",
    "log_days": 30,
    "log_key": "arn:aws:kms:eu-west-1:111122223333:key/k",
}


def test_only_missing_parts_of_an_endpoint_are_created() -> None:
    client, stub = stubbed("sagemaker")
    logs, log_stub = stubbed("logs")
    endpoints = SageMakerEndpoints(
        client, logs, "m", "arn:aws:iam::111122223333:role/r", {**HOSTING, "tags": {"a": "b"}}
    )
    tags = [{"Key": "a", "Value": "b"}]
    model = {
        "ModelName": "m-1",
        "ExecutionRoleArn": "arn:aws:iam::111122223333:role/r",
        "PrimaryContainer": {"Image": "i", "ModelDataUrl": "s3://d"},
        "Tags": tags,
    }
    stub.add_response(
        "create_model", {"ModelArn": "arn:aws:sagemaker:eu-west-1:111122223333:model/m-1"}, model
    )
    said = "Cannot create already existing endpoint configuration"
    stub.add_client_error("create_endpoint_config", "ValidationException", said)
    named = {"EndpointName": "m-1", "EndpointConfigName": "m-1", "Tags": tags}
    arn = "arn:aws:sagemaker:eu-west-1:111122223333:endpoint/m-1"
    stub.add_response("create_endpoint", {"EndpointArn": arn}, named)
    group = "/aws/sagemaker/Endpoints/m-1"
    log_stub.add_client_error(
        "create_log_group", "ResourceAlreadyExistsException", "The specified log group already exists"
    )
    log_stub.add_response("put_retention_policy", {}, {"logGroupName": group, "retentionInDays": 30})
    endpoints.create("m-1", {"image": "i", "model_data": "s3://d"})
    log_stub.assert_no_pending_responses()
    stub.assert_no_pending_responses()


def test_deleting_a_missing_endpoint_is_no_error() -> None:
    client, stub = stubbed("sagemaker")
    logs, _ = stubbed("logs")
    endpoints = SageMakerEndpoints(client, logs, "m", "r", {**HOSTING, "tags": {}})
    said = 'Could not find endpoint "m-1".'
    stub.add_client_error("describe_endpoint", "ValidationException", said)
    assert endpoints.state("m-1") == EndpointState("Missing", "")
    stub.add_client_error("delete_endpoint", "ValidationException", said)
    stub.add_client_error("delete_endpoint_config", "ValidationException", said)
    stub.add_response("delete_model", {})
    endpoints.delete("m-1")
    stub.assert_no_pending_responses()


class Store:
    """Systems Manager's parameters."""

    def __init__(self, value: str) -> None:
        self.value = value

    def get_parameter(self, *, Name: str) -> dict[str, Any]:
        return {"Parameter": {"Value": self.value}}

    def put_parameter(self, *, Name: str, Value: str, Type: str, Overwrite: bool) -> None:
        self.value = Value


def test_switch_is_one_of_three_words() -> None:
    assert [switch(Parameters(Store(word), "p")) for word in ("go", "approve", "stop\n")] == [
        "go",
        "approve",
        "stop",
    ]
    with pytest.raises(ValueError, match="p must be one of go, approve, stop, got 'Go'"):
        switch(Parameters(Store("Go"), "p"))


def test_endpoint_parameter_keeps_both_versions() -> None:
    store = Store("none")
    parameter = EndpointParameter(Parameters(store, "p"))
    assert parameter.get() == InService(None, None)
    for value in (
        InService(Serving("e1", "1", NIGHT), None),
        InService(Serving("e2", "2", NIGHT + 1), Serving("e1", "1", NIGHT)),
    ):
        parameter.put(value)
        assert parameter.get() == value
    assert json.loads(store.value)["endpoint"] == "e2"


def test_market_clock_is_real_or_a_replays() -> None:
    assert MarketClock(Parameters(Store("real"), "p")).now() == pytest.approx(time.time() / 3600, abs=0.01)
    began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 36))
    text = json.dumps({"rate": 600, "began": began, "hour": "2022-01-31T05:00Z"})
    assert MarketClock(Parameters(Store(text), "p")).now() == pytest.approx(NIGHT + 6, abs=0.5)


BATTERY = {
    "power": 8,
    "energy": 32,
    "charge_efficiency": 0.85,
    "discharge_efficiency": 1,
    "retention": 1,
    "lowest": 0,
    "degradation": 0,
}
ENTRY = {"location": "L", "mode": "curves", "real_time_policy": "curve", "keep_awards": True, **BATTERY}


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"location": ""}, "A: location must not be empty"),
        ({"mode": "x"}, "mode must be one of self_schedule, curves, managed_curves"),
        ({"real_time_policy": "x"}, "A: real_time_policy must be one of curve, selected, got 'x'"),
        ({"keep_awards": "false"}, "A: keep_awards must be true or false, got 'false'"),
        ({"size": 1}, "A has unknown fields: size; allowed: "),
    ],
)
def test_wrong_assets_are_named(given: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        assets_of({"A": {**ENTRY, **given}})


def test_missing_fields_of_an_asset_are_named() -> None:
    given = {name: value for name, value in ENTRY.items() if name not in ("energy", "lowest")}
    with pytest.raises(ValueError, match="missing fields: energy, lowest"):
        assets_of({"A": given})


def test_market_settings_are_read() -> None:
    rules = {"since": "2021-03-20", "floor": -150, "cap": 2000, "least_mw": 0.1, "most_segments": 10}
    given = {
        "time_zone": "UTC",
        "lead_hours": 2,
        "lockout_minutes": 75,
        "day_ahead_runs": 3,
        "rules": [rules],
    }
    assert market_of(given).rules_of("2022-01-01").cap == 2000
    with pytest.raises(ValueError, match="MARKET has missing fields: lead_hours"):
        market_of({name: value for name, value in given.items() if name != "lead_hours"})
