"""Rolling updates of an endpoint: in batches, without a gap, and rolled back if a batch fails."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.cloud import LocalCloud
from tests.support.hosting import SERVERLESS, Bench, alive, unique
from tests.support.waiting import until

HALF = {"Type": "CAPACITY_PERCENT", "Value": 50}


@pytest.fixture(scope="module")
def bench(cloud: LocalCloud) -> Bench:
    return Bench(cloud)


def policy(size: dict[str, Any], wait: int = 0) -> dict[str, Any]:
    return {"RollingUpdatePolicy": {"MaximumBatchSize": size, "WaitIntervalInSeconds": wait}}


def config(bench: Bench, model: str, instances: int = 2) -> str:
    size = {"InstanceType": "ml.m5.large", "InitialInstanceCount": instances}
    return bench.config({"VariantName": "AllTraffic", "ModelName": model} | size)


def instances_of(bench: Bench, endpoint: str, count: int) -> set[str]:
    """Wait until at least `count` instances of an endpoint have answered; return the names of these
    instances."""
    found: set[str] = set()

    def answered() -> bool:
        with ThreadPoolExecutor(4) as pool:
            found.update(
                answer["instance"]
                for answer in pool.map(lambda _: bench.ask(endpoint, {"sleep": 0.2}), "1234")
            )
        return len(found) >= count

    until(answered)
    return found


def test_rolling_update_serves_from_old_and_new_instances(bench: Bench) -> None:
    # Given an endpoint of two instances
    endpoint = bench.endpoint(config(bench, bench.model("old")))
    old = instances_of(bench, endpoint, 2)
    new = config(bench, bench.model("new"))

    # When an update replaces half of the instances at a time, with a wait of two seconds
    bench.sagemaker.update_endpoint(
        EndpointName=endpoint, EndpointConfigName=new, DeploymentConfig=policy(HALF, wait=2)
    )
    answers = []
    while bench.describe(endpoint)["EndpointStatus"] == "Updating":
        answers.append(bench.ask(endpoint)["model"]["model.txt"])

    # Then no request failed, both models answered for a while, and both instances have the new configuration
    first, last = answers.index("new"), len(answers) - 1 - answers[::-1].index("old")
    assert first < last
    described = bench.settled(endpoint)
    assert described["EndpointConfigName"] == new
    assert described["LastDeploymentConfig"]["RollingUpdatePolicy"]["MaximumBatchSize"] == HALF
    until(lambda: not any(alive(each) for each in old))
    assert {bench.ask(endpoint)["model"]["model.txt"] for _ in range(6)} == {"new"}
    assert len(instances_of(bench, endpoint, 2)) == 2


def test_rolling_update_rolls_back_when_the_first_batch_fails(bench: Bench) -> None:
    before = config(bench, bench.model("old"))
    endpoint = bench.endpoint(before)
    broken = config(bench, bench.model(Environment={"EXIT": "4"}))

    bench.sagemaker.update_endpoint(
        EndpointName=endpoint, EndpointConfigName=broken, DeploymentConfig=policy(HALF)
    )

    settled = bench.settled(endpoint)
    assert (settled["EndpointStatus"], settled["EndpointConfigName"]) == ("InService", before)
    assert "exit code 4" in settled["FailureReason"]
    assert len(instances_of(bench, endpoint, 2)) == 2


def test_rolling_update_rolls_back_when_a_later_batch_fails(bench: Bench) -> None:
    # Given an update whose model is deleted from S3 after the first batch of instances has fetched it
    before = config(bench, bench.model("old"))
    endpoint, data = bench.endpoint(before), bench.data("new")
    new = config(bench, bench.model(ModelDataUrl=data))
    bench.sagemaker.update_endpoint(
        EndpointName=endpoint, EndpointConfigName=new, DeploymentConfig=policy(HALF, wait=10)
    )
    until(lambda: any(bench.fetched(folder, "new") for folder in bench.folders()))
    bench.client("s3").delete_object(Bucket=bench.bucket, Key=data.removeprefix(f"s3://{bench.bucket}/"))

    # Then both instances have the old configuration again
    settled = bench.settled(endpoint)
    assert (settled["EndpointStatus"], settled["EndpointConfigName"]) == ("InService", before)
    assert len(instances_of(bench, endpoint, 2)) == 2
    assert {bench.ask(endpoint)["model"]["model.txt"] for _ in range(6)} == {"old"}


@pytest.mark.parametrize(
    ("size", "instances"),
    [
        ({"Type": "CAPACITY_PERCENT", "Value": 51}, 2),
        ({"Type": "CAPACITY_PERCENT", "Value": 4}, 2),
        ({"Type": "INSTANCE_COUNT", "Value": 2}, 3),
        ({"Type": "INSTANCE_COUNT", "Value": 1}, 1),
    ],
)
def test_batch_must_be_a_share_of_the_instances(bench: Bench, size: dict[str, Any], instances: int) -> None:
    chosen = config(bench, bench.model(), instances)
    with pytest.raises(ClientError, match=r"MaximumBatchSize must be between 5% and 50%.*got \d+"):
        bench.sagemaker.create_endpoint(
            EndpointName=unique("endpoint"), EndpointConfigName=chosen, DeploymentConfig=policy(size)
        )


def test_two_update_policies_are_refused(bench: Bench) -> None:
    both = policy(HALF) | {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}
        }
    }
    with pytest.raises(ClientError, match="Only one update policy"):
        bench.sagemaker.create_endpoint(
            EndpointName=unique("endpoint"),
            EndpointConfigName=config(bench, bench.model()),
            DeploymentConfig=both,
        )


def test_serverless_endpoint_is_updated_at_once_despite_a_rolling_policy(bench: Bench) -> None:
    endpoint = bench.endpoint(bench.config(model=bench.model("old"), serverless=True))
    variant = {"VariantName": "AllTraffic", "ModelName": bench.model("new"), "ServerlessConfig": SERVERLESS}
    new = bench.config(variant)
    bench.sagemaker.update_endpoint(
        EndpointName=endpoint, EndpointConfigName=new, DeploymentConfig=policy(HALF)
    )
    assert bench.settled(endpoint)["EndpointConfigName"] == new
    assert bench.ask(endpoint)["model"]["model.txt"] == "new"
