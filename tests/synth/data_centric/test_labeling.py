"""The template of labeling: permissions, failures of a run, and retained resources."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from settings.data_centric import DataCentric
from stacks.data_centric.functions import TASKS
from tests.synth.conftest import ROOT
from tests.synth.template import (
    Template,
    allowed,
    flat,
    listed,
    logs_may_use,
    of_type,
    only,
    retained_types,
    statements,
)

VARIANTS = ("dev", "prod", "chosen")
LOGS = {"logs:CreateLogStream", "logs:PutLogEvents"}
DEAD = {"sqs:SendMessage"}
READ = {"s3:GetObject", "s3:ListBucket"}
ROWS = {"dynamodb:GetItem", "dynamodb:PutItem"}
QUERY = {"dynamodb:Query"}
INVOKE = {"lambda:InvokeFunction"}
MAY = {
    "ApiFunction": ROWS | QUERY | READ | {"secretsmanager:GetSecretValue"},
    "Check": ROWS | READ,
    "Load": ROWS | READ | INVOKE,
    "Watch": ROWS | QUERY,
    "Consolidate": ROWS | QUERY | READ | INVOKE | {"s3:PutObject"},
    "PreAnnotation": set[str](),
    "PostAnnotation": READ,
}
"""Actions that each function's role allows, except those for logs and dead letters"""


@pytest.fixture(params=VARIANTS)
def each(request: pytest.FixtureRequest) -> Template:
    return request.getfixturevalue(request.param)


def grants(template: Template, id: str) -> dict[str, set[str]]:
    """Return, by action, the resources that a function's role allows, with logical ids instead of ARNs."""
    return allowed(template, f"{id}Role")


def function(template: Template, id: str) -> dict[str, Any]:
    whole = re.compile(rf"{id}(Function)?[0-9A-F]{{8}}")
    (found,) = [
        r["Properties"] for n, r in of_type(template, "AWS::Lambda::Function").items() if whole.fullmatch(n)
    ]
    return found


# Least privilege


@pytest.mark.parametrize("id", TASKS)
def test_function_has_exactly_the_grants_of_its_work(dev: Template, id: str) -> None:
    assert set(grants(dev, id)) == MAY[id] | LOGS | DEAD


def test_functions_reach_their_folders_only(each: Template) -> None:
    def folders(id: str, action: str) -> set[str]:
        return {arn.rpartition(".Arn>/")[2] for arn in grants(each, id).get(action, ())}

    for id in TASKS:
        read = {"ApiFunction": {"inputs/*"}, "PostAnnotation": {"labels/*"}}.get(id, {"inputs/*", "labels/*"})
        assert folders(id, "s3:GetObject") == (read if "s3:GetObject" in MAY[id] else set())
        assert folders(id, "s3:PutObject") == ({"labels/*"} if id == "Consolidate" else set())


def test_labelers_secret_is_read_by_the_api_only(each: Template) -> None:
    readers = {
        name
        for name, _, statement in statements(each)
        if "secretsmanager:GetSecretValue" in listed(statement["Action"])
    }
    assert {name.partition("Role")[0] for name in readers} == {"ApiFunction"}


def test_chosen_annotation_functions_are_called_instead(dev: Template, chosen: Template) -> None:
    for id, name, variable in (
        ("Load", "prepare", "PRE_ANNOTATION_ARN"),
        ("Consolidate", "consolidate", "POST_ANNOTATION_ARN"),
    ):
        own = function(dev, id)["Environment"]["Variables"][variable]
        assert grants(dev, id)["lambda:InvokeFunction"] == {flat(own)}
        assert flat(own).startswith(f"<{'Pre' if id == 'Load' else 'Post'}Annotation")
        arn = f"arn:aws:lambda:eu-west-1:111122223333:function:{name}"
        assert grants(chosen, id)["lambda:InvokeFunction"] == {arn}
        assert function(chosen, id)["Environment"]["Variables"][variable] == arn


