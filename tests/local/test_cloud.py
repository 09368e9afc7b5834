"""The local cloud from the outside: start, stop, stored state, crashes, and clean-up of all processes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import socket
import stat
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError

from local.cloud import CloudError, LocalCloud
from local.reaper import alive
from tests.support.clouds import client
from tests.support.waiting import until
from tooling import envs

TEST_ROLE = {"Version": "2012-10-17", "Statement": []}


@pytest.fixture
def own(tmp_path: Path) -> Iterator[LocalCloud]:
    """A separate cloud that a test may kill."""
    cloud = LocalCloud(tmp_path / "cloud")
    yield cloud
    cloud.stop()
    until(lambda: not processes(cloud), "the end of all processes of the cloud")


def processes(cloud: LocalCloud) -> dict[int, str]:
    """Return, by process id, the commands of processes whose command or environment contains the cloud's
    folder."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            said = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
            if str(cloud.home).encode() in said and int(folder.name) != os.getpid():
                found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    return found


def listening(pids: set[int]) -> set[str]:
    """Return the addresses, in hexadecimal, on which these processes listen."""
    sockets = set()
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                sockets.add(str(descriptor.readlink()))
            except OSError:
                continue
    addresses = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                addresses.add(fields[1].partition(":")[0])
    return addresses


def function(cloud: LocalCloud, name: str) -> None:
    """Create a Lambda function and invoke it, so that its process is warm."""
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("index.py", "def handler(event, context):\n    return 'here'\n")
    client(cloud, "iam").create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(TEST_ROLE))
    client(cloud, "lambda").create_function(
        FunctionName=name,
        Runtime="python3.11",
        Handler="index.handler",
        Role=f"arn:aws:iam::000000000000:role/{name}",
        Code={"ZipFile": archive.getvalue()},
    )
    assert client(cloud, "lambda").invoke(FunctionName=name)["Payload"].read() == b'"here"'


def test_cloud_starts_answers_and_stops(own: LocalCloud) -> None:
    # given a cloud that was never started
    assert not own.running
    own.start()
    # then the cloud answers and reports its processes, and a second `LocalCloud` for its folder finds the
    # same cloud
    assert own.running
    assert client(own, "sts").get_caller_identity()["Account"] == "000000000000"
    assert LocalCloud(own.home).status()["pid"] == own.status()["pid"]
    own.start()  # a second start has no effect
    # when the cloud stops, then nothing answers and no process is left
    own.stop()
    assert not own.running
    assert not processes(own)
    with pytest.raises(CloudError, match="No cloud answers"):
        own.status()


def test_concurrent_starts_share_one_cloud(own: LocalCloud) -> None:
    # given five `LocalCloud` objects for one folder, and no running cloud
    handles = [own, *(LocalCloud(own.home) for _ in range(4))]
    with ThreadPoolExecutor() as pool:
        list(pool.map(LocalCloud.start, handles))
    # then all of them refer to the same running cloud
    assert all(handle.running for handle in handles)
    assert own.status()["endpoint_url"] == own.endpoint_url


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads Linux's table of sockets")
def test_only_the_loopback_interface_is_bound(own: LocalCloud) -> None:
    own.start()
    function(own, "warm")
    addresses = listening(set(processes(own)))
    assert addresses == {"0100007F"}, "the server and Snowflake must listen on 127.0.0.1 only"


