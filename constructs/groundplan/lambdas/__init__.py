"""Lambda functions of this library, one folder each."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

from aws_cdk import aws_lambda as lambda_

FOLDER = Path(__file__).parent
SHARED = ("custom_resource.py",)
"""Modules that every function has; in its code, too, they are modules of `groundplan.lambdas`."""


def code_of(name: str) -> lambda_.Code:
    """Return the code of a function, with the shared modules; its handler is `handler.handler`."""
    return lambda_.Code.from_asset(_staged(name))


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
