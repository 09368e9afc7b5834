"""SageMaker's API without a cloud: validation, authorization, throttling, pages, and records."""

from __future__ import annotations

import json
import re
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from local.sagemaker import api, artifacts, instances, metrics, quotas, scaling, warm_pools
from local.sagemaker.api import ApiError, Context
from local.sagemaker.http import handle_request
from local.sagemaker.store import Store


class Platform:
    """A platform that only authorizes callers."""

    def __init__(self, granted: set[tuple[str, str]] | None = None):
        self.settings: dict[str, Any] = {}
        self.granted, self.asked = granted, []

    def authorize(
        self, account: str, region: str, access_key: str, action: str, resource: str, about: Any = None
    ) -> None:
        self.asked.append((action, resource))
        if self.granted is not None and (action, resource) not in self.granted:
            raise ApiError("AccessDeniedException", f"not authorized to perform: {action}")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "records.sqlite")


def ask(
    store: Store, operation: str, body: Any = None, platform: Platform | None = None, **changed: Any
) -> tuple[int, dict[str, Any]]:
    """Send one operation as the SDKs do; return the status and the decoded response."""
    content = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
    given = {
        "method": "POST",
        "path": "/",
        "headers": {"X-Amz-Target": f"SageMaker.{operation}"},
        "body": content,
        "query": {},
        "account": "000000000000",
        "region": "eu-west-1",
        "access_key": "AKIA" if platform else None,
    }
    status, headers, answer = handle_request(platform or Platform(), store, **(given | changed))  # type: ignore[arg-type]
    assert headers["Content-Type"] == "application/x-amz-json-1.1"
    return status, json.loads(answer)


def test_every_operation_exists_in_the_service_model() -> None:
    assert set(api.OPERATIONS) <= set(api.service_model().operation_names)


def test_unsupported_operation_returns_501_and_its_name(store: Store) -> None:
    status, error = ask(store, "CreateAutoMLJobV2")
    assert status == 501
    assert error["message"] == "sagemaker:CreateAutoMLJobV2 is not implemented in the local cloud"
    for path in ("async-invocations", "invocations-response-stream"):
        status, error = ask(store, "", path=f"/endpoints/e/{path}")
        assert (status, error["__type"]) == (501, "NotImplementedByLocalCloud")
        assert "sagemaker:InvokeEndpoint" in error["message"]


def test_operation_that_does_not_exist_is_unknown(store: Store) -> None:
    status, error = ask(store, "MakeCoffee")
    assert (status, error["__type"]) == (404, "UnknownOperationException")


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff"])
def test_body_that_is_no_json_object_is_refused(store: Store, body: bytes) -> None:
    status, error = ask(store, "ListTrainingJobs", body)
    assert (status, error["__type"]) == (400, "SerializationException")


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({}, "TrainingJobName"),
        ({"TrainingJobName": 3}, "TrainingJobName"),
        ({"TrainingJobName": "a b"}, "Value 'a b' at 'TrainingJobName' must match the pattern"),
        ({"TrainingJobName": "a" * 64}, "pattern"),
        ({"TrainingJobName": "a", "Colour": "blue"}, 'Unknown parameter in input: "Colour"'),
    ],
)
def test_invalid_request_is_refused_with_the_member(store: Store, params: dict[str, Any], said: str) -> None:
    status, error = ask(store, "DescribeTrainingJob", params)
    assert (status, error["__type"]) == (400, "ValidationException")
    assert said in error["message"]


def test_every_pattern_of_the_model_but_the_inexpressible_is_enforced() -> None:
    model = api.service_model()
    patterns = {
        shape.metadata["pattern"]
        for shape in (model.shape_for(name) for name in model.shape_names)
        if "pattern" in shape.metadata
    }
    assert len(patterns) > 200
    # The pattern of Athena's catalogues has UTF-16 surrogates, which Python cannot express.
    assert [each for each in patterns if api._pattern(each) is None] == [
        pattern for pattern in patterns if "uD800" in pattern
    ]


