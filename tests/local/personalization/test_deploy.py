"""personalization deployed by `cdk deploy`: its resources, access to it, and its deletion."""

from __future__ import annotations

import base64
import ipaddress
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from playwright.sync_api import expect

from local.cloud import LocalCloud
from personalization.core.model import Status
from scenarios.browser import sign_in
from tests.conftest import MakeOnce
from tests.support.browser import Visit, chromium
from tests.support.clouds import client
from tests.support.personalization.page import created, drawn, hasty
from tests.support.personalization.serving import pipelines
from tests.support.personalization.world import record
from tests.support.processes import descendants, listening
from tests.support.waiting import until

STACK = "groundplan-dev-personalization"
BASES = "bases-of-the-test"
CHOICE = {
    "only": "personalization",
    "personalization.base": f"s3://{BASES}/micro/",
    # The containers exit if PyTorch's device (CPU or GPU) does not match the instance type
    "personalization.training_instance_type": "ml.m5.xlarge",
    "personalization.serving_instance_type": "ml.m5.xlarge",
    "personalization.serving_memory_mb": "64",
    # Every function, job and service also needs grants on this KMS key
    "personalization.own_key": "true",
    "personalization.hyperparameters.steps": "20",
    "personalization.hyperparameters.preview_steps": "4",
    "personalization.hyperparameters.prior_images": "2",
}
PASSWORD = "Long-enough-1234"


@pytest.fixture(scope="module")
def base(made_once: MakeOnce) -> Path:
    """The folder of a diffusion pipeline with a million random weights, made in the training image."""
    return pipelines(made_once) / "base"


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Iterator[SimpleNamespace]:
    """The stack in a separate cloud, with an existing base model. IAM is enforced after the deployment."""
    with LocalCloud(tmp_path_factory.mktemp("personalization")) as cloud:
        s3 = client(cloud, "s3")
        s3.create_bucket(Bucket=BASES, CreateBucketConfiguration={"LocationConstraint": cloud.region})
        for path in filter(Path.is_file, base.rglob("*")):
            s3.upload_file(str(path), BASES, f"micro/{path.relative_to(base).as_posix()}")
        outputs = cloud.deploy(STACK, context=CHOICE)[STACK]
        cloud.enforce_iam(True)
        yield SimpleNamespace(cloud=cloud, out=outputs, client=lambda name: client(cloud, name))


Ask = Callable[..., tuple[int, Any]]


@pytest.fixture(scope="module")
def ask(deployed: SimpleNamespace) -> Ask:
    """`ask("GET", "/api/models", token)` calls the API at the page's web origin, and returns status and
    JSON."""
    cloud = deployed.cloud
    # Browsers resolve *.localhost themselves, Python does not
    host = urllib.parse.urlsplit(cloud.local_url(deployed.out["SiteUrl"])).netloc

    def ask(method: str, path: str, token: str = "", body: Any = None) -> tuple[int, Any]:
        headers = {"Host": host, "content-type": "application/json"}
        headers |= {"authorization": f"Bearer {token}"} if token else {}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(cloud.endpoint_url + path, data, headers, method=method)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null")

    return ask


@pytest.fixture(scope="module")
def token(deployed: SimpleNamespace) -> str:
    """The id token of an invited user who has signed in."""
    pool, app = deployed.out["UserPoolId"], deployed.out["UserPoolClientId"]
    cognito = deployed.client("cognito-idp")
    name = "someone@example.com"
    cognito.admin_create_user(UserPoolId=pool, Username=name, MessageAction="SUPPRESS")
    cognito.admin_set_user_password(UserPoolId=pool, Username=name, Password=PASSWORD, Permanent=True)
    signed_in = cognito.initiate_auth(
        ClientId=app,
        AuthFlow="USER_PASSWORD_AUTH",
        AuthParameters={"USERNAME": name, "PASSWORD": PASSWORD},
    )
    return signed_in["AuthenticationResult"]["IdToken"]


def test_endpoint_is_in_service_with_the_bases_container(deployed: SimpleNamespace):
    described = deployed.client("sagemaker").describe_endpoint(EndpointName=deployed.out["EndpointName"])
    assert described["EndpointStatus"] == "InService"
    targets = deployed.client("application-autoscaling").describe_scalable_targets(
        ServiceNamespace="sagemaker"
    )["ScalableTargets"]
    assert [(t["ResourceId"], t["MinCapacity"], t["MaxCapacity"]) for t in targets] == [
        (f"endpoint/{STACK}/variant/AllTraffic", 1, 2)
    ]


