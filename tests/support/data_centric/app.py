"""A CDK app with the stack of data_centric alone: `python -m tests.support.data_centric.app`.

The context has its settings, as the project's own app reads them, such as `data_centric.own_key=true`.
"""

from __future__ import annotations

from typing import Any

from aws_cdk import App, Stack, Validations
from cdk_nag import AwsSolutionsChecks

from settings.data_centric import DataCentric
from stacks.data_centric.stack import DataCentricStack

PREFIX = "data_centric."


def build(app: App) -> Stack:
    env = app.node.try_get_context("env") or "dev"
    values: dict[str, Any] = dict(DataCentric.ENVIRONMENTS.get(env, {}))
    for key, value in (app.node.get_all_context() or {}).items():
        if key.startswith(PREFIX):
            *groups, field = key.removeprefix(PREFIX).split(".")
            inner = values
            for group in groups:
                inner = inner.setdefault(group, {})
            inner[field] = value
    stack = DataCentricStack(
        app,
        f"groundplan-{env}-data-centric",
        env_name=env,
        settings=DataCentric.model_validate(values),
    )
    Validations.of(app).add_plugins(AwsSolutionsChecks(app, write_suppressions_to_cloud_formation=True))
    return stack


if __name__ == "__main__":
    app = App()
    build(app)
    app.synth()