@pytest.mark.parametrize(
    ("key", "fits"), [("team", True), ("Équipe 日本", True), ("a/b:c=d+e-f@g_h.i", True), ("no#hash", False)]
)
def test_tag_keys_may_have_the_letters_of_any_language(key: str, fits: bool) -> None:
    pattern = api._pattern(r"([\p{L}\p{Z}\p{N}_.:/=+\-@]*)")
    assert isinstance(pattern, re.Pattern)
    assert bool(pattern.fullmatch(key)) == fits


def test_null_member_is_treated_as_absent(store: Store) -> None:
    status, answer = ask(store, "ListTrainingJobs", {"NameContains": None, "MaxResults": 5})
    assert (status, answer) == (200, {"TrainingJobSummaries": []})


def test_caller_without_the_grant_is_refused_before_the_lookup(store: Store) -> None:
    platform = Platform(granted=set())
    status, error = ask(store, "DescribeTrainingJob", {"TrainingJobName": "secret"}, platform)
    assert (status, error["__type"]) == (400, "AccessDeniedException")
    arn = "arn:aws:sagemaker:eu-west-1:000000000000:training-job/secret"
    assert platform.asked == [("sagemaker:DescribeTrainingJob", arn)]


def test_response_has_members_of_the_service_model_only() -> None:
    shape = api.service_model().operation_model("ListTrainingJobs").output_shape
    record = {"TrainingJobName": "a", "_internal": 1, "HyperParameters": {"a": "b"}, "CreationTime": None}
    shown = api.shaped(shape, {"TrainingJobSummaries": [record], "Other": 1})
    assert shown == {"TrainingJobSummaries": [{"TrainingJobName": "a"}]}


def test_pages_are_complete_disjoint_and_in_the_requested_order() -> None:
    records = [{"TrainingJobName": f"job-{n:02}", "CreationTime": 100 - n} for n in range(25)]
    seen, token = [], {}
    while True:
        page = api.page({"MaxResults": 10, "SortOrder": "Ascending"} | token, records, "Summaries")
        seen += [record["TrainingJobName"] for record in page["Summaries"]]
        if "NextToken" not in page:
            break
        token = {"NextToken": page["NextToken"]}
    assert seen == [f"job-{n:02}" for n in reversed(range(25))]
    with pytest.raises(ApiError, match="NextToken"):
        api.page({"NextToken": "nonsense"}, records, "Summaries")


