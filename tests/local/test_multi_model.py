"""Many models behind one endpoint, through boto3: loading, eviction, and permissions."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.cloud import LocalCloud
from local.sagemaker import quotas
from tests.support.hosting import CONTAINERS, Bench, alive, archive, unique
from tests.support.waiting import until

CONTAINER = CONTAINERS / "multi_model"


class Many(Bench):
    """Helpers for endpoints that each serve all model archives below a separate S3 prefix."""

    def serve(
        self,
        *models: str,
        capacity: int = 100,
        instances: int = 1,
        cached: bool = True,
        role: str | None = None,
        load_seconds: float = 0.0,
    ) -> tuple[str, str]:
        """Create an endpoint with an archive `<name>.tar.gz` for each name in `models`; return the names of
        the endpoint and of the prefix.

        The file `model.txt` in an archive contains the name.
        """
        prefix = unique("adapters")
        for name in models:
            self.put_model(prefix, f"{name}.tar.gz", name)
        definition = {
            "Image": self.image,
            "Mode": "MultiModel",
            "ModelDataUrl": f"s3://{self.bucket}/{prefix}/",
            "Environment": {"CAPACITY": str(capacity), "LOAD_SECONDS": str(load_seconds)},
        }
        if not cached:
            definition["MultiModelConfig"] = {"ModelCacheSetting": "Disabled"}
        model = self.model(role=role, **definition)
        size = {"InstanceType": "ml.m5.large", "InitialInstanceCount": instances}
        config = self.config({"VariantName": "AllTraffic", "ModelName": model} | size)
        return self.endpoint(config), prefix

    def put_model(self, prefix: str, target: str, text: str, **files: str) -> None:
        self.put(f"{prefix}/{target}", archive({"model.txt": text} | files))

    def has_files(self, answer: dict[str, Any]) -> bool:
        """Return whether an instance has the files of the model that gave this answer. No two tests use the
        same model name."""
        inside = f"ml/models/{answer['name']}/model"
        return any((folder / inside).exists() for folder in self.folders())

    def text(self, endpoint: str, target: str) -> str:
        return self.ask(endpoint, TargetModel=target)["model"]["model.txt"]

    def total(self, endpoint: str, metric: str, namespace: str = "AWS/SageMaker") -> dict[str, float]:
        now = datetime.now(UTC)
        found = self.client("cloudwatch").get_metric_statistics(
            Namespace=namespace,
            MetricName=metric,
            Dimensions=[
                {"Name": "EndpointName", "Value": endpoint},
                {"Name": "VariantName", "Value": "AllTraffic"},
            ],
            StartTime=now - timedelta(minutes=10),
            EndTime=now + timedelta(minutes=1),
            Period=3600,
            Statistics=["Sum", "SampleCount", "Maximum"],
        )["Datapoints"]
        return found[0] if found else {"Sum": 0.0, "SampleCount": 0.0, "Maximum": 0.0}


@pytest.fixture(scope="module")
def bench(cloud: LocalCloud) -> Many:
    return Many(cloud, CONTAINER)


@pytest.fixture
def settings(cloud: LocalCloud) -> Iterator[Any]:
    """Return a function that changes the cloud's settings. They are reset after the test."""
    yield cloud.configure
    cloud.configure(**dict.fromkeys(quotas.DEFAULTS))


def refused(bench: Many, endpoint: str, request: Any = None, **said: str) -> Any:
    with pytest.raises(ClientError) as error:
        bench.ask(endpoint, request, **said)
    return error.value.response


def refusal(bench: Many, endpoint: str, **said: str) -> Any:
    """Return the error of an invocation; None if it succeeds."""
    try:
        bench.ask(endpoint, None, **said)
    except ClientError as error:
        return error.response
    return None


# Loading


def test_model_is_loaded_by_its_first_request_as_by_sagemaker(bench: Many) -> None:
    # Given an endpoint that serves the models below an S3 prefix, and one model in a subfolder
    endpoint, prefix = bench.serve("first")
    bench.put_model(prefix, "somebody/their-own.tar.gz", "two")  # added while the endpoint serves

    # When both models are invoked, one of them twice
    one = bench.ask(endpoint, TargetModel="first.tar.gz")
    bench.ask(endpoint, TargetModel="first.tar.gz")
    two = bench.ask(endpoint, TargetModel="somebody/their-own.tar.gz")

    # Then each model was loaded once, from the path that SageMaker uses, and its container gets the name of
    # the target model
    assert one["model"] == {"model.txt": "first"}
    assert one["url"] == f"/opt/ml/models/{one['name']}/model"
    assert one["multi_model"] == "true"
    assert two["model"] == {"model.txt": "two"}
    assert two["loads"] == ["first", "two"]
    assert two["name"] != one["name"]
    assert two["headers"]["x-amzn-sagemaker-target-model"] == "somebody/their-own.tar.gz"
    assert two["headers"]["content-type"] == "application/json"


