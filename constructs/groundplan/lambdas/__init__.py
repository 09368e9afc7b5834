"""Lambda functions of this library, one folder each."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from aws_cdk import Duration
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

FOLDER = Path(__file__).parent
SHARED = ("custom_resource.py",)
"""Modules that are copied into the code of every function, as modules of `groundplan.lambdas`."""


def code_of(name: str) -> lambda_.Code:
    """Return a function's code with the shared modules. Its handler is `handler.handler`."""
    return lambda_.Code.from_asset(_staged(name))


def function_of(
    scope: Construct,
    name: str,
    *,
    role: iam.IRole,
    log: logs.ILogGroup,
    timeout: Duration,
    description: str,
    environment: Mapping[str, str] | None = None,
) -> lambda_.Function:
    """Create the function whose code is in the folder `name`."""
    return lambda_.Function(
        scope,
        "Function",
        code=code_of(name),
        handler="handler.handler",
        runtime=lambda_.Runtime.PYTHON_3_14,
        architecture=lambda_.Architecture.ARM_64,
        memory_size=256,
        timeout=timeout,
        role=role,
        log_group=log,
        environment=environment,
        description=description,
    )


@functools.cache
def _staged(name: str) -> str:
    """Return a folder with a function's files. The CDK copies it when the function is added to a stack."""
    folder = Path(tempfile.mkdtemp(prefix="groundplan-lambda-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    shared = folder / "groundplan" / "lambdas"
    shared.mkdir(parents=True)
    for source in (FOLDER / name).glob("*.py"):
        shutil.copyfile(source, folder / source.name)
    for module in SHARED:
        shutil.copyfile(FOLDER / module, shared / module)
    return str(folder)
