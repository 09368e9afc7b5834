"""Lambda functions: their sessions, layers and errors."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.deployments import Machine, names, role, task

HANDLER = """
import boto3

class TableIsLocked(Exception):
    pass

def handler(event, context):
    if event.get("fail"):
        raise TableIsLocked("come back later")
    return boto3.client("sts").get_caller_identity()["Arn"]
"""


@pytest.fixture(scope="module")
def function(aws: Callable) -> str:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("index.py", HANDLER)
    name = next(names)
    aws("lambda").create_function(
        FunctionName=name,
        Runtime="python3.11",
        Handler="index.handler",
        Role=role(aws, "lambda.amazonaws.com"),
        Code={"ZipFile": archive.getvalue()},
        Timeout=30,
    )
    return name


def test_function_has_a_session_of_its_role_without_enforced_iam(aws: Callable, function: str) -> None:
    answer = json.load(aws("lambda").invoke(FunctionName=function, Payload=b"{}")["Payload"])
    assert ":assumed-role/hooks-" in answer


def test_processes_of_a_function_share_one_unpacked_layer(aws: Callable) -> None:
    # given a function with a layer
    def archive(name: str, text: str) -> bytes:
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as file:
            file.writestr(name, text)
        return content.getvalue()

    layer = aws("lambda").publish_layer_version(
        LayerName=next(names), Content={"ZipFile": archive("python/shared.py", "")}
    )
    code = "import os, shared, time\ndef handler(event, context):\n    time.sleep(1)\n"
    code += "    return [os.getpid(), os.path.realpath(shared.__file__)]\n"
    name = next(names)
    aws("lambda").create_function(
        FunctionName=name,
        Runtime="python3.11",
        Handler="index.handler",
        Role=role(aws, "lambda.amazonaws.com"),
        Code={"ZipFile": archive("index.py", code)},
        Layers=[layer["LayerVersionArn"]],
        Timeout=30,
    )

    def call(_: int) -> list:
        return json.load(aws("lambda").invoke(FunctionName=name, Payload=b"{}")["Payload"])

    # when two processes of the function run at once, then both import the same file of the layer
    with ThreadPoolExecutor(2) as calls:
        (one, first), (other, second) = calls.map(call, range(2))
    assert one != other
    assert first == second


def test_function_fails_by_its_own_exception(aws: Callable, function: str) -> None:
    # given a state machine that catches the function's own exception
    arguments = {"FunctionName": function, "Payload": {"fail": True}}
    catch = [{"ErrorEquals": ["TableIsLocked"], "Next": "Caught"}]
    state = task("lambda:invoke", arguments, Catch=catch)
    caught = {"Type": "Pass", "Output": "caught", "End": True}
    machine = Machine(aws, state, States={"Only": {"End": True} | state, "Caught": caught})
    # then the state machine catches the exception
    ended = machine.run()
    assert (ended["status"], ended["output"]) == ("SUCCEEDED", '"caught"'), ended
