"""Tables with projected partitions, views and named queries, as `QueryTables` creates them."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
from aws_cdk import App, DefaultStackSynthesizer, Stack

from groundplan import ArtifactBucket, HourlyTable, QueryTables, View
from local.cloud import LocalCloud
from tests.support.clouds import client
from tests.support.deployments import REGION, assumed, role
from tests.support.waiting import until

COLUMNS = {"asset": "string", "mw": "double"}
TOTAL = "SELECT asset, sum(mw) AS total FROM offers WHERE date = '2022-01-31' GROUP BY asset"
OFFERS = "SELECT mw, date, hour FROM offers ORDER BY date, hour, mw"


@pytest.fixture(scope="module")
def tables(aws: Callable) -> Iterator[dict[str, str]]:
    """Outputs of a stack with a table, a view of it and a view of the view."""
    app = App()
    synthesizer = DefaultStackSynthesizer(generate_bootstrap_version_rule=False)
    stack = Stack(app, "queries-test", synthesizer=synthesizer)
    made = QueryTables(
        stack,
        "Queries",
        name="queries-test",
        bucket=ArtifactBucket(stack, "Data"),
        tables={"offers": HourlyTable(folder="bids", columns=COLUMNS, since="2022-01-01")},
        views={
            "totals": View(sql=TOTAL, columns={"asset": "string", "total": "double"}),
            "largest": View(sql="SELECT max(total) AS largest FROM totals", columns={"largest": "double"}),
        },
        queries={"all-offers": OFFERS},
    )
    assert made.database_name == "queries_test"
    template = app.synth().get_stack_by_name("queries-test").template
    cloudformation = aws("cloudformation")
    cloudformation.create_stack(
        StackName="queries-test", TemplateBody=json.dumps(template), Capabilities=["CAPABILITY_IAM"]
    )

    def status() -> str:
        return cloudformation.describe_stacks(StackName="queries-test")["Stacks"][0]["StackStatus"]

    until(lambda: not status().endswith("IN_PROGRESS"), "the creation of the stack")
    assert status() == "CREATE_COMPLETE"
    resources = cloudformation.describe_stack_resources(StackName="queries-test")["StackResources"]
    yield {each["ResourceType"]: each["PhysicalResourceId"] for each in resources}
    bucket = next(each for each in resources if each["ResourceType"] == "AWS::S3::Bucket")
    s3 = aws("s3")
    for each in s3.list_objects_v2(Bucket=bucket["PhysicalResourceId"]).get("Contents", []):
        s3.delete_object(Bucket=bucket["PhysicalResourceId"], Key=each["Key"])
    cloudformation.delete_stack(StackName="queries-test")


@pytest.fixture(scope="module")
def offers(aws: Callable, tables: dict[str, str]) -> dict[str, str]:
    """Files inside and outside of the table's partitions."""
    for key, assets in {
        "bids/date=2022-01-31/hour=05/a.parquet": {"asset": ["north"], "mw": [8.0]},
        "bids/date=2022-01-31/hour=17/a.parquet": {"asset": ["north", "west"], "mw": [1.5, 2.5]},
        # this file lacks a column of the table, and has a column that the table lacks
        "bids/date=2022-02-01/hour=00/a.parquet": {"mw": [-8.0], "note": ["new"]},
        # these files are outside of the projection: hours have two digits, and days range from 2022 to three
        # days from now
        "bids/date=2022-01-31/hour=7/a.parquet": {"asset": ["lost"], "mw": [100.0]},
        "bids/date=2199-01-01/hour=05/a.parquet": {"asset": ["lost"], "mw": [100.0]},
        "bids/date=2021-12-31/hour=05/a.parquet": {"asset": ["lost"], "mw": [100.0]},
    }.items():
        written = io.BytesIO()
        parquet.write_table(arrow.table(assets), written)
        aws("s3").put_object(Bucket=tables["AWS::S3::Bucket"], Key=key, Body=written.getvalue())
    return tables


def ask(athena: Any, query: str) -> tuple[str, list[list[str | None]] | str]:
    """Run a query. Return its status and its rows, of which the first has the column names; if it failed,
    return its status and the reason for the failure."""
    started = athena.start_query_execution(
        QueryString=query,
        QueryExecutionContext={"Database": "queries_test"},
        WorkGroup="queries-test",
    )["QueryExecutionId"]

    def now() -> Mapping[str, Any]:
        return athena.get_query_execution(QueryExecutionId=started)["QueryExecution"]["Status"]

    until(lambda: now()["State"] not in ("QUEUED", "RUNNING"), "the end of the query")
    if now()["State"] != "SUCCEEDED":
        return now()["State"], now()["StateChangeReason"]
    rows = athena.get_query_results(QueryExecutionId=started)["ResultSet"]["Rows"]
    return "SUCCEEDED", [[cell.get("VarCharValue") for cell in row["Data"]] for row in rows]