def test_server_that_does_not_end_is_killed(own: LocalCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a server that ends only by SIGKILL
    own.start()
    pid = own.status()["pid"]
    os.kill(pid, signal.SIGSTOP)
    monkeypatch.setattr(own, "_pid", lambda: pid)
    monkeypatch.setattr("local.cloud.STOP_SECONDS", 0.5)
    # when the server is stopped; then it is killed after a limited time
    own.stop()
    assert not alive(pid)


@pytest.mark.parametrize("end", ["stop", "SIGTERM", "SIGINT", "SIGKILL", "SIGSEGV"])
def test_all_processes_end_with_the_server(own: LocalCloud, end: str) -> None:
    # given a cloud with a warm Lambda function and a local Snowflake
    own.start()
    function(own, "warm")
    before = processes(own)
    assert len(before) >= 3
    # when the server is stopped or killed
    if end == "stop":
        own.stop()
    else:
        os.kill(own.status()["pid"], getattr(signal, end))
    # then no process of the cloud is left
    until(lambda: not any(alive_process(pid) for pid in before), f"the end of all processes after {end}")
    assert not own.running


def alive_process(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("end", ["stop", "kill", "crash"])
def test_state_survives_a_restart(own: LocalCloud, end: str) -> None:
    # given data in each kind of store
    own.start()
    address, snowflake = own.endpoint_url, own.snowflake.read_text()
    s3 = client(own, "s3")
    s3.create_bucket(Bucket="kept", CreateBucketConfiguration={"LocationConstraint": own.region})
    s3.put_object(Bucket="kept", Key="file", Body=b"content")
    client(own, "secretsmanager").create_secret(Name="secret", SecretString="hidden")
    client(own, "sagemaker").create_model_package_group(ModelPackageGroupName="group")
    function(own, "kept")
    template = {"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}
    formation = client(own, "cloudformation")
    formation.create_stack(StackName="kept", TemplateBody=json.dumps(template))
    formation.get_waiter("stack_create_complete").wait(StackName="kept", WaiterConfig={"Delay": 1})
    own.enforce_iam(True)
    own.configure(training_instances=3)
    if end == "kill":
        # wait for a snapshot, because a killed cloud loses changes after the last one
        last = {"cloudformation": "CREATE_COMPLETE", "lambda": "kept", "secretsmanager": "hidden"}
        until(lambda: all(saved(own, *each) for each in last.items()), "a snapshot")
        own.kill()
    elif end == "crash":
        own.crash()
    else:
        own.stop()
    # when the cloud starts again
    own.start()
    # then the cloud has the same address, data and settings
    assert own.status()["iam_enforced"]
    assert own.configure()["training_instances"] == 3
    assert own.endpoint_url == address
    assert own.snowflake.read_text() == snowflake
    s3 = client(own, "s3")
    assert s3.get_object(Bucket="kept", Key="file")["Body"].read() == b"content"
    secret = client(own, "secretsmanager").get_secret_value(SecretId="secret")
    assert secret["SecretString"] == "hidden"
    groups = client(own, "sagemaker").list_model_package_groups()["ModelPackageGroupSummaryList"]
    assert [group["ModelPackageGroupName"] for group in groups] == ["group"]
    assert client(own, "lambda").invoke(FunctionName="kept")["Payload"].read() == b'"here"'
    stacks = client(own, "cloudformation").describe_stacks()["Stacks"]
    assert [(stack["StackName"], stack["StackStatus"]) for stack in stacks] == [("kept", "CREATE_COMPLETE")]


def saved(cloud: LocalCloud, service: str, what: str) -> bool:
    file = cloud.home / "state" / f"{service}.json"
    return file.exists() and what in file.read_text()


def test_resources_created_just_before_a_crash_are_deleted(own: LocalCloud) -> None:
    # given two stacks in progress, each with a model package group, and a crash before the state of one stack
    # contains its group
    own.start()
    formation = client(own, "cloudformation")
    for stack in ("knows", "forgot"):
        resources = {
            "Group": {
                "Type": "AWS::SageMaker::ModelPackageGroup",
                "Properties": {"ModelPackageGroupName": stack},
            },
            "Handle": {"Type": "AWS::CloudFormation::WaitConditionHandle"},
            "Wait": {
                "Type": "AWS::CloudFormation::WaitCondition",
                "DependsOn": "Group",
                "Properties": {"Handle": {"Ref": "Handle"}, "Timeout": "3600"},
            },
        }
        formation.create_stack(StackName=stack, TemplateBody=json.dumps({"Resources": resources}))
        until(lambda made=stack: saved(own, "cloudformation", f"group/{made}"), "a snapshot of the group")
    own.kill()
    memory = own.home / "state" / "cloudformation.json"

    def forget(found: Any) -> None:
        if isinstance(found, dict):
            if found.get("StackName") == "forgot" and "_resources" in found:
                del found["_resources"]["Group"]
            for value in found.values():
                forget(value)

    state = json.loads(memory.read_text())
    forget(state)
    memory.write_text(json.dumps(state))
    # when the cloud starts again
    own.start()
    # then the group that is in no stack's state is deleted, and the other group still belongs to its stack
    groups = client(own, "sagemaker").list_model_package_groups()["ModelPackageGroupSummaryList"]
    assert [group["ModelPackageGroupName"] for group in groups] == ["knows"]


def test_crash_loses_no_confirmed_write(own: LocalCloud) -> None:
    # given concurrent writers that record which of their writes were confirmed
    own.start()
    key = {"AttributeName": "id", "AttributeType": "S"}
    client(own, "dynamodb").create_table(
        TableName="rows",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[key],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )
    answered: list[str] = []

    def write(writer: int) -> None:
        dynamodb = client(own, "dynamodb")
        with contextlib.suppress(BotoCoreError):  # the server has crashed
            for number in range(100_000):
                dynamodb.put_item(TableName="rows", Item={"id": {"S": f"{writer}-{number}"}})
                answered.append(f"{writer}-{number}")

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in writers:
        thread.start()
    until(lambda: len(answered) > 200, "writing of enough rows")
    # when the server crashes during the writes
    own.crash()
    for thread in writers:
        thread.join()
    # then all confirmed writes are stored
    own.start()
    pages = client(own, "dynamodb").get_paginator("scan").paginate(TableName="rows")
    kept = {row["id"]["S"] for page in pages for row in page["Items"]}
    assert kept >= set(answered)


def test_stacks_under_way_when_the_server_died_can_be_updated(own: LocalCloud) -> None:
    # given a stack that is being created and one that is being updated
    own.start()
    handle = {"Type": "AWS::CloudFormation::WaitConditionHandle"}
    wait = {
        "Type": "AWS::CloudFormation::WaitCondition",
        "Properties": {"Handle": {"Ref": "Handle"}, "Timeout": "3600"},
    }
    formation = client(own, "cloudformation")
    topic = {"Topic": {"Type": "AWS::SNS::Topic"}}
    waits = {"Handle": handle, "Wait": wait}
    formation.create_stack(StackName="changed", TemplateBody=json.dumps({"Resources": topic}))
    formation.get_waiter("stack_create_complete").wait(StackName="changed", WaiterConfig={"Delay": 1})
    formation.update_stack(StackName="changed", TemplateBody=json.dumps({"Resources": topic | waits}))
    formation.create_stack(StackName="half", TemplateBody=json.dumps({"Resources": waits}))
    until(lambda: saved(own, "cloudformation", '"CREATE_IN_PROGRESS"'), "a snapshot of the stack")
    until(lambda: saved(own, "cloudformation", '"UPDATE_IN_PROGRESS"'), "a snapshot of the update")
    # when the server crashes and starts again
    own.kill()
    own.start()
    # then the CDK can continue from their states: it creates the first again, and updates the other
    formation = client(own, "cloudformation")
    stacks = {stack["StackName"]: stack["StackStatus"] for stack in formation.describe_stacks()["Stacks"]}
    assert stacks == {"half": "ROLLBACK_FAILED", "changed": "UPDATE_ROLLBACK_COMPLETE"}
    formation.delete_stack(StackName="half")
    formation.get_waiter("stack_delete_complete").wait(StackName="half", WaiterConfig={"Delay": 1})
    again = json.dumps({"Resources": topic | {"Other": topic["Topic"]}})
    formation.update_stack(StackName="changed", TemplateBody=again)
    formation.get_waiter("stack_update_complete").wait(StackName="changed", WaiterConfig={"Delay": 1})


def test_two_clouds_run_side_by_side(own: LocalCloud, cloud: LocalCloud) -> None:
    own.start()
    where = {"LocationConstraint": own.region}
    client(own, "s3").create_bucket(Bucket="mine", CreateBucketConfiguration=where)
    # then each cloud has its own address, Snowflake and resources
    assert own.endpoint_url != cloud.endpoint_url
    assert own.status()["snowflake"] != cloud.status()["snowflake"]
    there = [bucket["Name"] for bucket in client(cloud, "s3").list_buckets()["Buckets"]]
    assert "mine" not in there


def test_second_server_in_the_same_folder_is_refused(cloud: LocalCloud) -> None:
    command = [str(envs.environment("cloud")), "-m", "local.emulator.server", "--port", "1"]
    second = subprocess.run(
        [*command, "--home", str(cloud.home)], cwd=envs.ROOT, capture_output=True, text=True, timeout=60
    )
    assert second.returncode != 0
    assert "running in" in second.stderr
    assert cloud.running


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://page.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Host": "page.example"},
        {"Host": "127.0.0.1.page.example"},
    ],
)
def test_request_of_a_web_page_is_refused(cloud: LocalCloud, headers: dict[str, str]) -> None:
    secret = client(cloud, "secretsmanager")
    with contextlib.suppress(secret.exceptions.ResourceExistsException):
        secret.create_secret(Name="not-for-pages", SecretString="hidden")
    # a signed request, which a page has obtained in some way
    wanted = b'{"SecretId": "not-for-pages"}'
    request = AWSRequest("POST", f"{cloud.endpoint_url}/", data=wanted)
    request.headers["X-Amz-Target"] = "secretsmanager.GetSecretValue"
    key = Credentials(cloud.key.access_key_id, cloud.key.secret_access_key)
    SigV4Auth(key, "secretsmanager", cloud.region).add_auth(request)
    signed = dict(request.headers.items())

    def ask(path: str, body: bytes, **given: str) -> tuple[int, bytes]:
        request = urllib.request.Request(f"{cloud.endpoint_url}{path}", body, given)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    # given a request that is answered when a program or a page of this machine sends it
    assert b"hidden" in ask("/", wanted, **signed)[1]
    assert b"hidden" in ask("/", wanted, **signed, Origin="http://page.localhost:8000")[1]
    # then the request is refused when another page sends it, and so are requests that configure the cloud
    status, said = ask("/", wanted, **signed, **headers)
    assert (status, b"hidden" in said) == (403, False)
    assert ask("/_groundplan/iam", b'{"enforce": true}', **headers)[0] == 403
    assert not cloud.status()["iam_enforced"]


def test_files_with_secrets_are_private(cloud: LocalCloud) -> None:
    assert stat.S_IMODE(cloud.home.stat().st_mode) == 0o700
    assert stat.S_IMODE(cloud.snowflake.stat().st_mode) == 0o600


def test_environment_of_the_user_is_hidden_from_functions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a user with their own credentials
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the person's own")
    monkeypatch.setenv("SNOWFLAKE_PASSWORD", "the person's own")
    with LocalCloud(tmp_path / "cloud") as cloud:
        function(cloud, "curious")
        for pid in processes(cloud):
            said = Path(f"/proc/{pid}/environ").read_bytes()
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            # the server has unset the credentials, but /proc shows the environment with which it was started
            if b"local.emulator.server" not in command:
                assert b"the person's own" not in said, command


def test_settings_are_checked(cloud: LocalCloud) -> None:
    assert cloud.configure(training_instances=3)["training_instances"] == 3
    assert cloud.configure(training_instances=None)["training_instances"] > 3
    with pytest.raises(
        CloudError, match="no_such_quota is not a setting; the settings are training_instances"
    ):
        cloud.configure(no_such_quota=1)
    with pytest.raises(CloudError, match="training_instances must be a number or null, got 'many'"):
        cloud.configure(training_instances="many")


def test_command_line_starts_shows_and_stops(tmp_path: Path) -> None:
    def local(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "local", *command, "--home", str(tmp_path / "cloud")],
            cwd=envs.ROOT,
            capture_output=True,
            text=True,
            timeout=180,
        )

    try:
        up = local("up")
        assert up.returncode == 0, up.stderr
        # the printed commands work as they are: they find this cloud, and AWS's SDKs then use it
        (turn,) = re.findall(r'eval "\$\(.*\)"', up.stdout)
        turned = subprocess.run(
            ["bash", "-c", f"{turn} && echo $AWS_ENDPOINT_URL"], cwd=envs.ROOT, capture_output=True, text=True
        )
        assert turned.stdout.strip() == LocalCloud(tmp_path / "cloud").endpoint_url, turned.stderr
        assert "not enforced" in local("status").stdout
    finally:
        down = local("down")
    assert "has stopped" in down.stdout
    assert local("status").returncode == 1
    assert local("env").returncode == 1