def test_concurrent_first_requests_load_a_model_once(bench: Many) -> None:
    endpoint, _ = bench.serve("slow", load_seconds=0.5)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: bench.ask(endpoint, TargetModel="slow.tar.gz"), range(8)))

    assert all(answer["loads"] == ["slow"] for answer in answers)


def test_slow_model_continues_loading_after_the_invocation_timeout(bench: Many, settings: Any) -> None:
    endpoint, _ = bench.serve("slow", load_seconds=1.5)
    settings(invocation_timeout=0.3)

    answer = refused(bench, endpoint, TargetModel="slow.tar.gz")
    assert answer["Error"]["Code"] == "ModelNotReadyException"
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 429

    def ready() -> Any:
        try:
            return bench.ask(endpoint, TargetModel="slow.tar.gz")
        except ClientError:
            return None

    assert until(ready)["loads"] == ["slow"]


def test_metrics_count_loads_and_their_durations(bench: Many) -> None:
    # Given memory for one model, and two models that are invoked in turn
    endpoint, _ = bench.serve("one", "two", capacity=1)
    for target in ("one", "one", "two"):
        bench.text(endpoint, f"{target}.tar.gz")

    # Then one of three invocations found its model loaded, two fetched and loaded their model, and one model
    # was unloaded
    until(lambda: bench.total(endpoint, "ModelCacheHit")["SampleCount"] == 3)
    assert bench.total(endpoint, "ModelCacheHit")["Sum"] == 1
    assert bench.total(endpoint, "Invocations")["Sum"] == 3
    assert bench.total(endpoint, "InvocationsPerInstance")["Sum"] == 3
    for name in ("ModelDownloadingTime", "ModelLoadingWaitTime"):
        assert bench.total(endpoint, name)["SampleCount"] == 2
        assert bench.total(endpoint, name)["Sum"] > 0
    # three loads: one was refused because memory was full
    assert bench.total(endpoint, "ModelLoadingTime")["SampleCount"] == 3
    assert bench.total(endpoint, "ModelUnloadingTime")["SampleCount"] == 1
    assert bench.total(endpoint, "ModelLatency")["Sum"] > 0
    assert bench.total(endpoint, "OverheadLatency")["Sum"] > 0
    assert bench.total(endpoint, "LoadedModelCount", "/aws/sagemaker/Endpoints")["Maximum"] == 1


# Eviction


def test_least_recently_used_model_is_evicted_when_memory_is_full(bench: Many) -> None:
    # Given memory for two models, and models a and b loaded, of which a was used most recently
    endpoint, prefix = bench.serve(*"abc", capacity=2)
    for target in "aba":
        bench.text(endpoint, f"{target}.tar.gz")

    # When the third model is invoked, and then each model again
    for target in "cab":
        bench.text(endpoint, f"{target}.tar.gz")

    # Then the second model was unloaded and not the first. The files of an unloaded model are kept: an
    # archive that was replaced in the meantime is not fetched again, as on AWS
    bench.put_model(prefix, "c.tar.gz", "another")
    bench.text(endpoint, "b.tar.gz")
    last = bench.ask(endpoint, TargetModel="c.tar.gz")
    assert last["loads"] == ["a", "b", "c", "b", "c"]
    assert last["model"]["model.txt"] == "c"


def test_files_of_a_model_are_evicted_from_a_full_volume(bench: Many, settings: Any) -> None:
    # Given a volume for two models of one kilobyte each
    settings(endpoint_volume_gb=2_500 / 1e9)
    endpoint, prefix = bench.serve()
    for name in "abc":
        bench.put_model(prefix, f"full-{name}.tar.gz", name * 1000)
    asked = {name: bench.ask(endpoint, TargetModel=f"full-{name}.tar.gz") for name in "abc"}

    # Then the first model's files are deleted, and the next request for that model fetches them again
    assert not bench.has_files(asked["a"])
    assert bench.has_files(asked["c"])
    bench.put_model(prefix, "full-a.tar.gz", "new")
    assert bench.text(endpoint, "full-a.tar.gz") == "new"

    # And a model larger than the volume is refused, as if memory was full
    bench.put_model(prefix, "large.tar.gz", "x" * 3_000)
    answer = refused(bench, endpoint, TargetModel="large.tar.gz")
    assert (answer["Error"]["Code"], answer["OriginalStatusCode"]) == ("ModelError", 507)
    assert bench.text(endpoint, "full-a.tar.gz") == "new"


