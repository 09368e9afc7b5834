"""The app, and variants of it, synthesized as a person would, in processes that cannot reach anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

CUT_PYTHON = """
import socket
def refuse(*_, **__):
    raise OSError("the network is cut")
socket.socket.connect = socket.socket.connect_ex = refuse
socket.getaddrinfo = socket.create_connection = refuse
"""
CUT_NODE = """
const refuse = () => { throw new Error("the network is cut"); };
require("net").Socket.prototype.connect = refuse;
require("dns").lookup = refuse;
require("dgram").Socket.prototype.send = refuse;
"""


@pytest.fixture(scope="session")
def cut_off(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment without a network, credentials, a Region or a home; for Python and for Node."""
    folder = tmp_path_factory.mktemp("cut")
    (folder / "sitecustomize.py").write_text(CUT_PYTHON)
    (folder / "cut.js").write_text(CUT_NODE)
    (folder / "home").mkdir()
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder / "home"),
        "PYTHONPATH": str(folder),
        "NODE_OPTIONS": f"--require {folder / 'cut.js'}",
        # What the CDK's Python unpacks of its own is no part of a synthesis
        "JSII_RUNTIME_PACKAGE_CACHE_ROOT": str(Path(cache) / "aws" / "jsii" / "package-cache"),
        "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "20",
    }


def synthesize(out: Path, env: Mapping[str, str], context: Mapping[str, Any] | None = None) -> Path:
    """Run `python app.py` as the CDK's command line does; returns the cloud assembly's folder."""
    known = json.loads((ROOT / "cdk.json").read_text())["context"]
    done = subprocess.run(
        [sys.executable, "app.py"],
        cwd=ROOT,
        env={**env, "CDK_OUTDIR": str(out), "CDK_CONTEXT_JSON": json.dumps(known | dict(context or {}))},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def template(assembly: Path, architecture: str, env: str = "dev") -> dict[str, Any]:
    return json.loads((assembly / f"groundplan-{env}-{architecture}.template.json").read_text())


@pytest.fixture(scope="session")
def assembly(tmp_path_factory: pytest.TempPathFactory, cut_off: dict[str, str]) -> Path:
    """`dev`, as it is without a choice."""
    return synthesize(
        tmp_path_factory.mktemp("dev") / "cdk.out", cut_off | {"PYTHONHASHSEED": "1", "TZ": "UTC"}
    )


@pytest.fixture(scope="session")
def prod_assembly(tmp_path_factory: pytest.TempPathFactory, cut_off: dict[str, str]) -> Path:
    return synthesize(tmp_path_factory.mktemp("prod") / "cdk.out", cut_off, {"env": "prod"})


@pytest.fixture(scope="session")
def chosen_assembly(tmp_path_factory: pytest.TempPathFactory, cut_off: dict[str, str]) -> Path:
    """`dev` in a VPC, with a secret and a base that are there already, a registry of one's own, keys, and
    someone to page. Training for Snowflake is on instances with local disks, the other is not."""
    shared = {
        "subnet_ids": "subnet-0123abcd,subnet-0123abce",
        "security_group_ids": "sg-0123abcd",
        "alarm_email": "someone@example.com",
    }
    choice = {
        **{
            f"{name}.{key}": value
            for name in ("snowflake_training", "personalization")
            for key, value in shared.items()
        },
        "snowflake_training.create_secret": "false",
        "snowflake_training.own_key": "true",
        "snowflake_training.instance_type": "ml.r5d.xlarge",
        "personalization.base": "s3://bases/pictures/v1/",
        "personalization.endpoint_name": "pictures",
        "personalization.training_instance_type": "ml.c6i.8xlarge",
        "personalization.serving_registry": "mirror.example.com/aws",
        "personalization.own_key": "true",
        "personalization.self_sign_up": "true",
        "personalization.reserved_concurrency": "5",
        "personalization.hyperparameters.rank": "16",
    }
    return synthesize(tmp_path_factory.mktemp("chosen") / "cdk.out", cut_off, choice)


@pytest.fixture(scope="session")
def dev(assembly: Path) -> dict[str, Any]:
    return template(assembly, "snowflake-training")


@pytest.fixture(scope="session")
def prod(prod_assembly: Path) -> dict[str, Any]:
    return template(prod_assembly, "snowflake-training", "prod")


@pytest.fixture(scope="session")
def vpc(chosen_assembly: Path) -> dict[str, Any]:
    return template(chosen_assembly, "snowflake-training")
