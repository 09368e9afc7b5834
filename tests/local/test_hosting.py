"""Endpoints on the local cloud, through boto3: serving, failures, updates, and restarts."""

from __future__ import annotations

import io
import json
import re
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.cloud import ACCOUNT, LocalCloud
from local.sagemaker import quotas
from tests.support.deployments import allow_events
from tests.support.hosting import SERVERLESS, Bench, alive, unique
from tests.support.waiting import until

ROOM = {"serverless_concurrency": 1000}
"""Settings of the cloud with enough concurrency for all serverless endpoints in this file"""


@pytest.fixture(scope="module")
def bench(cloud: LocalCloud) -> Bench:
    cloud.configure(**ROOM)
    return Bench(cloud)


@pytest.fixture
def settings(cloud: LocalCloud) -> Iterator[Any]:
    """Return a function that changes the cloud's settings. They are reset after the test."""
    yield cloud.configure
    cloud.configure(**dict.fromkeys(quotas.DEFAULTS) | ROOM)


# Serving


def test_endpoint_passes_headers_of_the_request_and_the_response(bench: Bench) -> None:
    # Given an endpoint whose model has environment variables
    endpoint = bench.endpoint(bench.config(model=bench.model("one", Environment={"FLAVOUR": "plain"})))

    # When the endpoint is invoked with all parameters
    answer = bench.runtime.invoke_endpoint(
        EndpointName=endpoint,
        Body=b"a,b\n1,2\n",
        ContentType="text/csv",
        Accept="application/json",
        CustomAttributes="from the caller",
        TargetModel="that one",
        InferenceId="42",
    )

    # Then the container gets the parameters, and its response is returned with the headers that callers may
    # see
    asked = json.loads(answer["Body"].read())
    assert asked["model"] == {"model.txt": "one"}
    assert asked["path"] == "/invocations"
    assert asked["length"] == 8
    assert asked["headers"]["content-type"] == "text/csv"
    assert asked["headers"]["accept"] == "application/json"
    assert asked["headers"]["x-amzn-sagemaker-custom-attributes"] == "from the caller"
    assert asked["headers"]["x-amzn-sagemaker-target-model"] == "that one"
    assert asked["headers"]["x-amzn-sagemaker-inference-id"] == "42"
    assert asked["environment"]["FLAVOUR"] == "plain"
    # PASSIVE, because the container shares the machine's cores
    assert asked["environment"]["OMP_WAIT_POLICY"] == "PASSIVE"
    assert asked["environment"]["AWS_ACCESS_KEY_ID"].startswith("ASIA")  # a session of the model's role
    assert answer["ContentType"] == "application/json"
    assert answer["InvokedProductionVariant"] == "AllTraffic"
    assert answer["CustomAttributes"] == "from the container"
    assert "x-not-for-the-caller" not in answer["ResponseMetadata"]["HTTPHeaders"]

    # And the description has the running variant
    (variant,) = bench.describe(endpoint)["ProductionVariants"]
    assert (variant["CurrentInstanceCount"], variant["DesiredInstanceCount"]) == (1, 1)
    assert variant["CurrentWeight"] == 1.0
    assert variant["DeployedImages"][0]["SpecifiedImage"] == bench.image


