"""The project's stack under enforced IAM: training, serving, refusals, the stop switch, and rollback."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local.cloud import LocalCloud
from scenarios.portfolio_rl.accounts import start
from scenarios.portfolio_rl.job import PolicyJob, finished
from scenarios.portfolio_rl.service import OrderService, state
from tests.support.jobs import logged
from tests.support.notebooks import data_scientist
from tests.support.waiting import until
from tooling import envs

STACK = "groundplan-dev-portfolio-rl"
QUICK = {"observed": "60", "held_out": "1000"}
NOTEBOOKS = envs.ROOT / "notebooks" / "portfolio_rl"

Outputs = dict[str, str]


@pytest.fixture(scope="module")
def deployed(cloud: LocalCloud) -> Iterator[Outputs]:
    cloud.configure(create_training_job_burst=100)
    outputs = cloud.deploy(STACK, context={"only": "portfolio_rl"})[STACK]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cloud.env().items():
            patch.setenv(name, value)
        cloud.enforce_iam(True)
        yield outputs
        cloud.enforce_iam(False)


@pytest.fixture(scope="module")
def run(aws: Callable, deployed: Outputs) -> Callable[..., dict[str, Any]]:
    """Return a function that runs the workflow, which must succeed, and returns the workflow's output."""

    def execute(**given: Any) -> dict[str, Any]:
        states = aws("stepfunctions")
        arn = states.start_execution(stateMachineArn=deployed["StateMachineArn"], input=json.dumps(given))

        def ended() -> dict[str, Any] | None:
            found = states.describe_execution(executionArn=arn["executionArn"])
            return None if found["status"] == "RUNNING" else found

        found = until(ended, "the execution's end", 300)
        assert found["status"] == "SUCCEEDED", found
        return json.loads(found["output"])

    return execute


@pytest.fixture(scope="module")
def first(run: Callable) -> dict[str, Any]:
    return run(hyperparameters=QUICK)


@pytest.fixture(scope="module")
def job(first: dict[str, Any]) -> PolicyJob:
    return finished(first["training_job"])


@pytest.fixture(scope="module")
def service(deployed: Outputs, first: dict[str, Any]) -> OrderService:
    return OrderService(deployed["EndpointName"])


# The tests must run in this order: each one depends on the state that the previous one leaves


def test_first_policy_serves_and_its_orders_keep_the_rules(
    first: dict[str, Any], job: PolicyJob, service: OrderService
) -> None:
    assert (first["deployed"], first["validation_value"]) == (True, pytest.approx(job.mean(), abs=0.01))
    trades = service.trade(job)
    assert (trades.refused, trades.violations) == (0, [])
    assert sum(trades.final) / job.values[:, -1].sum() > 0.98


def test_refused_account_raises_the_alarm(aws: Callable, job: PolicyJob, service: OrderService) -> None:
    # given the alarm for refused orders, which does not fire yet
    alarm = next(
        found["AlarmName"]
        for found in aws("cloudwatch").describe_alarms()["MetricAlarms"]
        if found["MetricName"] == f"{STACK}/OrderRefused"
    )

    def in_alarm() -> bool:
        (found,) = aws("cloudwatch").describe_alarms(AlarmNames=[alarm])["MetricAlarms"]
        return found["StateValue"] == "ALARM"

    assert not in_alarm()
    # when an account without an admissible choice requests an order
    account = first_account(job)
    (order,) = service.ask([account | {"mask": {name: [False] * 11 for name in account["prices"]}}])
    # then the account gets no trade, and the alarm fires
    assert (order["valid"], set(order["units"].values())) == (False, {0})
    until(in_alarm, "the alarm for refused orders")


def test_stop_switch_stops_all_trades(
    aws: Callable, deployed: Outputs, job: PolicyJob, service: OrderService
) -> None:
    account, switch = first_account(job), deployed["StopParameterName"]
    assert service.ask([account])[0]["valid"]
    aws("ssm").put_parameter(Name=switch, Value="stop", Overwrite=True)
    stopped = until(lambda: [o for o in service.ask([account]) if not o["valid"]], "the end of all trades")
    assert stopped[0]["reason"] == f"no trades: the stop switch {switch} must be go, got stop"
    aws("ssm").put_parameter(Name=switch, Value="go", Overwrite=True)
    until(lambda: service.ask([account])[0]["valid"], "trades again")


def test_worse_policy_is_not_deployed_but_an_earlier_version_is(
    run: Callable, first: dict[str, Any], service: OrderService
) -> None:
    # given a deployed policy; when another policy is trained for too few episodes
    before = service.serves()
    worse = run(hyperparameters=QUICK | {"method": "ppo", "episodes": "1200"})
    # then the new policy is registered and not deployed
    assert (worse["deployed"], service.serves()) == (False, before)
    assert worse["candidate_value"] < worse["champion_value"]
    # and an execution whose input is a version deploys this version from the registry again
    back = run(version=int(first["model_package_arn"].rpartition("/")[2]))
    assert back["deployed"]
    assert service.serves() != before