@pytest.mark.parametrize("order", ["Ascending", "Descending"])
def test_next_page_is_complete_after_deletions(order: str) -> None:
    # given records, some with equal times, some without a status
    records = [{"ModelName": f"m-{n}", "CreationTime": 100 + n // 3} | ({"Status": "s"} if n % 2 else {})
               for n in range(9)]  # fmt: skip
    for by in ("CreationTime", "Name", "Status"):
        asked = {"MaxResults": 4, "SortOrder": order, "SortBy": by}
        first = api.page(asked, records, "M")
        # when all records of the first page are deleted, then the remaining pages are complete
        seen = [each["ModelName"] for each in first["M"]]
        left = [each for each in records if each["ModelName"] not in seen]
        rest = api.page(asked | {"NextToken": first["NextToken"], "MaxResults": 100}, left, "M")
        assert {each["ModelName"] for each in rest["M"]} == {each["ModelName"] for each in left}


def test_list_is_filtered_by_name_status_and_time() -> None:
    records = [
        {"TrainingJobName": f"{name}-{n}", "TrainingJobStatus": status, "CreationTime": n}
        for n, (name, status) in enumerate([("a", "Failed"), ("a", "Completed"), ("b", "Completed")])
    ]

    def names(**params: Any) -> list[str]:
        return [record["TrainingJobName"] for record in api.page(params, records, "S")["S"]]

    assert names(NameContains="A") == ["a-1", "a-0"]
    assert names(StatusEquals="Completed") == ["b-2", "a-1"]
    assert names(CreationTimeAfter=1) == ["b-2", "a-1"]
    assert names(CreationTimeBefore=1, StatusEquals="Failed") == ["a-0"]


def test_updates_from_many_threads_are_all_stored(store: Store, tmp_path: Path) -> None:
    scope = store.scoped("1", "r")
    scope.add("kind", "name", {"count": 0})

    def count() -> None:
        for _ in range(50):
            scope.change("kind", "name", lambda record: record.update(count=record["count"] + 1))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Store(tmp_path / "records.sqlite").scoped("1", "r").get("kind", "name") == {"count": 200}


def test_records_are_separate_per_account_and_region(store: Store) -> None:
    assert store.scoped("1", "r").add("kind", "name", {"of": 1})
    assert not store.scoped("1", "r").add("kind", "name", {"of": 2})
    assert store.scoped("1", "s").get("kind", "name") is None
    assert store.scoped("2", "r").get("kind", "name") is None


def test_pace_admits_a_burst_then_its_rate(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(quotas.time, "monotonic", lambda: clock.now)
    context = Context(Platform(), store.scoped("1", "r"))  # type: ignore[arg-type]

    def passes() -> bool:
        try:
            quotas.throttle(context, "CreateTrainingJob", rate=2.0, burst=3)
        except ApiError:
            return False
        return True

    assert [passes() for _ in range(5)] == [True, True, True, False, False]
    clock.now += 0.5
    assert [passes() for _ in range(2)] == [True, False]
    clock.now += 100
    assert [passes() for _ in range(4)] == [True, True, True, False]
    with pytest.raises(ApiError) as throttled:
        quotas.throttle(context, "CreateTrainingJob", rate=2.0, burst=3)
    assert (throttled.value.code, throttled.value.status) == ("ThrottlingException", 400)
    assert throttled.value.message == "Rate exceeded"


@pytest.mark.parametrize("jump", [3600.0, 86_400.0, -3600.0, -86_400.0])
def test_pace_ignores_jumps_of_the_wall_clock(
    monkeypatch: pytest.MonkeyPatch, store: Store, jump: float
) -> None:
    # given a rate limiter whose burst is used up
    pace = quotas.Pace()
    assert [pace.take(rate=0.001, burst=2) for _ in range(3)] == [True, True, False]
    # when the wall clock jumps, in either direction, then the burst is still used up
    wall = time.time()
    monkeypatch.setattr(time, "time", lambda: wall + jump)
    assert not pace.take(rate=0.001, burst=2)
    assert pace.take(rate=1e9, burst=2)


@pytest.mark.parametrize("jump", [3600.0, 86_400.0, -3600.0, -86_400.0])
def test_warm_pool_lasts_its_time_despite_clock_jumps(
    monkeypatch: pytest.MonkeyPatch, store: Store, jump: float
) -> None:
    # given a warm pool with a keep-alive period of ten minutes, which has been idle for one minute
    monotonic, wall = [5000.0], time.time()
    monkeypatch.setattr(warm_pools.time, "monotonic", lambda: monotonic[0])
    context = Context(Platform(), store.scoped("1", "r"))  # type: ignore[arg-type]
    record = {
        "TrainingJobName": "job",
        "TrainingJobStatus": "Completed",
        "WarmPoolStatus": {"Status": "InUse"},
        "ResourceConfig": {"InstanceType": "t", "InstanceCount": 1, "KeepAlivePeriodInSeconds": 600},
    }
    warm_pools.leave(context, "training-job", record)
    monotonic[0] += 60
    # when the clock jumps
    monkeypatch.setattr(time, "time", lambda: wall + jump)
    # then the pool exists for nine more minutes, and its idle time is billed
    assert warm_pools.current(record)["WarmPoolStatus"] == {
        "Status": "Available",
        "ResourceRetainedBillableTimeInSeconds": 60,
    }
    monotonic[0] += 541
    assert warm_pools.current(record)["WarmPoolStatus"]["Status"] == "Terminated"


@pytest.mark.parametrize("jump", [3600.0, 86_400.0])
def test_scaling_continues_after_a_clock_moved_back(monkeypatch: pytest.MonkeyPatch, jump: float) -> None:
    # If the recorded time of the last scaling is in the future, the scaling counts as long ago
    assert scaling.elapsed(time.time() + jump) == float("inf")
    assert scaling.elapsed(time.time() - 30) == pytest.approx(30, abs=5)


@pytest.mark.parametrize(
    ("prefix", "key", "path"),
    [
        ("data", "data/a/b.csv", "a/b.csv"),
        ("data/", "data/a/b.csv", "a/b.csv"),
        ("", "a/b.csv", "a/b.csv"),
        ("data/a/b.csv", "data/a/b.csv", "b.csv"),
        ("data/part-", "data/part-1", "part-1"),
        ("data", "database/x", "database/x"),
    ],
)
def test_path_of_an_object_in_a_channel_is_sagemakers(prefix: str, key: str, path: str) -> None:
    assert str(artifacts.relative(key, prefix)) == path


@pytest.mark.parametrize("key", ["data/../../etc/passwd", "data/.."])
def test_key_that_leaves_its_folder_is_refused(key: str) -> None:
    with pytest.raises(artifacts.TransferError, match="not a path below the channel's folder"):
        artifacts.relative(key, "data")


def test_merged_files_prefer_those_of_the_first_host(tmp_path: Path) -> None:
    for host, files in (("one", {"model": "1", "a/x": "1"}), ("two", {"model": "2", "a/y": "2"})):
        for name, text in files.items():
            (tmp_path / host / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / host / name).write_text(text)
    files = artifacts.merged([tmp_path / "one", tmp_path / "two"])
    assert {name: path.read_text() for name, path in files.items()} == {"model": "1", "a/x": "1", "a/y": "2"}


def test_metrics_are_the_numbers_that_expressions_capture() -> None:
    found = metrics.Metrics(
        [
            {"Name": "rmse", "Regex": r"validation:rmse=([0-9.eE+-]+)"},
            {"Name": "never", "Regex": r"never=(\d+)"},
            {"Name": "epoch", "Regex": r"epoch (\S+)"},
        ]
    )
    for line in (
        "epoch one",
        "epoch 1 validation:rmse=0.5",
        "validation:rmse=4.2e-1 done",
        "validation:rmse=-",
    ):
        found.read(line)
    assert [(each["MetricName"], each["Value"]) for each in found.final()] == [("rmse", 0.42), ("epoch", 1.0)]


@pytest.mark.parametrize(("regex", "said"), [("(", "not valid"), ("loss=.*", "no group")])
def test_metric_expression_without_a_value_is_refused_by_name(regex: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"metric loss .*{said}"):
        metrics.check([{"Name": "loss", "Regex": regex}])


def test_hosts_get_unique_loopback_addresses() -> None:
    one, two = instances.reserve(3), instances.reserve(2)
    try:
        names = {host.name for host in one + two}
        assert len(names) == 5
        assert all(name.startswith("127.") for name in names)
    finally:
        for host in one + two:
            host.release()


@pytest.mark.parametrize(
    ("platform", "status"),
    [("notebook-al2023-v1", 200), ("notebook-al2023-v2", 200), ("notebook-al2023-v3", 400)],
)
def test_notebook_has_a_platform_that_aws_offers(store: Store, platform: str, status: int) -> None:
    role = "arn:aws:iam::000000000000:role/r"
    given = {"NotebookInstanceName": "n", "InstanceType": "ml.t3.medium", "RoleArn": role}
    assert ask(store, "CreateNotebookInstance", given | {"PlatformIdentifier": platform})[0] == status