def test_busy_model_is_not_evicted_and_the_other_gets_507(bench: Many) -> None:
    endpoint, _ = bench.serve("busy", "other", capacity=1)
    bench.text(endpoint, "busy.tar.gz")

    def refused_meanwhile() -> dict[str, Any] | None:
        """Invoke the model `other` during a long request to the model `busy`, and return the first error.
        Invocations of `other` succeed until the long request has reached `busy`."""
        with ThreadPoolExecutor(1) as pool:
            long = pool.submit(bench.ask, endpoint, {"sleep": 5}, TargetModel="busy.tar.gz")
            answer = None
            while answer is None and not long.done():
                answer = refusal(bench, endpoint, TargetModel="other.tar.gz")
            assert long.result()["model"]["model.txt"] == "busy"
            return answer

    # On a busy machine, the long request may end before the other invocation; then `until` repeats both
    answer = until(refused_meanwhile)

    assert (answer["Error"]["Code"], answer["OriginalStatusCode"]) == ("ModelError", 507)
    assert "no memory left" in answer["OriginalMessage"]
    # after the long request, the other model fits into memory
    assert bench.text(endpoint, "other.tar.gz") == "other"


def test_model_is_unloaded_after_each_request_without_caching(bench: Many) -> None:
    endpoint, prefix = bench.serve("uncached", cached=False)
    asked = bench.ask(endpoint, TargetModel="uncached.tar.gz")
    assert not bench.has_files(asked)

    bench.put_model(prefix, "uncached.tar.gz", "after")

    assert bench.text(endpoint, "uncached.tar.gz") == "after"


def test_concurrent_callers_get_their_models_while_models_are_evicted(bench: Many) -> None:
    """While models load and unload concurrently, every caller gets the response of the model that it named,
    in time."""
    endpoint, _ = bench.serve(*(f"m{number}" for number in range(12)), capacity=6)
    wrong: list[str] = []

    def call(number: int) -> None:
        name = f"m{number * 7 % 12}"
        try:
            if bench.text(endpoint, f"{name}.tar.gz") != name:
                wrong.append(name)
        except ClientError as error:
            wrong.append(str(error))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(call, range(120)))
    assert not wrong


# Refusals


