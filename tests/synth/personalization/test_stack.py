"""The template of personalization: required and forbidden contents."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from groundplan.lambdas.clean_up.handler import leftovers
from personalization.core import ids
from settings.personalization import Personalization
from stacks.personalization.stack import PersonalizationStack
from stacks.shared import LAYER, LayerMissingError
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
    wildcards,
)
from tooling.assembly import parse, selected
from tooling.registries import needed

NAME = "groundplan-dev-personalization"
FUNCTIONS = ("ApiFunction", "Dispatcher", "Collector", "Preparer", "Notifier", "Purger", "Sweeper")
VARIANTS = ("dev", "prod", "chosen")
BASE = Personalization().base


@pytest.fixture(params=VARIANTS)
def each(request: pytest.FixtureRequest) -> Template:
    return request.getfixturevalue(request.param)


def function(template: Template, id: str) -> dict[str, Any]:
    """Return the properties of the Lambda function in the construct `id`."""
    whole = re.compile(rf"{id}(Function)?[0-9A-F]{{8}}")
    (found,) = [
        r["Properties"] for n, r in of_type(template, "AWS::Lambda::Function").items() if whole.fullmatch(n)
    ]
    return found


def variable(template: Template, name: str) -> str:
    return flat(function(template, "Dispatcher")["Environment"]["Variables"][name])


def grants(template: Template, id: str) -> dict[str, set[str]]:
    """Return the actions of a function's role with the ends of their resources' ARNs."""
    names = {f"<{n}.Arn>": re.sub(r"[0-9A-F]{8}$", "", n) for n in template["Resources"]}
    shown: dict[str, set[str]] = {}
    for action, resources in allowed(template, f"{id}Role").items():
        for resource in resources:
            for arn, name in names.items():
                resource = resource.replace(arn, name)
            shown.setdefault(action, set()).add(resource.rpartition(":")[2])
    return shown


# Synthesis is pure


def test_synthesis_without_the_layer_says_how_to_build_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    from aws_cdk import App

    from settings.personalization import Personalization

    monkeypatch.setattr(sys.modules["stacks.shared"], "LAYER", tmp_path / "layer")
    with pytest.raises(LayerMissingError, match=r"layer does not exist: run `make setup`"):
        PersonalizationStack(App(), "Stack", env_name="dev", settings=Personalization())
    assert LAYER.is_dir()


# Least privilege


def test_roles_are_passed_by_name_and_to_sagemaker_only(each: Template):
    passed = [(n, s) for n, _, s in statements(each) if s["Action"] == "iam:PassRole"]
    assert {re.sub("Role.*", "", name) for name, _ in passed} == {"Dispatcher", "Sweeper"}
    for _, statement in passed:
        (role,) = map(flat, listed(statement["Resource"]))
        assert role.startswith("<TrainingRole")
        assert statement["Condition"] == {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}


LOGS = {"logs:CreateLogStream", "logs:PutLogEvents"}
STREAM = {
    "dynamodb:DescribeStream",
    "dynamodb:GetRecords",
    "dynamodb:GetShardIterator",
    "dynamodb:ListStreams",
}
DEAD = {"sqs:SendMessage"}
CREATE = {"sagemaker:CreateTrainingJob", "sagemaker:AddTags", "sagemaker:DescribeTrainingJob", "iam:PassRole"}
ROWS = {"dynamodb:BatchGetItem", "dynamodb:GetItem", "dynamodb:UpdateItem"}
S3 = {"s3:GetObject", "s3:PutObject", "s3:ListBucket"}
MAY = {
    "ApiFunction": (ROWS - {"dynamodb:BatchGetItem"})
    | {"dynamodb:PutItem", "dynamodb:ConditionCheckItem", "dynamodb:Query"}
    | S3
    | {"s3:DeleteObject", "sagemaker:InvokeEndpoint"},
    "Dispatcher": ROWS | {"dynamodb:PutItem", "dynamodb:Query"} | S3 | CREATE | STREAM,
    "Collector": ROWS
    | {"dynamodb:DeleteItem", "dynamodb:Query"}
    | S3
    | {"s3:DeleteObject", "sagemaker:DescribeTrainingJob", "sagemaker:StopTrainingJob"},
    "Preparer": ROWS | S3 | {"s3:DeleteObject"},
    "Notifier": {"dynamodb:GetItem", "dynamodb:UpdateItem", "sns:Publish"} | STREAM,
    "Purger": ROWS
    | {"dynamodb:DeleteItem", "dynamodb:Query", "s3:ListBucket", "s3:DeleteObject"}
    | {"sagemaker:StopTrainingJob"}
    | STREAM,
    "Sweeper": ROWS
    | {"dynamodb:PutItem", "dynamodb:DeleteItem", "dynamodb:Query"}
    | S3
    | CREATE
    | {"s3:DeleteObject", "sagemaker:StopTrainingJob", "sns:Publish"},
}


@pytest.mark.parametrize("id", FUNCTIONS)
def test_function_has_exactly_the_grants_of_its_work(id: str, dev: Template):
    assert set(grants(dev, id)) == MAY[id] | LOGS | DEAD


@pytest.mark.parametrize("id", FUNCTIONS)
def test_function_of_a_stack_with_a_key_may_use_it(id: str, prod: Template):
    use = {"kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey", "kms:DescribeKey"}
    assert set(grants(prod, id)) == MAY[id] | LOGS | DEAD | use


def test_api_writes_uploads_and_generations_only(dev: Template):
    may = grants(dev, "ApiFunction")
    assert may["s3:PutObject"] == {"DataBucket/uploads/*", "DataBucket/generations/*"}
    assert may["s3:DeleteObject"] == {"DataBucket/generations/*"}
    assert may["sagemaker:InvokeEndpoint"] == {f"endpoint/{NAME}"}
    assert may["dynamodb:ConditionCheckItem"] >= {"TablesModels"}


def test_adapters_are_written_by_preparers_and_read_by_the_endpoint(dev: Template):
    def who(action: str, folder: str) -> set[str]:
        return {
            re.sub("Role.*", "", name)
            for name, _, statement in statements(dev)
            if action in listed(statement["Action"])
            and any(flat(resource).endswith(f"/{folder}/*") for resource in listed(statement["Resource"]))
        }

    assert who("s3:PutObject", "adapters") == {"Collector", "Preparer", "Sweeper"}
    assert who("s3:GetObject", "adapters") == {"EndpointServing"}


def test_training_reads_pictures_and_writes_its_jobs_folder(dev: Template):
    may = grants(dev, "Training")
    assert may["s3:GetObject"] == {"DataBucket/uploads/*", "DataBucket/jobs/*"}
    assert may["s3:PutObject"] == {"DataBucket/jobs/*"}
    assert not [action for action in may if "Delete" in action and action.startswith("s3")]
    assert not [action for action in may if action.startswith(("dynamodb:", "sagemaker:", "iam:"))]


def test_jobs_are_created_and_stopped_under_the_stacks_name_only(dev: Template, chosen: Template):
    for template_, name in ((dev, NAME), (chosen, "pictures")):
        for _, _, statement in statements(template_):
            actions = listed(statement["Action"])
            if any("TrainingJob" in action and "List" not in action for action in actions):
                (resource,) = map(flat, listed(statement["Resource"]))
                assert resource.endswith(f":training-job/{name}-*")
        assert variable(template_, "JOB_PREFIX") == name


def test_grant_to_read_a_base_exists_only_for_s3(dev: Template, chosen: Template):
    for role in ("TrainingRole", "EndpointServingRole"):
        resources = allowed(chosen, role)["s3:GetObject"]
        assert "arn:<AWS::Partition>:s3:::bases/pictures/v1/*" in resources
        assert not [arn for arn in allowed(dev, role)["s3:GetObject"] if "bases" in arn]
    assert json.loads(variable(chosen, "JOB_SETTINGS"))["base"] == {"uri": "s3://bases/pictures/v1/"}
    assert json.loads(variable(dev, "JOB_SETTINGS"))["base"] == {"id": BASE}


# Access of users


def test_routes_are_those_of_the_document_and_need_a_token(dev: Template):
    document = json.loads((ROOT / "runtime" / "personalization" / "openapi.json").read_text())
    routes = [route["Properties"] for route in of_type(dev, "AWS::ApiGatewayV2::Route").values()]
    expected = {
        f"{method.upper()} {path}"
        for path, item in document["paths"].items()
        for method in item
        if method in ("get", "post", "delete", "put", "patch")
    }
    assert {route["RouteKey"] for route in routes} == expected
    assert len(expected) == 8
    assert {route["AuthorizationType"] for route in routes} == {"JWT"}
    (authorizer,) = of_type(dev, "AWS::ApiGatewayV2::Authorizer")
    assert {flat(route["AuthorizerId"]) for route in routes} == {f"<{authorizer}>"}


def test_authorizer_accepts_tokens_of_the_stacks_pool_and_client_only(dev: Template):
    (pool,), (client,) = (of_type(dev, f"AWS::Cognito::{kind}") for kind in ("UserPool", "UserPoolClient"))
    jwt = only(dev, "AWS::ApiGatewayV2::Authorizer")["Properties"]["JwtConfiguration"]
    assert flat(jwt["Issuer"]) == f"https://<{pool}.ProviderName>"
    assert [flat(audience) for audience in jwt["Audience"]] == [f"<{client}>"]


def test_api_is_throttled_and_logs_users_without_addresses_or_queries(dev: Template):
    stage = only(dev, "AWS::ApiGatewayV2::Stage")["Properties"]
    assert stage["DefaultRouteSettings"]["ThrottlingRateLimit"] > 0
    assert stage["DefaultRouteSettings"]["ThrottlingBurstLimit"] > 0
    logged = stage["AccessLogSettings"]["Format"]
    assert "claims.sub" in logged
    for word in ("sourceIp", "path", "query", "authorization"):
        assert word not in logged


def test_passwords_are_strong_and_sign_up_is_closed_by_default(dev: Template, chosen: Template):
    pool = only(dev, "AWS::Cognito::UserPool")["Properties"]
    policy = pool["Policies"]["PasswordPolicy"]
    assert policy["MinimumLength"] >= 12
    assert all(policy[f"Require{kind}"] for kind in ("Lowercase", "Uppercase", "Numbers", "Symbols"))
    assert pool["AdminCreateUserConfig"]["AllowAdminCreateUserOnly"] is True
    open_ = only(chosen, "AWS::Cognito::UserPool")["Properties"]
    assert open_["AdminCreateUserConfig"]["AllowAdminCreateUserOnly"] is False
    client = only(dev, "AWS::Cognito::UserPoolClient")["Properties"]
    assert client["GenerateSecret"] is False
    assert client["PreventUserExistenceErrors"] == "ENABLED"
    assert client["EnableTokenRevocation"] is True


# The page


def test_page_and_api_share_one_https_origin(dev: Template):
    config = only(dev, "AWS::CloudFront::Distribution")["Properties"]["DistributionConfig"]
    (api,) = config["CacheBehaviors"]
    assert api["PathPattern"] == "/api/*"
    assert api["ViewerProtocolPolicy"] == "https-only"
    assert config["DefaultCacheBehavior"]["ViewerProtocolPolicy"] == "redirect-to-https"
    page, service = config["Origins"]
    assert page["OriginAccessControlId"]
    (own,) = of_type(dev, "AWS::ApiGatewayV2::Api")
    assert flat(service["DomainName"]) == f"<{own}>.execute-api.<AWS::Region>.<AWS::URLSuffix>"
    assert service["CustomOriginConfig"]["OriginProtocolPolicy"] == "https-only"


def test_distribution_caches_no_errors(dev: Template):
    config = only(dev, "AWS::CloudFront::Distribution")["Properties"]["DistributionConfig"]
    kept = {each["ErrorCode"]: each["ErrorCachingMinTTL"] for each in config["CustomErrorResponses"]}
    assert {status for status in kept if kept[status] == 0} >= {404, 414, 500, 501, 502, 503, 504}
    assert set(kept.values()) == {0}


def test_every_answer_of_the_site_has_security_headers(dev: Template):
    policy = only(dev, "AWS::CloudFront::ResponseHeadersPolicy")["Properties"]["ResponseHeadersPolicyConfig"]
    headers = policy["SecurityHeadersConfig"]
    assert headers["StrictTransportSecurity"]["AccessControlMaxAgeSec"] >= 31_536_000
    assert headers["ContentTypeOptions"] == {"Override": True}
    assert headers["FrameOptions"]["FrameOption"] == "DENY"
    assert headers["ReferrerPolicy"]["ReferrerPolicy"] == "no-referrer"
    config = only(dev, "AWS::CloudFront::Distribution")["Properties"]["DistributionConfig"]
    for behavior in (config["DefaultCacheBehavior"], *config["CacheBehaviors"]):
        assert behavior["ResponseHeadersPolicyId"]


def test_files_of_the_page_are_read_by_its_distribution_only(dev: Template):
    ((_, policy),) = [
        (n, r) for n, r in of_type(dev, "AWS::S3::BucketPolicy").items() if n.startswith("Site")
    ]
    (allow,) = [s for s in policy["Properties"]["PolicyDocument"]["Statement"] if s["Effect"] == "Allow"]
    assert allow["Principal"] == {"Service": "cloudfront.amazonaws.com"}
    assert allow["Action"] == "s3:GetObject"
    (arn,) = allow["Condition"]["StringEquals"].values()
    assert "<SiteDistribution" in flat(arn)


def test_page_settings_have_the_client_id_and_the_limits(dev: Template):
    properties = only(dev, "Custom::SiteFiles")["Properties"]
    config = json.loads(flat(properties["Config"]))
    (client,) = of_type(dev, "AWS::Cognito::UserPoolClient")
    assert config["clientId"] == f"<{client}>"
    assert config["limits"] == json.loads(variable(dev, "LIMITS"))
    assert flat(properties["StorageBucket"]) == variable(dev, "DATA_BUCKET")


# Stored data


def test_cors_allows_uploads_from_the_page_only(dev: Template):
    data = of_type(dev, "AWS::S3::Bucket")[variable(dev, "DATA_BUCKET").strip("<>")]["Properties"]
    (rule,) = data["CorsConfiguration"]["CorsRules"]
    (origin,) = map(flat, rule["AllowedOrigins"])
    assert re.fullmatch(r"https://<SiteDistribution\w+\.DomainName>", origin)
    assert set(rule["AllowedMethods"]) == {"GET", "POST"}


def test_uploads_and_job_files_expire(dev: Template):
    data = of_type(dev, "AWS::S3::Bucket")[variable(dev, "DATA_BUCKET").strip("<>")]["Properties"]
    rules = {rule.get("Prefix", ""): rule for rule in data["LifecycleConfiguration"]["Rules"]}
    assert set(rules) == {"jobs/", "uploads/", ""}
    assert rules["uploads/"]["ExpirationInDays"] == 30
    assert rules[""]["AbortIncompleteMultipartUpload"]
    assert "ExpirationInDays" not in rules[""]


def test_tables_have_the_keys_and_indexes_of_the_code(dev: Template):
    shapes = {
        re.sub(r"^Tables(.*)[0-9A-F]{8}$", r"\1", name): (
            [key["AttributeName"] for key in table["Properties"]["KeySchema"]],
            {
                index["IndexName"]: [key["AttributeName"] for key in index["KeySchema"]]
                for index in table["Properties"].get("GlobalSecondaryIndexes", [])
            },
        )
        for name, table in of_type(dev, "AWS::DynamoDB::Table").items()
    }
    assert shapes == {
        "Users": (["user"], {}),
        "Models": (["user", "model"], {}),
        "Requests": (["request"], {"queue": ["status", "updated"]}),
        "Jobs": (["job"], {"open": ["status", "updated"]}),
        "Generations": (["user", "generation"], {}),
    }
    for table in of_type(dev, "AWS::DynamoDB::Table").values():
        assert table["Properties"]["BillingMode"] == "PAY_PER_REQUEST"


def test_no_stream_has_more_than_two_readers(dev: Template):
    readers: dict[str, int] = {}
    for mapping in of_type(dev, "AWS::Lambda::EventSourceMapping").values():
        stream = flat(mapping["Properties"]["EventSourceArn"])
        readers[stream] = readers.get(stream, 0) + 1
    assert sorted(readers.values()) == [1, 2]


def test_prod_has_point_in_time_recovery_and_its_own_key(dev: Template, prod: Template):
    ((key, resource),) = of_type(prod, "AWS::KMS::Key").items()
    assert resource["Properties"]["EnableKeyRotation"] is True
    arn = f"<{key}.Arn>"
    for table in of_type(prod, "AWS::DynamoDB::Table").values():
        properties = table["Properties"]
        assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
        # Without deletion protection, CloudFormation can roll back a failed first deployment
        assert properties["DeletionProtectionEnabled"] is False
        assert flat(properties["SSESpecification"]["KMSMasterKeyId"]) == arn
    data = of_type(prod, "AWS::S3::Bucket")[variable(prod, "DATA_BUCKET").strip("<>")]["Properties"]
    (rule,) = data["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert flat(rule["ServerSideEncryptionByDefault"]["KMSMasterKeyID"]) == arn
    for topic in of_type(prod, "AWS::SNS::Topic").values():
        assert flat(topic["Properties"]["KmsMasterKeyId"]) == arn
    for group in of_type(prod, "AWS::Logs::LogGroup").values():
        assert flat(group["Properties"]["KmsKeyId"]) == arn
    assert logs_may_use(prod)
    for function in of_type(prod, "AWS::Lambda::Function").values():
        variables = function["Properties"].get("Environment")
        assert variables is None or flat(function["Properties"]["KmsKeyArn"]) == arn
    assert flat(only(prod, "AWS::SQS::Queue")["Properties"]["KmsMasterKeyId"]) == arn
    assert not of_type(dev, "AWS::KMS::Key")
    assert arn in allowed(prod, "EndpointServing")["kms:Decrypt"]
    assert arn in allowed(prod, "TrainingRole")["kms:GenerateDataKey"]


def test_volumes_are_encrypted_with_the_key_when_sagemaker_allows_it(prod: Template, chosen: Template):
    """An instance with local disks encrypts the disks itself, and SageMaker rejects a key for its volume."""
    assert json.loads(variable(prod, "JOB_SETTINGS"))["volume_key"] == ""
    (key,) = of_type(chosen, "AWS::KMS::Key")
    assert json.loads(variable(chosen, "JOB_SETTINGS"))["volume_key"] == f"<{key}.Arn>"
    lent = [(n, s) for n, _, s in statements(chosen) if s["Action"] == "kms:CreateGrant"]
    assert {re.sub("Role.*", "", name) for name, _ in lent} == {"Dispatcher", "Sweeper"}
    assert all(s["Condition"] == {"Bool": {"kms:GrantIsForAWSResource": "true"}} for _, s in lent)


@pytest.mark.parametrize("variant", ["prod", "chosen"])
def test_output_of_jobs_is_encrypted_on_every_instance_type(variant: str, request: pytest.FixtureRequest):
    # given a stack whose training instances have local disks, or a stack whose instances have none
    made = request.getfixturevalue(variant)
    # then the output is encrypted with the stack's key, which the training role may use
    (key,) = of_type(made, "AWS::KMS::Key")
    assert json.loads(variable(made, "JOB_SETTINGS"))["key"] == f"<{key}.Arn>"
    assert f"<{key}.Arn>" in allowed(made, "TrainingRole")["kms:GenerateDataKey"]


# Functions and events


def test_functions_have_existing_handlers_and_their_settings(dev: Template):
    code = ROOT / "runtime" / "personalization"
    for id in FUNCTIONS:
        properties = function(dev, id)
        package, room, module, name = properties["Handler"].split(".")
        assert (package, room, name) == ("personalization", "handlers", "handler")
        assert "def handler(" in (code / room / f"{module}.py").read_text()
        assert properties["Layers"]
        assert properties["DeadLetterConfig"]
        assert set(properties["Environment"]["Variables"]) >= {
            "DATA_BUCKET",
            "JOB_SETTINGS",
            "LIMITS",
            "PACE",
        }


@pytest.mark.parametrize("variant", VARIANTS)
def test_code_reads_the_settings_of_its_variables(
    variant: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
):
    from personalization.aws.environment import read
    from personalization.core.settings import JobSettings, Limits, Pace

    template_ = request.getfixturevalue(variant)
    for kind, name in ((JobSettings, "JOB_SETTINGS"), (Limits, "LIMITS"), (Pace, "PACE")):
        monkeypatch.setenv(name, variable(template_, name))
        assert read(kind, name)
    slowest = max(
        r["Properties"]["Timeout"]
        for n, r in of_type(template_, "AWS::Lambda::Function").items()
        if n.startswith(FUNCTIONS)
    )
    assert read(Pace, "PACE").stale_seconds > slowest


@pytest.mark.parametrize("variant", VARIANTS)
def test_variables_of_every_function_fit_the_limit_of_lambda(variant: str, request: pytest.FixtureRequest):
    template_ = request.getfixturevalue(variant)
    for id in FUNCTIONS:
        given = function(template_, id)["Environment"]["Variables"]
        # each reference is replaced by 100 characters, about the length of an ARN
        size = sum(
            len(name) + len(re.sub(r"<[^>]*>", "x" * 100, flat(value))) for name, value in given.items()
        )
        assert size <= 4096


def test_concurrency_is_reserved_only_for_the_api_when_configured(dev: Template, chosen: Template):
    for template_, wanted in ((dev, {}), (chosen, {"ApiFunction": 5})):
        reserved = {
            id: function(template_, id).get("ReservedConcurrentExecutions")
            for id in FUNCTIONS
            if "ReservedConcurrentExecutions" in function(template_, id)
        }
        assert reserved == wanted


def test_streams_are_filtered_by_status_with_a_dead_letter_queue(dev: Template):
    (queue,) = of_type(dev, "AWS::SQS::Queue")
    wanted = {}
    for name, mapping in of_type(dev, "AWS::Lambda::EventSourceMapping").items():
        properties = mapping["Properties"]
        (pattern,) = properties["FilterCriteria"]["Filters"]
        statuses = json.loads(pattern["Pattern"])["dynamodb"]["NewImage"]["status"]["S"]
        wanted[re.match("[A-Z][a-z]+", name)[0]] = statuses  # type: ignore[index]
        assert properties["BisectBatchOnFunctionError"] is True
        assert properties["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        assert 1 <= properties["MaximumRetryAttempts"] <= 20
        assert flat(properties["DestinationConfig"]["OnFailure"]["Destination"]) == f"<{queue}.Arn>"
    assert wanted == {"Dispatcher": ["QUEUED"], "Notifier": ["READY", "FAILED"], "Purger": ["DELETED"]}


def test_event_rules_match_the_stacks_events_and_schedules(dev: Template):
    rules = {
        re.match("[A-Z][a-z]+", name)[0]: rule["Properties"]  # type: ignore[index]
        for name, rule in of_type(dev, "AWS::Events::Rule").items()
    }
    assert rules["Collector"]["EventPattern"]["detail"] == {"TrainingJobName": [{"prefix": f"{NAME}-"}]}
    detail = rules["Preparer"]["EventPattern"]["detail"]
    assert [flat(name) for name in detail["bucket"]["name"]] == [variable(dev, "DATA_BUCKET")]
    assert detail["object"]["key"] == [{"wildcard": "jobs/*/checkpoints/*/result.json"}]
    assert rules["Dispatcher"]["ScheduleExpression"] == "rate(1 minute)"
    assert rules["Sweeper"]["ScheduleExpression"] == "rate(5 minutes)"


def test_images_are_built_for_the_platform_of_their_instances(assembly: Path):
    images = json.loads((assembly / f"{NAME}.assets.json").read_text())["dockerImages"].values()
    assert len(images) == 2
    assert {image["source"]["platform"] for image in images} == {"linux/amd64"}


def test_only_the_serving_image_is_built_from_the_chosen_registry(assembly: Path, chosen_assembly: Path):
    def arguments(folder: Path) -> list[Any]:
        images = json.loads((folder / f"{NAME}.assets.json").read_text())["dockerImages"].values()
        return [
            image["source"]["dockerBuildArgs"] for image in images if "dockerBuildArgs" in image["source"]
        ]

    assert arguments(assembly) == []
    assert arguments(chosen_assembly) == [{"REGISTRY": "mirror.example.com/aws"}]


def test_deployment_logs_in_to_the_serving_images_registry(assembly: Path, chosen_assembly: Path):
    default, mirror = (selected(folder, parse(["deploy", NAME])) for folder in (assembly, chosen_assembly))
    assert needed(default) == {"763104351884.dkr.ecr.us-east-1.amazonaws.com": NAME}
    assert needed(mirror) == {}


def test_job_gets_the_settings_that_were_chosen(chosen: Template):
    job = json.loads(variable(chosen, "JOB_SETTINGS"))
    assert (job["instance_type"], job["device"]) == ("ml.c6i.8xlarge", "cpu")
    assert job["hyperparameters"]["rank"] == "16"
    assert job["vpc"] == {
        "subnets": ["subnet-0123abcd", "subnet-0123abce"],
        "security_groups": ["sg-0123abcd"],
    }
    assert "ec2:CreateNetworkInterface" in allowed(chosen, "TrainingRole")
    assert flat(only(chosen, "AWS::SageMaker::Endpoint")["Properties"]["EndpointName"]) == "pictures"


# The endpoint


def test_endpoint_serves_every_adapter_of_the_folder(dev: Template):
    container = only(dev, "AWS::SageMaker::Model")["Properties"]["PrimaryContainer"]
    assert container["Mode"] == "MultiModel"
    assert re.fullmatch(r"s3://<DataBucket\w+>/adapters/", flat(container["ModelDataUrl"]))
    assert container["Environment"]["GROUNDPLAN_MEMORY"] == str(4096 * 2**20)
    assert container["Environment"]["GROUNDPLAN_BASE"] == BASE


def test_gpu_endpoint_gets_the_driver_of_its_images_cuda(dev: Template):
    (variant,) = only(dev, "AWS::SageMaker::EndpointConfig")["Properties"]["ProductionVariants"]
    assert variant["InstanceType"] == "ml.g5.xlarge"
    assert variant["InferenceAmiVersion"] == "al2023-ami-sagemaker-inference-gpu-4-1"
    container = only(dev, "AWS::SageMaker::Model")["Properties"]["PrimaryContainer"]
    assert container["Environment"]["GROUNDPLAN_DEVICE"] == "cuda"
    assert json.loads(variable(dev, "JOB_SETTINGS"))["device"] == "cuda"


def test_update_replaces_half_of_several_instances_at_a_time(dev: Template, prod: Template):
    half = {"Type": "CAPACITY_PERCENT", "Value": 50}
    config = only(prod, "AWS::SageMaker::Endpoint")["Properties"]["DeploymentConfig"]
    policy = config["RollingUpdatePolicy"]
    assert policy["MaximumBatchSize"] == policy["RollbackMaximumBatchSize"] == half
    # An endpoint with one instance cannot replace it in batches
    assert "DeploymentConfig" not in only(dev, "AWS::SageMaker::Endpoint")["Properties"]


def test_endpoint_scales_on_invocations_within_bounds(prod: Template):
    target = only(prod, "AWS::ApplicationAutoScaling::ScalableTarget")["Properties"]
    assert (target["MinCapacity"], target["MaxCapacity"]) == (2, 20)
    assert target["ResourceId"] == "endpoint/groundplan-prod-personalization/variant/AllTraffic"
    policy = only(prod, "AWS::ApplicationAutoScaling::ScalingPolicy")["Properties"]
    tracking = policy["TargetTrackingScalingPolicyConfiguration"]
    assert tracking["TargetValue"] == 20
    assert tracking["PredefinedMetricSpecification"] == {
        "PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"
    }
    assert only(prod, "AWS::SageMaker::Endpoint")["Properties"]["RetainAllVariantProperties"] is True


# Alarms


def test_alarms_watch_every_failure_and_notify_the_pager(dev: Template, chosen: Template):
    (pager,) = [name for name in of_type(dev, "AWS::SNS::Topic") if name.startswith("Pager")]
    watched = {}
    for alarm in of_type(dev, "AWS::CloudWatch::Alarm").values():
        properties = alarm["Properties"]
        assert properties["AlarmActions"] == [{"Ref": pager}]
        watched[properties["MetricName"]] = properties["TreatMissingData"]
    assert watched == {
        "OldestQueuedSeconds": "notBreaching",
        "RequestsFailed": "notBreaching",
        "ApproximateNumberOfMessagesVisible": "notBreaching",
        "5xx": "notBreaching",
        "Invocation5XXErrors": "notBreaching",
        "ModelLatency": "notBreaching",
        "Invocations": "breaching",
    }
    assert only(chosen, "AWS::SNS::Subscription")["Properties"]["Endpoint"] == "someone@example.com"


def test_alarms_watch_metrics_that_the_functions_report(dev: Template):
    code = "".join(path.read_text() for path in (ROOT / "runtime" / "personalization").rglob("*.py"))
    variables = function(dev, "Sweeper")["Environment"]["Variables"]
    own = [
        alarm["Properties"]
        for alarm in of_type(dev, "AWS::CloudWatch::Alarm").values()
        if alarm["Properties"]["Namespace"] == variables["POWERTOOLS_METRICS_NAMESPACE"]
    ]
    assert len(own) == 2
    for alarm in own:
        assert f'"{alarm["MetricName"]}"' in code
        assert alarm["Dimensions"] == [
            {"Name": "service", "Value": variables["POWERTOOLS_SERVICE_NAME"]},
        ]


def test_every_taggable_resource_is_tagged(dev: Template):
    tagged = 0
    for resource in dev["Resources"].values():
        tags = resource["Properties"].get("Tags", resource["Properties"].get("UserPoolTags"))
        if tags is None:
            continue
        tagged += 1
        found = tags if isinstance(tags, dict) else {tag["Key"]: tag["Value"] for tag in tags}
        assert found["groundplan:architecture"] == "personalization"
        assert found["groundplan:environment"] == "dev"
    assert tagged > 30
    assert json.loads(variable(dev, "JOB_SETTINGS"))["tags"] == {
        "groundplan:architecture": "personalization",
        "groundplan:environment": "dev",
    }


# Retained resources


def test_dev_retains_no_resources(dev: Template):
    for name, resource in dev["Resources"].items():
        assert resource.get("DeletionPolicy", "Delete") == "Delete", name
        assert resource.get("UpdateReplacePolicy", "Delete") == "Delete", name
    properties = only(dev, "Custom::SageMakerCleanUp")["Properties"]
    assert flat(properties["BucketName"]) == variable(dev, "DATA_BUCKET")
    assert properties["EndpointName"] == NAME


def test_prod_retains_pictures_tables_accounts_and_key_only(prod: Template):
    retained = retained_types(prod)
    assert retained == {
        "AWS::S3::Bucket",
        "AWS::DynamoDB::Table",
        "AWS::Cognito::UserPool",
        "AWS::KMS::Key",
    }
    buckets = of_type(prod, "AWS::S3::Bucket")
    assert {n[:4] for n, r in buckets.items() if r["DeletionPolicy"] != "Delete"} == {"Data"}
    assert only(prod, "Custom::SageMakerCleanUp")["Properties"]["BucketName"] == ""


def test_clean_up_runs_between_functions_and_bucket_on_deletion(dev: Template):
    ((clean_up, resource),) = of_type(dev, "Custom::SageMakerCleanUp").items()
    makers = [n for n in of_type(dev, "AWS::Lambda::Function") if n.startswith(FUNCTIONS)]
    for name in (*makers, *of_type(dev, "AWS::SageMaker::Endpoint")):
        assert clean_up in dev["Resources"][name]["DependsOn"], name
    assert variable(dev, "DATA_BUCKET").strip("<>") in resource["DependsOn"]


def test_clean_up_finds_jobs_by_their_names(dev: Template):
    found = leftovers(only(dev, "Custom::SageMakerCleanUp")["Properties"])
    name, job = found.endpoint, ids.new(1.8e9)
    assert found.owns(name)
    assert found.owns(f"{name}-{job}")
    # the name of another stack can begin with the name of this stack
    assert not any(found.owns(other) for other in (f"{name}-two", f"{name}-two-{job}", f"{name}{job}"))


def test_outputs_are_those_of_the_scenario(dev: Template):
    assert set(dev["Outputs"]) == {
        "SiteUrl",
        "ApiUrl",
        "UserPoolId",
        "UserPoolClientId",
        "DataBucket",
        "EndpointName",
        "JobPrefix",
        "StateTopicArn",
        "AlarmTopicArn",
        "DeadLetterQueueUrl",
        "FinetuneImageUri",
        "ServeImageUri",
        "TrainingRoleArn",
        *(f"{name}Table" for name in ("Users", "Models", "Requests", "Jobs", "Generations")),
        *(f"{name.removesuffix('Function')}FunctionName" for name in FUNCTIONS),
    }


def test_every_log_has_a_group_and_wildcards_are_reviewed(dev: Template, prod: Template):
    for template in (dev, prod):
        assert len(of_type(template, "AWS::Logs::LogGroup")) == len(FUNCTIONS) + 4
        assert wildcards(template) > 30
