"""Changes to MiniStack, one module per service. Importing this package registers the hooks in `reach.HOOKS`.

`reach.install` installs the hooks in the order of `ORDER`: a hook that wraps another hook's function comes
after that hook. `reach.CHANGES` lists all changes, and `reach.undo` reverts them.
"""

from __future__ import annotations

from importlib import import_module

ORDER = (
    "patches.sagemaker",
    "patches.ecr",
    "patches.functions",
    "patches.iam",  # before stepfunctions, which uses its resource ARNs
    "patches.stepfunctions",
    "patches.cloudwatch",
    "patches.logs",
    "patches.autoscaling",
    "patches.athena",
    "patches.pricing",
    "patches.secretsmanager",
    "patches.cloudfront",
    "patches.dynamodb",
    "callers",
    "disk",
    "calls",
    "patches.cloudformation",  # after all hooks that add resource handlers
    "patches.conditions",
    "patches.eventbridge",
    # after eventbridge, so that an event denied by its target does not reach the retries
    "patches.deliveries",
    "patches.sdk_tasks",
    "patches.states",
    "patches.executions",
    "patches.branches",
)

for _name in ORDER:
    import_module(f"local.emulator.{_name}")