def test_logs_and_metrics_reach_cloudwatch(bench: Bench) -> None:
    endpoint = bench.endpoint(bench.config(model=bench.model()))
    group = f"/aws/sagemaker/Endpoints/{endpoint}"
    bench.ask(endpoint)
    with pytest.raises(ClientError):
        bench.ask(endpoint, {"status": 500, "text": "no"})

    logs = bench.client("logs")
    until(lambda: logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"])
    (stream,) = until(lambda: logs.describe_log_streams(logGroupName=group)["logStreams"])
    assert stream["logStreamName"].startswith("AllTraffic/")

    def lines() -> list[str]:
        found = logs.get_log_events(logGroupName=group, logStreamName=stream["logStreamName"])
        return [event["message"] for event in found["events"]]

    until(lambda: lines() == ["started with ['serve']", "request /invocations", "request /invocations"])

    def total(name: str) -> float:
        now = datetime.now(UTC)
        found = bench.client("cloudwatch").get_metric_statistics(
            Namespace="AWS/SageMaker",
            MetricName=name,
            Dimensions=[
                {"Name": "EndpointName", "Value": endpoint},
                {"Name": "VariantName", "Value": "AllTraffic"},
            ],
            StartTime=now - timedelta(minutes=10),
            EndTime=now + timedelta(minutes=1),
            Period=3600,
            Statistics=["Sum"],
        )
        return sum(point["Sum"] for point in found["Datapoints"])

    until(lambda: total("Invocations") == 2)
    assert total("Invocation5XXErrors") == 1
    assert total("Invocation4XXErrors") == 0
    assert total("ModelLatency") > 0
    assert total("OverheadLatency") > 0


def test_traffic_follows_weights_unless_the_caller_names_a_variant(bench: Bench) -> None:
    def variant(name: str, weight: float) -> dict[str, Any]:
        model = bench.model(name)
        size = {"InstanceType": "ml.m5.large", "InitialInstanceCount": 1, "InitialVariantWeight": weight}
        return {"VariantName": name, "ModelName": model} | size

    endpoint = bench.endpoint(bench.config(variant("all", 1.0), variant("none", 0.0)))

    def texts(**target: str) -> set[str]:
        return {bench.ask(endpoint, **target)["model"]["model.txt"] for _ in range(10)}

    assert texts() == {"all"}
    assert texts(TargetVariant="none") == {"none"}
    with pytest.raises(ClientError, match="has no variant neither"):
        bench.ask(endpoint, TargetVariant="neither")

    # When the weights are swapped, then the shares of the traffic are swapped
    bench.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=endpoint,
        DesiredWeightsAndCapacities=[
            {"VariantName": "all", "DesiredWeight": 0},
            {"VariantName": "none", "DesiredWeight": 2},
        ],
    )
    shown = {each["VariantName"]: each for each in bench.settled(endpoint)["ProductionVariants"]}
    assert (shown["all"]["CurrentWeight"], shown["none"]["CurrentWeight"]) == (0, 2)
    assert texts() == {"none"}


def test_model_data_may_be_a_prefix_or_a_source(bench: Bench) -> None:
    prefix = bench.put("plain/a/first.txt", b"1").removesuffix("a/first.txt")
    bench.put("plain/second.txt", b"2")
    whole = {"S3DataType": "S3Prefix", "CompressionType": "None", "S3Uri": prefix}
    packed = {"S3DataType": "S3Object", "CompressionType": "Gzip", "S3Uri": bench.data("three")}

    def served(source: dict[str, str]) -> Any:
        model = bench.model(ModelDataUrl=None, ModelDataSource={"S3DataSource": source})
        return bench.ask(bench.endpoint(bench.config(model=model)))["model"]

    assert served(whole) == {"a/first.txt": "1", "second.txt": "2"}
    assert served(packed) == {"model.txt": "three"}


def test_model_may_come_from_an_approved_package(bench: Bench) -> None:
    group = unique("group")
    bench.sagemaker.create_model_package_group(ModelPackageGroupName=group)
    inside = {
        "Image": bench.image,
        "ModelDataUrl": bench.data("packaged"),
        "Environment": {"A": "1", "B": "1"},
    }
    package = bench.sagemaker.create_model_package(
        ModelPackageGroupName=group, InferenceSpecification={"Containers": [inside]}
    )["ModelPackageArn"]
    source = {"Image": None, "ModelDataUrl": None, "ModelPackageName": package, "Environment": {"B": "2"}}

    with pytest.raises(ClientError, match="is PendingManualApproval; it must be Approved"):
        bench.model(**source)
    bench.sagemaker.update_model_package(ModelPackageArn=package, ModelApprovalStatus="Approved")

    answer = bench.ask(bench.endpoint(bench.config(model=bench.model(**source))))
    assert answer["model"] == {"model.txt": "packaged"}
    assert (answer["environment"]["A"], answer["environment"]["B"]) == ("1", "2")


# Failures


def _escaping() -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("../../outside.txt"), io.BytesIO())
    return target.getvalue()