APP = """
import aws_cdk as cdk
from aws_cdk import aws_iam as iam, aws_lambda as lambda_, aws_s3 as s3
app = cdk.App()
stack = cdk.Stack(app, "small")
bucket = s3.Bucket(stack, "Bucket", removal_policy=cdk.RemovalPolicy.DESTROY)
code = lambda_.Code.from_asset(app.node.get_context("code"))
function = lambda_.Function(
    stack, "Function", runtime=lambda_.Runtime.PYTHON_3_11, handler="index.handler", code=code,
    environment={"BUCKET": bucket.bucket_name},
)
if app.node.try_get_context("grant") == "yes":
    bucket.grant_put(function)
    bucket.grant_delete(function)
cdk.CfnOutput(stack, "FunctionName", value=function.function_name)
app.synth()
"""
HANDLER = """
import os, boto3
def handler(event, context):
    s3, where = boto3.client("s3"), {"Bucket": os.environ["BUCKET"], "Key": "key"}
    s3.put_object(**where, Body=b"content")
    s3.delete_object(**where)
    return "written"
"""


def test_cdk_deploys_a_stack_whose_iam_is_enforced(cloud: LocalCloud, tmp_path: Path) -> None:
    # given a CDK app whose function writes to a bucket
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "index.py").write_text(HANDLER)
    (tmp_path / "app.py").write_text(APP)
    app = shlex.join([str(envs.environment("app")), str(tmp_path / "app.py")])
    said: list[str] = []

    def deployed(grant: str) -> str:
        context = {"code": str(tmp_path / "code"), "grant": grant}
        outputs = cloud.deploy("small", app=app, context=context, progress=said.append)
        return outputs["small"]["FunctionName"]

    def answer(name: str) -> str:
        return client(cloud, "lambda").invoke(FunctionName=name)["Payload"].read().decode()

    try:
        # when the app is deployed with the grant; then the function can write, also with IAM enforced
        name = deployed("yes")
        assert any("CREATE_COMPLETE" in line for line in said)
        cloud.enforce_iam(True)
        assert answer(name) == '"written"'
        # when the app is deployed again without the grant, with IAM enforced; then the function's write is
        # refused
        name = deployed("no")
        assert "not authorized to perform: s3:PutObject" in answer(name)
    finally:
        cloud.enforce_iam(False)
        cloud.destroy("small", app=app, context={"code": str(tmp_path / "code")})
    assert "small" not in [stack["name"] for stack in cloud.status()["stacks"]]


def test_failed_deployment_reports_the_reason(cloud: LocalCloud, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("raise SystemExit('this app has a mistake')\n")
    with pytest.raises(CloudError, match="this app has a mistake"):
        cloud.deploy("any", app=shlex.join([sys.executable, str(tmp_path / "app.py")]))


def test_process_group_is_alive_until_its_last_process_ends() -> None:
    process = subprocess.Popen(["sleep", "60"], start_new_session=True)
    assert alive(process.pid)
    process.kill()
    # the process group has ended although no process has waited for the child, which is a zombie
    until(lambda: not alive(process.pid), "the end of the process group")
    process.wait()


def test_port_that_is_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CloudError, match=rf"^Port {port} of 127.0.0.1 is in use by another program: .*$"):
            LocalCloud(tmp_path / "cloud", port=port).start()


def test_unusable_home_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CloudError, match=r"the cloud's folder, cannot be used by this user .*--home"):
        LocalCloud(tmp_path / "file" / "cloud").start()