def test_request_without_a_token_is_refused(ask: Ask, token: str):
    head, claims, signature = token.split(".")
    other = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    other["sub"] = "11111111-2222-3333-4444-555555555555"
    forged = base64.urlsafe_b64encode(json.dumps(other).encode()).decode().rstrip("=")
    for wrong in ("", "token", f"{head}.{forged}.{signature}", f"{head}.{claims}."):
        assert ask("GET", "/api/models", wrong)[0] == 401, wrong


def test_request_with_a_token_is_answered_under_the_functions_role(ask: Ask, token: str):
    assert ask("GET", "/api/models", token) == (200, {"models": []})
    assert ask("GET", "/api/models/00000000000000000000000000", token)[0] == 404
    assert ask("GET", "/api/nothing", token)[0] == 404


def test_new_model_gets_upload_addresses_and_is_purged_when_deleted(
    ask: Ask, token: str, deployed: SimpleNamespace
):
    body = {
        "name": "Tom",
        "subject": "cat",
        "images": [{"type": "image/png", "bytes": 100}] * 4,
    }
    status, made = ask("POST", "/api/models", token, body)
    assert status == 201, made
    assert len(made["uploads"]) == 4
    stored = deployed.client("dynamodb").scan(TableName=deployed.out["ModelsTable"])["Items"]
    assert [item["model"]["S"] for item in stored] == [made["model"]]
    assert ask("DELETE", f"/api/models/{made['model']}", token)[0] == 202
    # The API only marks the row as deleted; the function on the table's stream removes it
    table = deployed.out["ModelsTable"]
    until(
        lambda: not deployed.client("dynamodb").scan(TableName=table)["Items"],
        "the deletion of the model's data",
    )


def test_every_function_runs_under_its_role_in_the_template(deployed: SimpleNamespace):
    functions = {
        name.removesuffix("FunctionName"): value
        for name, value in deployed.out.items()
        if name.endswith("FunctionName")
    }
    events = {
        "Dispatcher": {},
        "Sweeper": {},
        "Collector": {"detail": {"TrainingJobName": f"{STACK}-00000000000000000000000000"}},
        "Preparer": {
            "Records": [{"s3": {"object": {"key": f"jobs/{STACK}-0/checkpoints/{'0' * 26}/result.json"}}}]
        },
        "Notifier": {"Records": [record("0" * 26, 1, Status.READY)]},
        "Purger": {"Records": [record("0" * 26, 1, Status.DELETED)]},
    }
    assert set(functions) == {*events, "Api"}
    for name, event in events.items():
        answer = deployed.client("lambda").invoke(
            FunctionName=functions[name], Payload=json.dumps(event).encode()
        )
        told = answer["Payload"].read().decode()
        assert "FunctionError" not in answer, f"{name}: {told}"
        assert not (json.loads(told) or {}).get("batchItemFailures"), f"{name}: {told}"


def test_page_and_its_sign_in_settings_are_in_the_bucket(deployed: SimpleNamespace):
    template = deployed.client("cloudformation")
    resources = template.describe_stack_resources(StackName=STACK)["StackResources"]
    (bucket,) = [
        resource["PhysicalResourceId"]
        for resource in resources
        if resource["ResourceType"] == "AWS::S3::Bucket" and resource["LogicalResourceId"].startswith("Site")
    ]
    s3 = deployed.client("s3")
    config = json.load(s3.get_object(Bucket=bucket, Key="config.json")["Body"])
    assert config["clientId"] == deployed.out["UserPoolClientId"]
    assert b"<html" in s3.get_object(Bucket=bucket, Key="index.html")["Body"].read()