def test_model_that_cannot_be_downloaded_is_a_validation_error(bench: Many) -> None:
    endpoint, prefix = bench.serve("here")
    bench.put(f"{prefix}/broken.tar.gz", b"this is no archive")
    bench.put("secret.tar.gz", archive({"model.txt": "beside the prefix"}))

    missing = refused(bench, endpoint, TargetModel="nowhere.tar.gz")
    assert missing["Error"]["Code"] == "ValidationError"
    assert missing["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert "Failed to download model data" in missing["Error"]["Message"]
    assert "Failed to extract" in refused(bench, endpoint, TargetModel="broken.tar.gz")["Error"]["Message"]
    for target in ("../secret.tar.gz", "a/../../secret.tar.gz", "..", "a//here.tar.gz", "./here.tar.gz"):
        answer = refused(bench, endpoint, TargetModel=target)
        assert answer["Error"]["Code"] == "ValidationError", target
        assert "relative path" in answer["Error"]["Message"], target
    assert "must name one" in refused(bench, endpoint)["Error"]["Message"]
    # and the endpoint still serves valid requests
    assert bench.text(endpoint, "here.tar.gz") == "here"


def test_refused_model_is_a_model_error_and_is_loaded_again(bench: Many) -> None:
    endpoint, prefix = bench.serve("fine")
    bench.put_model(prefix, "bad.tar.gz", "bad", broken="yes")

    answer = refused(bench, endpoint, TargetModel="bad.tar.gz")
    assert (answer["Error"]["Code"], answer["OriginalStatusCode"]) == ("ModelError", 400)
    assert "has a file named broken" in answer["OriginalMessage"]
    answer = refused(bench, endpoint, {"status": 503}, TargetModel="fine.tar.gz")
    assert (answer["Error"]["Code"], answer["OriginalStatusCode"]) == ("ModelError", 503)

    bench.put_model(prefix, "bad.tar.gz", "mended")
    assert bench.text(endpoint, "bad.tar.gz") == "mended"


def test_models_are_fetched_with_the_endpoints_own_role(bench: Many, enforced: None) -> None:
    """The caller needs only the permission InvokeEndpoint; the endpoint's role needs read access to the model
    archive."""
    role = bench.new_role("narrow", *bench.grants("s3:GetObject"), grant(bench, "*/mine/*"))
    endpoint, prefix = bench.serve(role=role)
    bench.put_model(prefix, "mine/a.tar.gz", "mine")
    bench.put_model(prefix, "theirs/a.tar.gz", "theirs")

    assert bench.text(endpoint, "mine/a.tar.gz") == "mine"
    answer = refused(bench, endpoint, TargetModel="theirs/a.tar.gz")
    assert answer["Error"]["Code"] == "ValidationError"
    assert "AccessDenied" in answer["Error"]["Message"]


def grant(bench: Many, keys: str) -> dict[str, str]:
    return {"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{bench.bucket}/{keys}"}


def test_policy_limits_invocations_to_target_models(bench: Many, enforced: None) -> None:
    endpoint, _ = bench.serve("mine", "theirs")
    arn = bench.describe(endpoint)["EndpointArn"]
    only = {"StringEquals": {"sagemaker:TargetModel": "mine.tar.gz"}}
    statement = {"Effect": "Allow", "Action": "sagemaker:InvokeEndpoint", "Resource": arn, "Condition": only}
    someone = bench.as_user("sagemaker-runtime", statement)

    assert someone.invoke_endpoint(EndpointName=endpoint, Body=b"{}", TargetModel="mine.tar.gz")
    with pytest.raises(ClientError, match="AccessDenied"):
        someone.invoke_endpoint(EndpointName=endpoint, Body=b"{}", TargetModel="theirs.tar.gz")


# Several instances


def test_model_stays_on_one_instance_until_that_is_busy(bench: Many, settings: Any) -> None:
    # Given three instances, and enough models that each instance gets some of them
    names = [f"m{number}" for number in range(24)]
    endpoint, _ = bench.serve(*names, instances=3)
    (variant,) = bench.describe(endpoint)["ProductionVariants"]
    assert (variant["CurrentInstanceCount"], variant["DesiredInstanceCount"]) == (3, 3)

    # When each model is invoked repeatedly, then its instance is always the same, and each instance has some
    # models
    placed: dict[str, set[str]] = {name: set() for name in names}
    for _ in range(3):
        for name in names:
            placed[name].add(bench.ask(endpoint, TargetModel=f"{name}.tar.gz")["instance"])
    assert all(len(instances) == 1 for instances in placed.values())
    assert len(set().union(*placed.values())) == 3

    # And when one model gets many concurrent requests, other instances serve it too
    settings(multi_model_busy=2)
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(bench.ask, endpoint, {"sleep": 0.7}, TargetModel="m0.tar.gz") for _ in range(6)]
        assert len({call.result()["instance"] for call in calls}) == 3


def test_endpoint_scales_in_and_out_while_serving(bench: Many) -> None:
    endpoint, _ = bench.serve("one")
    stop, wrong = threading.Event(), []

    def keep_asking() -> None:
        while not stop.is_set():
            try:
                bench.text(endpoint, "one.tar.gz")
            except ClientError as error:
                wrong.append(str(error))

    asking = threading.Thread(target=keep_asking)
    asking.start()
    try:
        for count in (3, 1):
            bench.sagemaker.update_endpoint_weights_and_capacities(
                EndpointName=endpoint,
                DesiredWeightsAndCapacities=[{"VariantName": "AllTraffic", "DesiredInstanceCount": count}],
            )
            (variant,) = bench.settled(endpoint)["ProductionVariants"]
            assert (variant["CurrentInstanceCount"], variant["DesiredInstanceCount"]) == (count, count)
    finally:
        stop.set()
        asking.join()
    assert not wrong


# Restarts of the cloud


def test_endpoint_is_restored_after_a_restart(tmp_path: Path) -> None:
    with LocalCloud(tmp_path / "cloud") as cloud:
        bench = Many(cloud, CONTAINER)
        endpoint, _ = bench.serve("one", instances=2)
        before = bench.ask(endpoint, TargetModel="one.tar.gz")["instance"]

        cloud.kill()
        until(lambda: not alive(before))
        cloud.start()

        after = bench.ask(endpoint, TargetModel="one.tar.gz")
        assert after["model"]["model.txt"] == "one"
        until(lambda: bench.describe(endpoint)["ProductionVariants"][0]["CurrentInstanceCount"] == 2)
    assert not alive(after["instance"])
    assert not list((tmp_path / "cloud" / "instances").glob("endpoints/*"))
