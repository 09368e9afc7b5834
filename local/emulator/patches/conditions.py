"""CloudFormation: intrinsic functions in conditions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from local.emulator.reach import Cloud, hook, replace, touch


@hook
def conditions_join_texts(cloud: Cloud) -> None:
    """MiniStack does not evaluate `Fn::Join`, `Fn::Sub` and `Fn::Split` in conditions. A condition of the
    CDK's bootstrap stack would always be true, and a role of that stack would get the policy '' instead of
    the default policy."""
    resolve = touch("services.cloudformation.engine._resolve_refs", "value", "resources", "params")

    def joined(value: Any, template: dict, params: dict) -> Any:
        if isinstance(value, list):
            return [joined(each, template, params) for each in value]
        if not isinstance(value, dict):
            return value
        if value.keys() & {"Fn::Join", "Fn::Sub", "Fn::Split"}:
            return resolve(value, {}, params, {}, template.get("Mappings", {}), "", "")
        return {key: joined(each, template, params) for key, each in value.items()}

    # Four modules import the function separately
    for module in ("engine", "changesets", "handlers", "stacks"):

        @replace(f"services.cloudformation.{module}._evaluate_conditions", "template", "params")
        def evaluate(original: Callable, template: dict, params: dict) -> dict:
            conditions = joined(template.get("Conditions", {}), template, params)
            return original(template | {"Conditions": conditions}, params)