def test_person_makes_private_pictures_from_photographs_in_a_browser(
    deployed: SimpleNamespace,
    pictures: list[Path],
):
    # GIVEN two invited users, each with the page open in a separate browser
    pool, cognito = deployed.out["UserPoolId"], deployed.client("cognito-idp")
    address = deployed.cloud.local_url(deployed.out["SiteUrl"]) + "/"
    with chromium() as browser:
        ada, bob = (Visit(hasty(browser)) for _ in range(2))
        for visit, name in ((ada, "ada@example.com"), (bob, "bob@example.com")):
            cognito.admin_create_user(UserPoolId=pool, Username=name, MessageAction="SUPPRESS")
            cognito.admin_set_user_password(UserPoolId=pool, Username=name, Password=PASSWORD, Permanent=True)
            visit.page.goto(address)
            sign_in(visit.page, name, PASSWORD)
            expect(visit.page.get_by_role("heading", name="Your models")).to_be_visible()

        # WHEN the first user uploads photographs THEN the page shows the progress until pictures can be made
        created(ada.page, pictures)
        expect(ada.page.get_by_role("button", name="Make pictures")).to_be_visible(timeout=240_000)
        expect(ada.page.get_by_role("img", name="First picture 1 of your cat")).to_be_visible()

        # WHEN a picture is requested THEN it comes from the endpoint
        drawn(ada.page, "a photo of sks cat", seed=7)
        picture = ada.page.get_by_role("article").get_by_role("img").first
        expect(picture).to_be_visible(timeout=120_000)
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 64

        # AND the other user, at the same address, sees the message that the model does not exist
        bob.page.goto(ada.page.url)
        expect(bob.page.get_by_text("There is no such model among yours.")).to_be_visible()

        # WHEN the model is deleted THEN it disappears from the page, and soon from table and bucket
        ada.page.get_by_role("button", name="Delete this model").click()
        ada.page.get_by_role("button", name="Delete everything").click()
        expect(ada.page.get_by_text("Nothing here yet")).to_be_visible()
        assert not ada.complaints + bob.complaints
    # AND the training job has published its metrics to CloudWatch under its own role
    found = deployed.client("cloudwatch").list_metrics(Namespace="/aws/sagemaker/TrainingJobs")["Metrics"]
    assert "train:loss" in {metric["MetricName"] for metric in found}
    table, bucket, s3 = deployed.out["ModelsTable"], deployed.out["DataBucket"], deployed.client("s3")

    def gone() -> bool:
        rows = deployed.client("dynamodb").scan(TableName=table)["Items"]
        found = s3.list_objects_v2(Bucket=bucket).get("Contents", [])
        return not rows and not [each["Key"] for each in found if not each["Key"].startswith("jobs/")]

    until(gone, "the deletion of the model's data")


def test_every_listener_is_known_and_on_the_loopback(deployed: SimpleNamespace):
    """Check the ports while a page, an endpoint and functions are in use. `docs/security.md` lists the
    listeners, and what a client of each can do."""
    # given the ports of the cloud and of its Snowflake, and the addresses of containers
    now = deployed.cloud.status()
    known = {("127.0.0.1", urllib.parse.urlsplit(now["endpoint_url"]).port), ("127.0.0.1", now["snowflake"])}
    containers = ipaddress.ip_network("127.64.0.0/10")
    # when the listeners of all processes of the cloud are listed
    found = listening(descendants(now["pid"]))
    # then no other port has a listener, and the endpoint's container listens on one port only
    unknown = {(str(address), port) for address, port in found if address not in containers} - known
    assert not unknown
    assert len([port for address, port in found if address in containers]) == 1


def test_destroyed_stack_leaves_no_resources(deployed: SimpleNamespace):
    """This test must run last, because it destroys the stack. It adds an object like those of a training job,
    to check that `cdk destroy` deletes such objects too."""
    s3, bucket = deployed.client("s3"), deployed.out["DataBucket"]
    s3.put_object(Bucket=bucket, Key=f"jobs/{STACK}-0/tasks.json", Body=b"{}")
    deployed.cloud.enforce_iam(False)  # this test does not cover the CDK's publishing roles
    deployed.cloud.destroy(STACK, context=CHOICE)
    assert [each["Name"] for each in s3.list_buckets()["Buckets"] if "personalization" in each["Name"]] == []
    assert deployed.client("dynamodb").list_tables()["TableNames"] == []
    assert deployed.client("sagemaker").list_endpoints()["Endpoints"] == []
    assert deployed.client("sagemaker").list_models()["Models"] == []
    assert deployed.client("cognito-idp").list_user_pools(MaxResults=10)["UserPools"] == []
    assert deployed.client("sqs").list_queues().get("QueueUrls", []) == []
    groups = deployed.client("logs").describe_log_groups()["logGroups"]
    left = [group["logGroupName"] for group in groups if "ersonalization" in group["logGroupName"]]
    assert left == []