def test_endpoint_that_cannot_start_fails_with_the_reason(bench: Bench, settings: Any) -> None:
    settings(endpoint_startup_timeout=1.0)
    registry = bench.image.partition("/")[0]
    reasons = {
        "Failed to download model data.*NoSuchKey": {"ModelDataUrl": f"s3://{bench.bucket}/nowhere.tar.gz"},
        "Failed to download model data.*NoSuchBucket": {"ModelDataUrl": "s3://no-such-bucket-here/m.tar.gz"},
        "Failed to extract model data": {"ModelDataUrl": bench.put("broken/model.tar.gz", b"not an archive")},
        r"Failed to extract model data.*outside": {
            "ModelDataUrl": bench.put("out/model.tar.gz", _escaping())
        },
        "cannot be pulled.*not found": {"Image": f"{registry}/{bench.name}:nowhere"},
        "did not pass the ping health check.*exit code 3": {"Environment": {"EXIT": "3"}},
        "did not pass the ping health check.*did not answer in 1 s": {"Environment": {"PING": "503"}},
    }

    def failed(given: dict[str, Any]) -> tuple[str, str]:
        endpoint = bench.endpoint(bench.config(model=bench.model(**given)), status="Failed")
        return endpoint, bench.describe(endpoint)["FailureReason"]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(failed, reasons.values()))
    for (endpoint, reason), expected in zip(found, reasons, strict=True):
        with pytest.raises(ClientError, match="is not in service: its status is Failed") as refused:
            bench.ask(endpoint)
        assert refused.value.response["Error"]["Code"] == "ValidationError"
        assert re.search(expected, reason), (expected, reason)
        bench.sagemaker.delete_endpoint(EndpointName=endpoint)


def test_endpoint_of_a_deleted_model_fails(bench: Bench) -> None:
    model = bench.model()
    config = bench.config(model=model)
    bench.sagemaker.delete_model(ModelName=model)

    endpoint = bench.endpoint(config, status="Failed")

    assert f'model/{model}"' in bench.describe(endpoint)["FailureReason"]


def test_invalid_response_of_the_container_is_a_model_error(bench: Bench, settings: Any) -> None:
    endpoint = bench.endpoint(bench.config(model=bench.model()))

    with pytest.raises(ClientError) as bad:
        bench.ask(endpoint, {"status": 400, "text": "column HouseAge is missing"})
    with pytest.raises(ClientError) as large:
        bench.ask(endpoint, {"size": 6 * 1024 * 1024 + 1})
    settings(invocation_timeout=0.3)
    with pytest.raises(ClientError) as slow:
        bench.ask(endpoint, {"sleep": 5})

    answer: Any = bad.value.response
    too_large: Any = large.value.response
    too_slow: Any = slow.value.response
    assert answer["Error"]["Code"] == "ModelError"
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert answer["OriginalStatusCode"] == 400
    assert answer["OriginalMessage"] == "column HouseAge is missing"
    assert "Received client error (400) from primary" in answer["Error"]["Message"]
    assert f":log-group:/aws/sagemaker/Endpoints/{endpoint}:" in answer["LogStreamArn"]
    assert "larger than 6291456 bytes" in too_large["OriginalMessage"]
    assert "Your invocation timed out" in too_slow["OriginalMessage"]


def test_invalid_invocation_is_refused_before_the_container(bench: Bench) -> None:
    endpoint = bench.endpoint(bench.config(model=bench.model(), serverless=True))

    with pytest.raises(ClientError) as unknown:
        bench.ask("nowhere")
    with pytest.raises(ClientError) as large:
        bench.runtime.invoke_endpoint(EndpointName=endpoint, Body=b"x" * (4 * 1024 * 1024 + 1))

    assert unknown.value.response["Error"] == {
        "Code": "ValidationError",
        "Message": f"Endpoint nowhere of account {ACCOUNT} not found.",
    }
    assert large.value.response["Error"]["Code"] == "ValidationError"
    assert "less than or equal to 4194304" in large.value.response["Error"]["Message"]


def test_container_that_exits_is_restarted_by_the_next_request(bench: Bench) -> None:
    endpoint = bench.endpoint(bench.config(model=bench.model()))
    first = bench.ask(endpoint)["instance"]

    with pytest.raises(ClientError, match="ModelError"):
        bench.ask(endpoint, {"die": True})

    assert bench.ask(endpoint)["instance"] != first


# Roles