def test_no_action_is_a_wildcard(each: Template) -> None:
    for name, _, statement in statements(each):
        assert not any("*" in action for action in listed(statement["Action"])), name


# Access of users


def test_every_route_asks_for_a_token(each: Template) -> None:
    document = json.loads((ROOT / "runtime/data_centric/openapi.json").read_text())
    routes = of_type(each, "AWS::ApiGatewayV2::Route")
    (authorizer,) = of_type(each, "AWS::ApiGatewayV2::Authorizer")
    assert {route["Properties"]["RouteKey"] for route in routes.values()} == {
        f"{method.upper()} {path}"
        for path, item in document["paths"].items()
        for method in item
        if method != "parameters"
    }
    for route in routes.values():
        assert route["Properties"]["AuthorizationType"] == "JWT"
        assert route["Properties"]["AuthorizerId"] == {"Ref": authorizer}
    group = only(each, "AWS::Cognito::UserPoolGroup")["Properties"]
    assert group["GroupName"] == "operators"


def test_sign_up_is_closed_by_default(dev: Template, chosen: Template) -> None:
    for template, administrators in ((dev, True), (chosen, False)):
        pool = only(template, "AWS::Cognito::UserPool")["Properties"]
        assert pool["AdminCreateUserConfig"]["AllowAdminCreateUserOnly"] is administrators


def test_no_secret_is_in_the_template(each: Template) -> None:
    secret = only(each, "AWS::SecretsManager::Secret")["Properties"]
    assert "SecretString" not in secret
    assert secret["GenerateSecretString"]["PasswordLength"] == 64
    for found in of_type(each, "AWS::Lambda::Function").values():
        variables = found["Properties"].get("Environment", {}).get("Variables", {})
        assert "resolve:secretsmanager" not in json.dumps(variables)


# The state machine


def machine(template: Template) -> dict[str, Any]:
    machines = of_type(template, "AWS::StepFunctions::StateMachine")
    (found,) = (r["Properties"] for name, r in machines.items() if name.startswith("Label"))
    return json.loads(re.sub(r"<[A-Za-z0-9.:]+>", "x", flat(found["DefinitionString"])))


def test_every_failure_of_a_run_has_a_reason(each: Template) -> None:
    states = machine(each)["States"]
    assert states["Failed"]["Cause"] == "{% $reason %}"
    for id in ("Check", "Load", "Watch", "Consolidate"):
        (catch,) = states[id]["Catch"]
        assert (catch["ErrorEquals"], catch["Next"]) == (["States.ALL"], "Caught")
        assert states[id]["Retry"][0]["MaxAttempts"] == 4
    for id, variable in (("Checked", "checked"), ("Loaded", "loading"), ("Consolidated", "results")):
        refused = states[f"Is{id}"]["Choices"][0]
        assert refused["Next"] == "Failed"
        assert f"${variable}.problem" in refused["Assign"]["reason"]


def test_function_times_out_before_its_step(each: Template) -> None:
    states = machine(each)["States"]
    for id in ("Check", "Load", "Watch", "Consolidate"):
        assert function(each, id)["Timeout"] < states[id]["TimeoutSeconds"]
    assert function(each, "ApiFunction")["Timeout"] == 29
    # The state machine waits for requests in progress before it reads the answers of an incomplete run.
    assert "1 : 30" in states["Settle"]["Seconds"]


def test_execution_lasts_longer_than_a_run(dev: Template, chosen: Template) -> None:
    for template, hours in ((dev, DataCentric().labeling.most_hours), (chosen, 24)):
        assert machine(template)["TimeoutSeconds"] > 3600 * hours
        assert (
            json.loads(function(template, "Watch")["Environment"]["Variables"]["LABELING"])["most_hours"]
            == hours
        )