def test_two_hosts_learn_with_ray_and_survive_a_lost_node(
    aws: Callable, cloud: LocalCloud, deployed: Outputs
) -> None:
    # given a job of two hosts that train together, with network isolation
    name = f"{STACK}-notebook-ray"
    aws("sagemaker").create_training_job(
        TrainingJobName=name,
        AlgorithmSpecification={"TrainingImage": deployed["ImageUri"], "TrainingInputMode": "File"},
        RoleArn=deployed["ExperimentRoleArn"],
        HyperParameters=QUICK | {"method": "rllib", "episodes": "20000", "runners": "1"},
        OutputDataConfig={"S3OutputPath": f"s3://{deployed['BucketName']}/notebook"},
        ResourceConfig={"InstanceType": "ml.m5.xlarge", "InstanceCount": 2, "VolumeSizeInGB": 10},
        StoppingCondition={"MaxRuntimeInSeconds": 900},
        EnableNetworkIsolation=True,
    )
    until(lambda: "train:value" in said(cloud, name, "algo-1"), "the first batch", 300)
    # when the second host's Ray node is killed
    head = words(programs(name, "gcs_server")[0], "node-ip-address")
    for process in programs(name, "raylet"):
        if words(process, "node_ip_address") != head:
            os.kill(process, signal.SIGKILL)

    def ended() -> dict[str, Any] | None:
        found = aws("sagemaker").describe_training_job(TrainingJobName=name)
        return None if found["TrainingJobStatus"] == "InProgress" else found

    # then the host rejoins, the job completes, and both hosts have sampled episodes
    job = until(ended, "the end of the job", 600)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert "algo-2 lost its Ray node and joins again" in said(cloud, name, "algo-2")
    found = finished(name)
    assert len(found.card["samplers"]) == 2
    assert found.mean() > 2 * found.mean("hold")


def said(cloud: LocalCloud, job: str, host: str) -> str:
    """Return the log of a host of a job."""
    streams = logged(cloud, job).items()
    return "\n".join(line for stream, lines in streams if f"{host}-" in stream for line in lines)


def programs(job: str, program: str) -> list[int]:
    """Return the ids of a job's processes that run a program."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            ours = f"TRAINING_JOB_NAME={job}".encode() in (folder / "environ").read_bytes().split(b"\0")
            if ours and (folder / "cmdline").read_bytes().split(b"\0")[0].endswith(f"/{program}".encode()):
                found.append(int(folder.name))
    return found


def words(process: int, option: str) -> str:
    """Return the value of an option in a process's command line."""
    for word in Path(f"/proc/{process}/cmdline").read_text().split("\0"):
        if word.startswith(f"--{option}="):
            return word.partition("=")[2]
    return ""


def test_running_notebook_instance_is_reported(aws: Callable, deployed: Outputs) -> None:
    # given the stack's running notebook instance, and its endpoint, which is expected to run
    (function,) = [
        found["FunctionName"]
        for found in aws("lambda").list_functions()["Functions"]
        if found["FunctionName"].startswith(f"{STACK}-LeftRunning")
    ]
    # when the daily check runs
    answer = aws("lambda").invoke(FunctionName=function)
    # then the check, under the function's role, reports the notebook instance
    assert "FunctionError" not in answer
    (line,) = json.loads(answer["Payload"].read())
    assert line.startswith(f"notebook instance {STACK}, since ")


def test_notebook_runs_with_the_role_of_its_instance(cloud: LocalCloud, deployed: Outputs) -> None:
    few = {"GROUNDPLAN_OBSERVED": "100", "GROUNDPLAN_HELD_OUT": "1000"}
    scientist = data_scientist(cloud, STACK, NOTEBOOKS, **few)
    wanted = "best=float(means['policy']), hold=float(means['hold']), orders=len(choices), refused=refused"
    wanted += ", choices=choices.to_dict('list'), gain=gain, own=own_card['variant'], most=at_most(2, HOURLY)"
    wanted += ", isolated=job.enable_network_isolation, role=job.role_arn"
    found = scientist.run("trade", wanted)
    assert found["most"] == (
        "2 x ml.m5.xlarge for at most 30 minutes: $0.26 at $0.257 an hour (list price, eu-west-1)"
    )
    assert found["best"] > 3 * found["hold"]
    # the orders obey the notebook's mask
    assert found["orders"] > 50
    assert found["orders"] + found["refused"] == 500
    allowed = {"1": {8}, "2": {5}, "3": {1, 2}}
    assert {name: set(values) <= allowed[name] for name, values in found["choices"].items()} == dict.fromkeys(
        allowed, True
    )
    assert found["own"] == "own prices"
    assert (found["isolated"], found["role"]) == (True, deployed["ExperimentRoleArn"])


def first_account(job: PolicyJob) -> dict[str, Any]:
    """Return the account at the start of the first held-out episode."""
    names = [asset["name"] for asset in job.card["rules"]["assets"]]
    prices = dict(zip(names, job.prices[0, 0].astype(float).tolist(), strict=True))
    return state(start(job.card["rules"]), prices, 0)