def test_model_role_needs_read_grants_and_the_caller_invoke(bench: Bench) -> None:
    no_data = bench.new_role("no-data", *bench.grants("s3:GetObject"))
    no_image = bench.new_role("no-image", *bench.grants("ecr:BatchGetImage"))
    not_ours = bench.new_role("not-ours", *bench.grants(), service="lambda")
    endpoint = bench.endpoint(bench.config(model=bench.model()))

    def may(action: str, resource: str) -> Any:
        return bench.as_user("sagemaker-runtime", {"Effect": "Allow", "Action": action, "Resource": resource})

    arn = bench.describe(endpoint)["EndpointArn"]
    granted, other = may("sagemaker:InvokeEndpoint", arn), may("sagemaker:InvokeEndpoint", arn + "-other")
    configs = {role: bench.config(model=bench.model(role=role)) for role in (no_data, no_image, not_ours)}
    bench.cloud.enforce_iam(True)
    try:
        reasons = [
            bench.describe(bench.endpoint(config, status="Failed"))["FailureReason"]
            for config in configs.values()
        ]
        allowed = bench.endpoint(bench.config(model=bench.model()))
        granted.invoke_endpoint(EndpointName=endpoint, Body=b"{}")
        with pytest.raises(ClientError) as denied:
            other.invoke_endpoint(EndpointName=endpoint, Body=b"{}")
    finally:
        bench.cloud.enforce_iam(False)

    assert "AccessDenied" in reasons[0]
    assert "s3:GetObject" in reasons[0]
    assert "ecr:BatchGetImage" in reasons[1]
    assert f"Could not assume role {not_ours}" in reasons[2]
    assert bench.describe(allowed)["EndpointStatus"] == "InService"
    assert denied.value.response["Error"]["Code"] == "AccessDeniedException"
    assert f"sagemaker:InvokeEndpoint on resource: {arn}" in denied.value.response["Error"]["Message"]


def test_creating_an_endpoint_needs_a_grant_on_its_configuration_too(bench: Bench) -> None:
    config, name = bench.config(model=bench.model()), unique("endpoint")
    arns = [f"arn:aws:sagemaker:*:*:endpoint/{name}", f"arn:aws:sagemaker:*:*:endpoint-config/{config}"]

    def may(*resources: str) -> Any:
        statement = {"Effect": "Allow", "Action": "sagemaker:CreateEndpoint", "Resource": list(resources)}
        return bench.as_user("sagemaker", statement)

    half, whole = may(arns[0]), may(*arns)
    bench.cloud.enforce_iam(True)
    try:
        with pytest.raises(ClientError, match=f"endpoint-config/{config}"):
            half.create_endpoint(EndpointName=name, EndpointConfigName=config)
        whole.create_endpoint(EndpointName=name, EndpointConfigName=config)
    finally:
        bench.cloud.enforce_iam(False)
    assert bench.settled(name)["EndpointStatus"] == "InService"


# Updates and deletion


def test_update_serves_without_a_gap_and_stops_the_old_container(bench: Bench) -> None:
    endpoint = bench.endpoint(bench.config(model=bench.model("old")))
    old = bench.ask(endpoint)["instance"]
    new = bench.config(model=bench.model("new", Environment={"SLOW": "0.7"}))

    # When the endpoint is updated while it gets requests, one of which takes longer than the update
    with ThreadPoolExecutor() as pool:
        long = pool.submit(bench.ask, endpoint, {"sleep": 2})
        bench.sagemaker.update_endpoint(EndpointName=endpoint, EndpointConfigName=new)
        pending = bench.describe(endpoint)
        answers = []
        while not answers or answers[-1] != "new":
            answers.append(bench.ask(endpoint)["model"]["model.txt"])
        answered = long.result()["model"]["model.txt"]

    # Then the old container answers until the new one answers, and completes its requests in progress
    assert pending["EndpointStatus"] == "Updating"
    assert pending["PendingDeploymentSummary"]["EndpointConfigName"] == new
    assert pending["EndpointConfigName"] != new
    assert answers.count("old") > 1
    assert answers == ["old"] * answers.count("old") + ["new"]
    assert answered == "old"
    assert bench.settled(endpoint)["EndpointConfigName"] == new
    until(lambda: not alive(old))


def test_failed_update_leaves_the_old_configuration_in_service(bench: Bench) -> None:
    config = bench.config(model=bench.model("old"))
    endpoint = bench.endpoint(config)
    before = bench.ask(endpoint)["instance"]

    bench.sagemaker.update_endpoint(
        EndpointName=endpoint, EndpointConfigName=bench.config(model=bench.model(Environment={"EXIT": "4"}))
    )

    settled = bench.settled(endpoint)
    assert (settled["EndpointStatus"], settled["EndpointConfigName"]) == ("InService", config)
    assert "exit code 4" in settled["FailureReason"]
    assert bench.ask(endpoint)["instance"] == before