def test_query_returns_projected_partitions_only(aws: Callable, offers: dict[str, str]) -> None:
    assert ask(aws("athena"), OFFERS) == (
        "SUCCEEDED",
        [
            ["mw", "date", "hour"],
            ["8.0", "2022-01-31", "05"],
            ["1.5", "2022-01-31", "17"],
            ["2.5", "2022-01-31", "17"],
            ["-8.0", "2022-02-01", "00"],
        ],
    )


def test_table_has_the_columns_of_its_definition(aws: Callable, offers: dict[str, str]) -> None:
    status, rows = ask(aws("athena"), "SELECT * FROM offers WHERE date = '2022-02-01'")
    assert (status, rows[0]) == ("SUCCEEDED", ["asset", "mw", "date", "hour"])
    assert rows[1] == [None, "-8.0", "2022-02-01", "00"]


def test_query_through_a_view_of_a_view_works(aws: Callable, offers: dict[str, str]) -> None:
    assert ask(aws("athena"), "SELECT l.largest FROM largest l") == ("SUCCEEDED", [["largest"], ["9.5"]])


def test_named_query_is_kept_with_its_text(aws: Callable, tables: dict[str, str]) -> None:
    kept = aws("athena").get_named_query(NamedQueryId=tables["AWS::Athena::NamedQuery"])["NamedQuery"]
    assert (kept["Name"], kept["QueryString"]) == ("queries-test-all-offers", OFFERS)
    assert kept["WorkGroup"] == "queries-test"


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT * FROM '/etc/hostname'",
        "SELECT * FROM glob('/etc/*')",
        "COPY (SELECT 1) TO '/tmp/groundplan-athena-wrote-this'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
    ],
)
def test_query_cannot_read_local_files(aws: Callable, tables: dict[str, str], query: str) -> None:
    assert ask(aws("athena"), query)[0] == "FAILED"


@pytest.mark.parametrize(
    ("granted", "missing"),
    [
        ([("glue:*", "*"), ("s3:*", "*")], None),
        ([("s3:*", "*")], "glue:GetTable"),
        ([("glue:*", "*")], "s3:GetObject"),
    ],
)
def test_caller_needs_grants_on_all_data_of_a_view(
    cloud: LocalCloud,
    aws: Callable,
    offers: dict[str, str],
    enforced: None,
    granted: list[tuple[str, str]],
    missing: str | None,
) -> None:
    # given a caller whose role may run queries, and may read only a part of the data of a view
    athena = client(cloud, "athena", **assumed(aws, ("athena:*", "*"), *granted))
    # when the caller queries a view
    status, answer = ask(athena, "SELECT total FROM totals WHERE asset = 'north'")
    # then the query succeeds with all grants, and otherwise the error names the missing grant
    if missing is None:
        assert (status, answer) == ("SUCCEEDED", [["total"], ["9.5"]])
    else:
        assert status == "FAILED"
        assert missing in answer


def test_schedule_passes_its_time_and_uses_its_role(
    aws: Callable, enforced: None, request: pytest.FixtureRequest
) -> None:
    # given two schedules of a state machine, of which only one has a role that may start the machine
    states, scheduler = aws("stepfunctions"), aws("scheduler")
    account_role = role(aws, "states.amazonaws.com")
    machine = states.create_state_machine(
        name="told-when",
        definition=json.dumps({"StartAt": "End", "States": {"End": {"Type": "Succeed"}}}),
        roleArn=account_role,
    )["stateMachineArn"]
    may = role(aws, "scheduler.amazonaws.com", ("states:StartExecution", machine))
    may_not = role(aws, "scheduler.amazonaws.com")
    for name, starts in (("may", may), ("may-not", may_not)):
        scheduler.create_schedule(
            Name=name,
            ScheduleExpression=f"at({time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(time.time() - 1))})",
            FlexibleTimeWindow={"Mode": "OFF"},
            Target={
                "Arn": machine,
                "RoleArn": starts,
                "Input": json.dumps({"time": "<aws.scheduler.scheduled-time>", "by": name}),
            },
        )
        request.addfinalizer(lambda name=name: scheduler.delete_schedule(Name=name))

    # when both schedules are due
    def started() -> list[dict[str, Any]]:
        return states.list_executions(stateMachineArn=machine)["executions"]

    until(started, "the start of an execution")
    time.sleep(1)  # time for the execution of the other schedule, which was due at the same time
    # then one execution runs, with the scheduled minute in its input
    (only,) = started()
    told = json.loads(states.describe_execution(executionArn=only["executionArn"])["input"])
    assert told["by"] == "may"
    assert time.strptime(told["time"], "%Y-%m-%dT%H:%M:00Z")


def test_schedule_needs_a_role_of_the_schedulers(aws: Callable, enforced: None) -> None:
    scheduler = aws("scheduler")
    with pytest.raises(
        scheduler.exceptions.ValidationException, match="must allow AWS EventBridge Scheduler"
    ):
        scheduler.create_schedule(
            Name="refused",
            ScheduleExpression="rate(1 hour)",
            FlexibleTimeWindow={"Mode": "OFF"},
            Target={
                "Arn": f"arn:aws:states:{REGION}:000000000000:stateMachine:told-when",
                "RoleArn": role(aws, "states.amazonaws.com"),
            },
        )
