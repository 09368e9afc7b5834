"""A simulation of Step Functions with the states, expressions and catchers that the workflow uses."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

from jsonata import jsonata
from jsonata.utils import Utils


class TaskError(Exception):
    """An error of a task, with the name and the cause that Step Functions would get."""

    def __init__(self, error: str, cause: str = ""):
        super().__init__(error, cause)
        self.error, self.cause = error, cause


class Run:
    """One execution. `call(action, arguments)` returns SageMaker's response or raises `TaskError`.

    Attributes afterwards: `visited` (names of states), `calls` (action, arguments), `waited` (seconds), and
    either `output` or `error` and `cause`.
    """

    def __init__(
        self,
        definition: dict[str, Any],
        given: Any,
        call: Callable[[str, dict[str, Any]], Any],
        name: str = "run-1",
    ):
        self.states, self.call = definition["States"], call
        self.execution = {
            "Id": f"arn:aws:states:eu-west-1:1:execution:x:{name}",
            "Name": name,
            "StartTime": "t0",
        }
        self.variables: dict[str, Any] = {}
        self.visited: list[str] = []
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.waited: list[float] = []
        self.output: Any = None
        self.error: str | None = None
        self.cause: str | None = None
        at: str | None = definition["StartAt"]
        value = given
        while at:
            if len(self.visited) > 2000:
                raise AssertionError(f"the execution must end after 2000 states, got {self.visited[-10:]}")
            self.visited.append(at)
            at, value = self._step(self.states[at], value)
        self.output = value

    def _step(self, state: dict[str, Any], value: Any) -> tuple[str | None, Any]:
        after = state.get("Next")
        match state["Type"]:
            case "Pass":
                output = self._fill(state["Output"], value) if "Output" in state else value
                self._assign(state, value)
                return after, output
            case "Wait":
                self.waited.append(self._fill(state["Seconds"], value))
                return after, value
            case "Fail":
                self.error, self.cause = self._fill(state["Error"], value), self._fill(state["Cause"], value)
                return None, None
            case "Choice":
                for rule in state["Choices"]:
                    answer = self._fill(rule["Condition"], value)
                    assert isinstance(answer, bool), f"{rule['Condition']} is {answer!r}, not true or false"
                    if answer:
                        self._assign(rule, value)
                        return rule["Next"], value
                self._assign(state, value)
                return state["Default"], value
        return self._task(state, value)

    def _task(self, state: dict[str, Any], value: Any) -> tuple[str | None, Any]:
        action = state["Resource"].rpartition(":::")[2]
        try:
            arguments = self._fill(state["Arguments"], value)
            self.calls.append((action, arguments))
            result = self.call(action, arguments)
            output = self._fill(state["Output"], value, result=result)
            self._assign(state, value, result=result)
        except TaskError as caught:
            names = (caught.error, "States.ALL")
            catcher = next(c for c in state["Catch"] if any(name in c["ErrorEquals"] for name in names))
            error = {"Error": caught.error, "Cause": caught.cause}
            self._assign(catcher, value, errorOutput=error)
            return catcher["Next"], self._fill(catcher["Output"], value, errorOutput=error)
        return state.get("Next"), output

    def _assign(self, holder: dict[str, Any], value: Any, **more: Any) -> None:
        """Evaluate the assignments. All expressions use the variables' values from before the state."""
        self.variables |= {
            name: self._fill(item, value, **more) for name, item in holder.get("Assign", {}).items()
        }

    def _fill(self, template: Any, value: Any, **more: Any) -> Any:
        if isinstance(template, dict):
            return {key: self._fill(item, value, **more) for key, item in template.items()}
        if isinstance(template, list):
            return [self._fill(item, value, **more) for item in template]
        if not (isinstance(template, str) and template.startswith("{%")):
            return template
        states = {"input": value, "context": {"Execution": self.execution}, **more}
        names = {
            name: Utils.NULL_VALUE if item is None else item for name, item in self.variables.items()
        } | {"states": states}
        text = template[2:-2].strip()
        try:
            found = self._evaluate(text, names)
        except Exception as error:
            raise TaskError("States.QueryEvaluationError", f"{error} in {text}") from error
        if found is None and not self._evaluate(f"$exists(({text}))", names):
            raise TaskError("States.QueryEvaluationError", f"no result: {text}")
        return found

    @staticmethod
    def _evaluate(text: str, names: dict[str, Any]) -> Any:
        expression = jsonata.Jsonata(text)
        # Functions that Step Functions adds to JSONata
        expression.register_lambda("parse", json.loads)
        expression.register_lambda(
            "hash", lambda text, kind: hashlib.new(kind.replace("-", ""), text.encode()).hexdigest()
        )
        return expression.evaluate(None, names)