def test_busy_or_failed_endpoint_refuses_a_change(bench: Bench) -> None:
    slow = bench.config(model=bench.model(Environment={"SLOW": "1"}))
    name = unique("endpoint")
    bench.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=slow)
    arn = bench.describe(name)["EndpointArn"]

    with pytest.raises(ClientError, match=f'Cannot update in-progress endpoint "{arn}"'):
        bench.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=slow)
    with pytest.raises(ClientError, match="Cannot update in-progress endpoint"):
        bench.sagemaker.delete_endpoint(EndpointName=name)
    with pytest.raises(ClientError, match=f'Cannot create already existing endpoint "{arn}"'):
        bench.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=slow)
    assert bench.settled(name)["EndpointStatus"] == "InService"

    failed = bench.endpoint(bench.config(model=bench.model(Environment={"EXIT": "1"})), status="Failed")
    with pytest.raises(ClientError, match="Cannot update failed endpoint"):
        bench.sagemaker.update_endpoint(EndpointName=failed, EndpointConfigName=slow)


def test_deleted_endpoint_leaves_no_container_and_no_files(bench: Bench) -> None:
    others = bench.folders()
    endpoint = bench.endpoint(bench.config(model=bench.model()))
    asked, own = bench.ask(endpoint), bench.folders() - others
    assert own

    bench.sagemaker.delete_endpoint(EndpointName=endpoint)

    until(lambda: not alive(asked["instance"]))
    until(lambda: not own & bench.folders())

    def gone() -> bool:
        try:
            bench.describe(endpoint)
        except ClientError as error:
            return "Could not find endpoint" in error.response["Error"]["Message"]
        return False

    until(gone)
    with pytest.raises(ClientError, match="not found"):
        bench.ask(endpoint)


def test_every_change_of_state_is_an_event(bench: Bench) -> None:
    # Given a rule that sends the events of one endpoint to a queue
    name, rule = unique("endpoint"), unique("rule")
    sqs, events = bench.client("sqs"), bench.client("events")
    queue = sqs.create_queue(QueueName=unique("queue"))["QueueUrl"]
    arn = allow_events(sqs, queue)
    pattern = {"source": ["aws.sagemaker"], "detail-type": ["SageMaker Endpoint State Change"]}
    events.put_rule(Name=rule, EventPattern=json.dumps(pattern | {"detail": {"EndpointName": [name]}}))
    events.put_targets(Rule=rule, Targets=[{"Id": "queue", "Arn": arn}])

    # When the endpoint is in service
    config = bench.config(model=bench.model())
    bench.sagemaker.create_endpoint(
        EndpointName=name, EndpointConfigName=config, Tags=[{"Key": "team", "Value": "one"}]
    )
    bench.settled(name)

    # Then there is an event of each status, with the members that SageMaker's events have
    received: list[dict[str, Any]] = []

    def told() -> bool:
        for message in sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", []):
            received.append(json.loads(message["Body"]))
        return len(received) >= 2

    until(told)
    by_status = {event["detail"]["EndpointStatus"]: event for event in received}
    assert set(by_status) == {"CREATING", "IN_SERVICE"}
    event = by_status["IN_SERVICE"]
    assert event["resources"] == [bench.describe(name)["EndpointArn"]]
    assert event["detail"]["EndpointConfigName"] == config
    assert event["detail"]["ProductionVariants"] == [{"DesiredWeight": 1.0, "DesiredInstanceCount": 1}]
    assert event["detail"]["Tags"] == {"team": "one"}
    assert event["detail"]["LastModifiedTime"] >= event["detail"]["CreationTime"] > 1e12  # milliseconds


# Serverless


def test_idle_serverless_container_stops_and_the_next_request_starts_one(bench: Bench, settings: Any) -> None:
    # Given an endpoint in service whose container has answered a request
    settings(serverless_idle=0.3)
    others = bench.folders()
    endpoint = bench.endpoint(
        bench.config(model=bench.model("one", Environment={"SLOW": "0.3"}), serverless=True)
    )
    first = bench.ask(endpoint)
    (variant,) = bench.describe(endpoint)["ProductionVariants"]
    assert variant["CurrentServerlessConfig"] == SERVERLESS

    # When the endpoint is idle, then the container and its files are removed
    until(lambda: not alive(first["instance"]))
    until(lambda: not bench.folders() - others)

    # Then concurrent requests start one new container, and all wait for it
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: bench.ask(endpoint), range(2)))
    assert len({answer["instance"] for answer in answers}) == 1
    assert answers[0]["instance"] != first["instance"]
    assert answers[0]["model"] == {"model.txt": "one"}


def test_busy_serverless_container_is_not_stopped(bench: Bench, settings: Any) -> None:
    settings(serverless_idle=0.2)
    endpoint = bench.endpoint(bench.config(model=bench.model(), serverless=True))

    assert bench.ask(endpoint, {"sleep": 1})["instance"]