def test_alarms_notify_the_pager(dev: Template, chosen: Template) -> None:
    for template, late in ((dev, 907_200), (chosen, 64_800)):
        alarms = of_type(template, "AWS::CloudWatch::Alarm")
        assert {re.sub("Pager|[0-9A-F]{8}$", "", name) for name in alarms} == {
            "LabelFailed",
            "ExamineFailed",
            "SweepFailed",
            "RunIncomplete",
            "RunLate",
            "DeadLetter",
            "ApiFails",
        }
        assert all(alarm["Properties"]["AlarmActions"] for alarm in alarms.values())
        (threshold,) = [
            alarm["Properties"]["Threshold"] for name, alarm in alarms.items() if "RunLate" in name
        ]
        assert threshold == late


# Retained resources


def test_retained_data_is_protected(dev: Template, prod: Template, chosen: Template) -> None:
    assert retained_types(dev) == set()
    assert retained_types(prod) == {
        "AWS::Cognito::UserPool",
        "AWS::DynamoDB::Table",
        "AWS::KMS::Key",
        "AWS::S3::Bucket",
        "AWS::SecretsManager::Secret",
    }
    for template, protected in ((dev, False), (chosen, True)):
        assert only(template, "AWS::DynamoDB::Table")["Properties"]["DeletionProtectionEnabled"] is protected
        pool = only(template, "AWS::Cognito::UserPool")["Properties"]
        assert (pool.get("DeletionProtection") == "ACTIVE") is protected
    recovery = only(prod, "AWS::DynamoDB::Table")["Properties"]["PointInTimeRecoverySpecification"]
    assert recovery == {"PointInTimeRecoveryEnabled": True}


def test_clean_up_runs_between_writers_and_bucket_on_deletion(dev: Template) -> None:
    ((clean_up, resource),) = of_type(dev, "Custom::SageMakerCleanUp").items()
    machines = of_type(dev, "AWS::StepFunctions::StateMachine")
    functions = of_type(dev, "AWS::Lambda::Function")
    writers = [*machines, *(name for name in functions if not name.startswith(("CleanUp", "Publisher")))]
    assert len(writers) == 3 + len(TASKS) + 2
    for name in writers:
        assert clean_up in dev["Resources"][name]["DependsOn"], name
    assert flat(resource["Properties"]["BucketName"]).strip("<>") in resource["DependsOn"]


def test_own_key_encrypts_everything(prod: Template, chosen: Template) -> None:
    for template in (prod, chosen):
        (key,) = of_type(template, "AWS::KMS::Key")
        assert logs_may_use(template)
        table = only(template, "AWS::DynamoDB::Table")["Properties"]
        assert flat(table["SSESpecification"]["KMSMasterKeyId"]) == f"<{key}.Arn>"
        secret = only(template, "AWS::SecretsManager::Secret")["Properties"]
        assert flat(secret["KmsKeyId"]) == f"<{key}.Arn>"
        for id in TASKS:
            assert f"<{key}.Arn>" in grants(template, id)["kms:Decrypt"]


def test_table_has_the_index_that_functions_query(dev: Template) -> None:
    (index,) = only(dev, "AWS::DynamoDB::Table")["Properties"]["GlobalSecondaryIndexes"]
    assert index["IndexName"] == "due"
    assert index["Projection"] == {"NonKeyAttributes": ["answers"], "ProjectionType": "INCLUDE"}
    assert [key["AttributeName"] for key in index["KeySchema"]] == ["queue", "due"]


def test_cors_allows_reads_from_the_page_only(dev: Template) -> None:
    (bucket,) = [
        each["Properties"]
        for name, each in of_type(dev, "AWS::S3::Bucket").items()
        if name.startswith("Data")
    ]
    (rule,) = bucket["CorsConfiguration"]["CorsRules"]
    (origin,) = map(flat, rule["AllowedOrigins"])
    assert re.fullmatch(r"https://<SiteDistribution\w+\.DomainName>", origin)
    assert rule["AllowedMethods"] == ["GET"]
