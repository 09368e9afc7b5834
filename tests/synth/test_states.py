"""State machines of the library's building blocks, and errors found at synthesis."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from aws_cdk import Aws

from groundplan.states import Branch, Flow, Rule, problems
from local.emulator.definitions import diagnose

TOKEN = {"QueueUrl": "q", "MessageBody": {"token": "{% $states.context.Task.Token %}"}}
READER = {
    "Resource": "arn:aws:states:::s3:getObject",
    "ReaderConfig": {"InputType": "JSONL"},
    "Arguments": {"Bucket": "b", "Key": "rows.jsonl"},
}
WRITER = {"Resource": "arn:aws:states:::s3:putObject", "Arguments": {"Bucket": "b", "Prefix": "out"}}


def branch(name: str, output: str = "{% $states.result.Endpoints %}") -> Branch:
    """Return a branch of one call."""
    inside = Branch(name)
    inside.call(name, "aws-sdk:sagemaker:listEndpoints", {"MaxResults": 1}, None, output=output)
    return inside


def machine() -> dict[str, Any]:
    """Return a state machine with each building block once."""
    flow = Flow(undo="Undo")
    flow.settle("Begin", {**Flow.UNFAILED, "at": "Begin", "parts": [1, 2]}, "Both")
    both = {"listed": "{% $count($states.result) %}"}
    flow.parallel("Both", [branch("Left"), branch("Right")], "Each", assign=both)
    flow.each("Each", "{% $parts %}", branch("Part", "{% $listed %}"), "Many", at_once=2)
    flow.each_of_many("Many", READER, branch("Row"), "Ask", at_once=100, results=WRITER, batch=10)
    flow.wait_for_callback("Ask", "sqs:sendMessage", TOKEN, "Enough", seconds=60, heartbeat=20)
    flow.choose("Enough", Rule(when="{% $listed > 1 %}", then="Rest"), otherwise="Report")
    flow.pause("Rest", "{% $listed %}", "Report")
    flow.report("Report", {"listed": "{% $listed %}"})
    flow.try_to("Undo", "aws-sdk:sagemaker:deleteEndpoint", {"EndpointName": "e"}, "Failed")
    return flow.definition("Begin", seconds=600)


def test_machine_of_all_building_blocks_is_a_valid_definition() -> None:
    assert diagnose(json.dumps(machine()).replace(Aws.PARTITION, "aws")) == []


STATES: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda states: states["Ask"].update(Next="Nowhere"), "Ask leads to Nowhere, which is no state"),
    (lambda states: states["Ask"].pop("TimeoutSeconds"), "Ask has no TimeoutSeconds"),
    (lambda states: states["Ask"].pop("Catch"), "Ask has no Catch"),
    (lambda states: states["Ask"].pop("HeartbeatSeconds"), "Ask has no HeartbeatSeconds"),
    (
        lambda states: states["Ask"].update(HeartbeatSeconds=60),
        "Ask has a heartbeat of 60 s, which is not less than its timeout of 60 s",
    ),
    (lambda states: states["Ask"].update(HeartbeatSeconds=0), "Ask has a heartbeat of 0 s, which is less"),
    (lambda states: states["Ask"].pop("Next"), "Ask needs either Next or End"),
    (lambda states: states["Each"].pop("MaxConcurrency"), "Each has no MaxConcurrency"),
    (lambda states: states["Both"].pop("Catch"), "Both has no Catch"),
    (lambda states: states["Both"]["Branches"][0]["States"]["Left"].pop("Retry"), "Left has no Retry"),
    (lambda states: states["Enough"].pop("Default"), "Enough has no Default"),
    (lambda states: states.update(Lost={"Type": "Succeed"}), "nothing leads to Lost"),
    (lambda states: states.update(Left={"Type": "Succeed"}), "there are two states with the name Left"),
    (lambda states: states.update({"l" * 81: {"Type": "Succeed"}}), f"{'l' * 20}... has more than 80"),
    (lambda states: states["Report"].update(Output="{% $merge( %}"), "Report: "),
    (lambda states: states["Report"].update(Output="{% $x"), "Report: an expression does not end"),
    (lambda states: states["Report"].update(Output="{% $lisetd + 1 %}"), "Report: no state assigns $lisetd"),
    (
        lambda states: states["Each"]["ItemProcessor"]["States"]["Part"].update(Assign={"listed": 1}),
        "$listed is a variable of the machine around this branch",
    ),
    (
        lambda states: states["Many"]["ItemProcessor"]["States"]["Row"].update(Output="{% $listed %}"),
        "Row: no state assigns $listed",
    ),
]


@pytest.mark.parametrize(("damage", "says"), STATES, ids=[says[:40] for _, says in STATES])
def test_unsound_definition_is_found_at_synthesis(damage: Callable, says: str) -> None:
    definition = machine()
    assert problems(definition) == []
    damage(definition["States"])
    assert any(problem.startswith(says) for problem in problems(definition)), problems(definition)


def test_expressions_own_variables_and_functions_need_no_assignment() -> None:
    flow = Flow()
    own = "{% ($a := $states.input.x; $sum($map($a, function($v, $i) { $v * $i + $random() }))) %}"
    flow.settle("Begin", {**Flow.UNFAILED, "at": "Begin", "sum": own}, "End")
    flow.report("End", "{% $sum ~> $string %}")
    assert flow.definition("Begin", seconds=60)["States"]["End"]["End"]


def test_unsound_flow_is_refused_with_every_fault() -> None:
    flow = Flow()
    flow.call("Begin", "aws-sdk:sagemaker:listEndpoints", {}, "Nowhere")
    with pytest.raises(ValueError, match="leads to Nowhere, which is no state; Begin does not assign reason"):
        flow.definition("Begin", seconds=60)


def test_callback_without_its_token_is_refused() -> None:
    with pytest.raises(ValueError, match="which a callback needs"):
        Flow().wait_for_callback("Ask", "sqs:sendMessage", {"QueueUrl": "q"}, None, seconds=9, heartbeat=3)


@pytest.mark.parametrize("at_once", [0, 41])
def test_number_of_inline_iterations_at_once_is_bounded(at_once: int) -> None:
    with pytest.raises(ValueError, match="at_once must be from 1 to 40"):
        Flow().each("Each", "{% [1] %}", branch("Part"), None, at_once=at_once)


def test_two_states_of_one_name_are_refused() -> None:
    flow = Flow()
    flow.report("Report", 1)
    with pytest.raises(ValueError, match="two states with the name Report"):
        flow.report("Report", 2)
