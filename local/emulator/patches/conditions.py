"""CloudFormation: intrinsic functions in conditions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from local.emulator.reach import Cloud, hook, replace, touch


@hook
def conditions_join_texts(cloud: Cloud) -> None:
    """`Fn::Join`, `Fn::Sub` and `Fn::Split` in a condition are not evaluated. A condition of the CDK's
    bootstrap stack is then always true, and its role gets the policy '' instead of the default one."""
    resolve = touch("services.cloudformation.engine._resolve_refs", "value", "resources", "params")

    def joined(value: Any, template: dict, params: dict) -> Any:
        if isinstance(value, list):
            return [joined(each, template, params) for each in value]
        if not isinstance(value, dict):
            return value
        if value.keys() & {"Fn::Join", "Fn::Sub", "Fn::Split"}:
            return resolve(value, {}, params, {}, template.get("Mappings", {}), "", "")
        return {key: joined(each, template, params) for key, each in value.items()}

    # Four modules have the function under a name of their own.
    for module in ("engine", "changesets", "handlers", "stacks"):

        @replace(f"services.cloudformation.{module}._evaluate_conditions", "template", "params")
        def evaluate(original: Callable, template: dict, params: dict) -> dict:
            conditions = joined(template.get("Conditions", {}), template, params)
            return original(template | {"Conditions": conditions}, params)
