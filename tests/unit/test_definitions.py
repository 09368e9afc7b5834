"""Valid and invalid definitions for CreateStateMachine."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from local.emulator.definitions import Diagnostic, diagnose

SCHEMA, TARGET = "SCHEMA_VALIDATION_FAILED", "MISSING_TRANSITION_TARGET"
FUNCTION = "arn:aws:lambda:eu-west-1:000000000000:function:f"
END: dict[str, Any] = {"Type": "Pass", "End": True}


def machine(**states: Any) -> dict[str, Any]:
    return {"StartAt": next(iter(states)), "States": states}


def found(definition: Any) -> list[tuple[str, str]]:
    """Return code and location of each diagnostic."""
    text = definition if isinstance(definition, str) else json.dumps(definition)
    return [(each.code, each.location) for each in diagnose(text)]


PATHS = machine(
    A={"Type": "Task", "Resource": FUNCTION, "ResultSelector": {"a.$": "$.a"}, "ResultPath": "$.r",
       "Retry": [{"ErrorEquals": ["X"], "MaxAttempts": 0}, {"ErrorEquals": ["States.ALL"]}],
       "Catch": [{"ErrorEquals": ["States.ALL"], "ResultPath": "$.e", "Next": "Z"}],
       "TimeoutSeconds": 60, "HeartbeatSeconds": 10, "Next": "B"},
    B={"Type": "Choice", "Default": "C", "Choices": [
        {"Variable": "$.a", "NumericGreaterThanEqualsPath": "$.b", "Next": "C"},
        {"And": [{"Variable": "$.a", "IsPresent": True}, {"Not": {"Variable": "$.a", "StringMatches": "x*"}}],
         "Next": "D"}]},
    C={"Type": "Wait", "SecondsPath": "$.s", "Next": "D"},
    D={"Type": "Parallel", "Branches": [machine(D1=END), machine(D2={"Type": "Succeed"})], "Next": "E"},
    E={"Type": "Map", "ItemsPath": "$.i", "MaxConcurrency": 0, "Next": "F",
       "ItemProcessor": {"ProcessorConfig": {"Mode": "INLINE"}, **machine(E1=END)}},
    F={"Type": "Pass", "Result": 1, "Parameters": {"x": 1}, "Assign": {"v": 1}, "Next": "Z"},
    Z={"Type": "Fail", "ErrorPath": "$.e", "Cause": "c"},
) | {"Comment": "", "TimeoutSeconds": 3600, "Version": "1.0"}  # fmt: skip
EXPRESSIONS = machine(
    A={"Type": "Task", "Resource": "arn:aws:states:::sqs:sendMessage.waitForTaskToken",
       "Arguments": {"a": "{% 1 %}"}, "Output": "{% $states.result %}", "TimeoutSeconds": "{% $t %}",
       "Catch": [{"ErrorEquals": ["States.ALL"], "Output": {}, "Assign": {"e": 1}, "Next": "B"}],
       "Next": "B"},
    B={"Type": "Choice", "Output": {}, "Default": "C",
       "Choices": [{"Condition": "{% true %}", "Assign": {"v": 1}, "Output": 1, "Next": "C"}]},
    C={"Type": "Map", "Items": "{% [1] %}", "ItemProcessor": machine(C1=END), "Next": "D"},
    D={"Type": "Wait", "Seconds": "{% 1 %}", "Next": "E"},
    E={"Type": "Succeed", "Output": "{% 1 %}"},
) | {"QueryLanguage": "JSONata"}  # fmt: skip


@pytest.mark.parametrize("definition", [PATHS, EXPRESSIONS], ids=["JSONPath", "JSONata"])
def test_definition_with_every_field_is_accepted(definition: dict[str, Any]) -> None:
    assert found(definition) == []


@pytest.mark.parametrize(
    ("definition", "expected"),
    [
        ("", [("MISSING_DESCRIPTION", "")]),
        ("{", [("INVALID_JSON_DESCRIPTION", "")]),
        ("[]", [(SCHEMA, "/")]),
        ({"StartAt": "A", "States": {}}, [(SCHEMA, "/")]),
        ({"States": {"A": END}}, [(SCHEMA, "/")]),
        ('{"StartAt": "A", "States": {"A": {"Type": "Fail"}, "A": {"Type": "Fail"}}}',
         [("DUPLICATE_STATE_NAME", "/States/A")]),
        (machine(**{"a" * 81: END}), [("INVALID_STATE_NAME", f"/States/{'a' * 81}")]),
        (machine(A={"Type": "Pass"}), [(SCHEMA, "/States/A"), ("MISSING_END_STATE", "")]),
        (machine(A=END | {"Next": "A"}), [(SCHEMA, "/States/A")]),
        (machine(A={"Type": "Pass", "End": False}), [(SCHEMA, "/States/A/End"), ("MISSING_END_STATE", "")]),
        (machine(A={"Type": "Sleep", "End": True}), [(SCHEMA, "/States/A/Type")]),
        (machine(A={"End": True}), [(SCHEMA, "/States/A/Type")]),
        (machine(A=END | {"Colour": "red"}), [(SCHEMA, "/States/A")]),
        (machine(A=END | {"Catch": []}), [(SCHEMA, "/States/A")]),
        (machine(A=END | {"Output": 1}), [(SCHEMA, "/States/A")]),
        (machine(A=END | {"ResultPath": "$"}) | {"QueryLanguage": "JSONata"}, [(SCHEMA, "/States/A")]),
        (machine(A=END | {"QueryLanguage": "JSONPath"}) | {"QueryLanguage": "JSONata"},
         [(SCHEMA, "/States/A")]),
        (machine(A=END) | {"QueryLanguage": "SQL"}, [(SCHEMA, "/QueryLanguage")]),
        (machine(A=END) | {"TimeoutSeconds": 0}, [(SCHEMA, "/TimeoutSeconds")]),
        (machine(A=END) | {"Timeout": 1}, [(SCHEMA, "/")]),
        (machine(A={"Type": "Task", "End": True}), [(SCHEMA, "/States/A")]),
        (machine(A={"Type": "Task", "Resource": "f", "End": True}),
         [("INVALID_RESOURCE", "/States/A/Resource")]),
        (machine(A={"Type": "Task", "Resource": FUNCTION, "End": True, "TimeoutSeconds": 5,
                    "HeartbeatSeconds": 5}), [(SCHEMA, "/States/A")]),
        (machine(A={"Type": "Task", "Resource": FUNCTION, "End": True,
                    "Retry": [{"ErrorEquals": []}]}), [(SCHEMA, "/States/A/Retry[0]")]),
        (machine(A={"Type": "Task", "Resource": FUNCTION, "End": True,
                    "Retry": [{"ErrorEquals": ["X"], "BackoffRate": 0.5}]}),
         [(SCHEMA, "/States/A/Retry[0]/BackoffRate")]),
        (machine(A={"Type": "Task", "Resource": FUNCTION, "End": True, "Retry":
                    [{"ErrorEquals": ["States.ALL"]}, {"ErrorEquals": ["X"]}]}),
         [(SCHEMA, "/States/A/Retry[0]")]),
        (machine(A={"Type": "Task", "Resource": FUNCTION, "End": True,
                    "Catch": [{"ErrorEquals": ["X"]}]}), [(SCHEMA, "/States/A/Catch[0]")]),
        (machine(A={"Type": "Task", "Resource": FUNCTION, "End": True,
                    "Catch": [{"ErrorEquals": ["X"], "Next": "B"}]}), [(TARGET, "/States/A/Catch[0]/Next")]),
        (machine(A={"Type": "Choice", "Choices": []}), [(SCHEMA, "/States/A"), ("MISSING_END_STATE", "")]),
        (machine(A={"Type": "Choice", "Choices": [{"Variable": "$.a", "Next": "B"}]}, B=END),
         [(SCHEMA, "/States/A/Choices[0]")]),
        (machine(A={"Type": "Choice", "Choices": [{"StringEquals": "a", "Next": "B"}]}, B=END),
         [(SCHEMA, "/States/A/Choices[0]")]),
        (machine(A={"Type": "Choice", "Choices": [{"Condition": "true", "Next": "B"}]}, B=END)
         | {"QueryLanguage": "JSONata"}, [(SCHEMA, "/States/A/Choices[0]")]),
        (machine(A={"Type": "Wait", "End": True}), [(SCHEMA, "/States/A")]),
        (machine(A={"Type": "Wait", "Seconds": -1, "End": True}), [(SCHEMA, "/States/A/Seconds")]),
        (machine(A={"Type": "Parallel", "End": True}), [(SCHEMA, "/States/A")]),
        (machine(A={"Type": "Parallel", "End": True, "Branches": [machine(B={"Type": "Pass", "Next": "A"})]}),
         [(TARGET, "/States/A/Branches[0]/States/B/Next"), ("MISSING_END_STATE", "")]),
        (machine(A={"Type": "Parallel", "End": True, "Branches": [machine(A=END)]}),
         [("DUPLICATE_STATE_NAME", "/States/A/Branches[0]/States/A")]),
        (machine(A={"Type": "Map", "End": True}), [(SCHEMA, "/States/A")]),
        (machine(A={"Type": "Map", "End": True,
                    "ItemProcessor": machine(B=END) | {"QueryLanguage": "JSONata"}}),
         [(SCHEMA, "/States/A/ItemProcessor")]),
        # AWS also reports a missing terminal state when a target is missing, and reports unreachable states
        # only if there is a terminal state
        (machine(A={"Type": "Pass", "Next": "NOPE"}),
         [(TARGET, "/States/A/Next"), ("MISSING_END_STATE", "")]),
        (machine(A={"Type": "Pass", "Next": "B"}, B={"Type": "Pass", "Next": "A"},
                 C={"Type": "Pass", "Next": "A"}), [("MISSING_END_STATE", "")]),
        (machine(A={"Type": "Pass", "Next": "B"}, B={"Type": "Pass", "Next": "A"}, C=END),
         [(TARGET, "/States/C")]),
        ({"StartAt": "B", "States": {"A": END}}, [(TARGET, "/StartAt"), (TARGET, "/States/A")]),
    ],
)  # fmt: skip
def test_definition_that_aws_refuses_is_diagnosed(definition: Any, expected: list[tuple[str, str]]) -> None:
    assert found(definition) == expected


def _without(definition: dict[str, Any], path: list[Any]) -> dict[str, Any]:
    changed = copy.deepcopy(definition)
    at: Any = changed
    for key in path[:-1]:
        at = at[key]
    del at[path[-1]]
    return changed


@pytest.mark.parametrize("name", sorted(PATHS["States"].keys() - {"Z"}))
def test_state_without_a_next_state_is_refused(name: str) -> None:
    # given a machine in which the transition of one state is removed
    field = "Choices" if PATHS["States"][name]["Type"] == "Choice" else "Next"
    # then the error names that state
    assert (SCHEMA, f"/States/{name}") in found(_without(PATHS, ["States", name, field]))


def test_diagnostic_has_the_words_of_aws() -> None:
    shown = str(Diagnostic(TARGET, "Missing 'Next' target: pass3", "/States/pass1/Next"))
    assert shown == "MISSING_TRANSITION_TARGET: Missing 'Next' target: pass3 at /States/pass1/Next"