def test_serverless_requests_above_the_maximum_concurrency_are_throttled(bench: Bench) -> None:
    endpoint = bench.endpoint(bench.config(model=bench.model(), serverless=True))

    def code(_: int) -> str:
        try:
            bench.ask(endpoint, {"sleep": 1.5})
        except ClientError as error:
            return error.response["Error"]["Code"]
        return "answered"

    with ThreadPoolExecutor(5) as pool:
        codes = sorted(pool.map(code, range(5)))

    assert codes == ["ThrottlingException"] * 3 + ["answered"] * 2
    assert bench.ask(endpoint)["instance"]  # and requests are accepted again


def test_injected_fault_throttles_matching_requests(bench: Bench, settings: Any) -> None:
    endpoint = bench.endpoint(bench.config(model=bench.model(), serverless=True))
    settings(fault_throttle_endpoints=1, fault_throttle_request='"hour": 7')

    assert bench.ask(endpoint, {"hour": 6})["instance"]
    with pytest.raises(ClientError, match="ThrottlingException"):
        bench.ask(endpoint, {"hour": 7})
    assert bench.ask(endpoint, {"hour": 7})["instance"]


def test_serverless_endpoints_share_the_concurrency_of_the_account(bench: Bench, settings: Any) -> None:
    settings(serverless_concurrency=1)
    with pytest.raises(ClientError, match="across all serverless endpoints' is 1 Units") as refused:
        bench.endpoint(bench.config(model=bench.model(), serverless=True))
    assert refused.value.response["Error"]["Code"] == "ResourceLimitExceeded"


def test_serverless_endpoint_fails_at_creation_when_its_container_exits(bench: Bench) -> None:
    config = bench.config(model=bench.model(Environment={"EXIT": "5"}), serverless=True)

    endpoint = bench.endpoint(config, status="Failed")

    assert "exit code 5" in bench.describe(endpoint)["FailureReason"]


# Restarts of the cloud


def test_restart_restores_endpoints_and_ends_pending_changes(tmp_path: Path) -> None:
    with LocalCloud(tmp_path / "cloud") as cloud:
        bench = Bench(cloud)
        # Given endpoints in service, whose models and configurations are deleted
        model = bench.model("instance")
        config = bench.config(model=model)
        instance = bench.endpoint(config)
        serverless = bench.endpoint(bench.config(model=bench.model("serverless"), serverless=True))
        updating = bench.endpoint(bench.config(model=bench.model("before")))
        before = [bench.ask(each)["instance"] for each in (instance, serverless, updating)]
        bench.sagemaker.delete_endpoint_config(EndpointConfigName=config)
        bench.sagemaker.delete_model(ModelName=model)
        # And an endpoint that is being created, and an endpoint that is being updated
        never = bench.config(model=bench.model(Environment={"SLOW": "600"}))
        creating = unique("endpoint")
        bench.sagemaker.create_endpoint(EndpointName=creating, EndpointConfigName=never)
        bench.sagemaker.update_endpoint(EndpointName=updating, EndpointConfigName=never)
        # And a notebook instance in a long transition
        cloud.configure(notebook_transition=3600.0)
        notebook = {"NotebookInstanceName": "slow"}
        bench.sagemaker.create_notebook_instance(**notebook, InstanceType="ml.t3.medium", RoleArn=bench.role)
        time.sleep(0.5)

        # When the server is killed and restarted
        cloud.kill()
        until(lambda: not any(alive(each) for each in before))
        cloud.start()

        # Then each endpoint serves the same model as before, and pending changes have ended
        for endpoint, text in ((instance, "instance"), (serverless, "serverless"), (updating, "before")):
            answer = bench.ask(endpoint)
            assert answer["model"] == {"model.txt": text}
            assert answer["instance"] not in before
        assert bench.describe(instance)["EndpointStatus"] == "InService"
        assert bench.describe(creating)["EndpointStatus"] == "Failed"
        assert "ended while the endpoint was being created" in bench.describe(creating)["FailureReason"]
        assert bench.describe(updating)["EndpointStatus"] == "InService"
        assert "ended while the endpoint was being updated" in bench.describe(updating)["FailureReason"]

        arrived = bench.sagemaker.describe_notebook_instance(**notebook)
        assert arrived["NotebookInstanceStatus"] == "InService"

        # And when the cloud is stopped, no container is left
        after = [bench.ask(each)["instance"] for each in (instance, serverless, updating)]
    assert not any(alive(each) for each in after)
    assert not list((tmp_path / "cloud" / "instances").glob("endpoints/*"))
