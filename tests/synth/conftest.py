"""Fixtures that synthesize the app and variants of it as from the command line, in processes without a
network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import Stack
from constructs import Construct

import architectures
from settings import Settings
from tests.conftest import MakeOnce

ROOT = Path(__file__).resolve().parents[2]
CONTEXT: dict[str, Any] = json.loads((ROOT / "cdk.json").read_text())["context"]
"""Feature flags that the CDK's command line passes to the app."""

CHOSEN = {
    "subnet_ids": "subnet-0123abcd,subnet-0123abce",
    "security_group_ids": "sg-0123abcd",
    "alarm_email": "someone@example.com",
}
"""Settings of every architecture in the variant `chosen`: jobs join a VPC, and alarms are sent by email."""

CHOSEN_BY_CALLER = {name: os.environ[name] for name in ("CDK_VALIDATION",) if name in os.environ}
"""With CDK_VALIDATION=false, the CDK does not validate `prod` and `chosen`, which saves most of the time."""

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
    """Environment variables of a process, Python or Node, without network, credentials, Region or home."""
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
        # The cache of the CDK's unpacked packages is shared, because it does not affect the synthesis
        "JSII_RUNTIME_PACKAGE_CACHE_ROOT": str(Path(cache) / "aws" / "jsii" / "package-cache"),
        "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "20",
    }


def synthesize(out: Path, env: Mapping[str, str], context: Mapping[str, Any] | None = None) -> Path:
    """Run `python app.py` as the CDK's command line does; return the folder of the cloud assembly."""
    done = subprocess.run(
        [sys.executable, "app.py"],
        cwd=ROOT,
        env={**env, "CDK_OUTDIR": str(out), "CDK_CONTEXT_JSON": json.dumps(CONTEXT | dict(context or {}))},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def template(assembly: Path, name: str, env: str = "dev") -> dict[str, Any]:
    """Return the template of an architecture, by its name."""
    return json.loads((assembly / f"{architectures.BY_NAME[name].stack_name(env)}.template.json").read_text())


def stack_of(scope: Construct, name: str, settings: Settings, id: str = "") -> Stack:
    """Create the stack of an architecture as the app does, optionally with another `id`."""
    architecture = architectures.BY_NAME[name]
    return architectures.load(architecture.stack)(
        scope,
        id or architecture.stack_name(settings.env),
        env_name=settings.env,
        settings=getattr(settings, name),
    )


@pytest.fixture(scope="session")
def assembly(made_once: MakeOnce, cut_off: dict[str, str]) -> Path:
    """The assembly of `dev` with default settings."""
    env = cut_off | {"PYTHONHASHSEED": "1", "TZ": "UTC"}
    return made_once("dev", lambda folder: synthesize(folder, env))


@pytest.fixture(scope="session")
def prod_assembly(made_once: MakeOnce, cut_off: dict[str, str]) -> Path:
    return made_once("prod", lambda folder: synthesize(folder, cut_off | CHOSEN_BY_CALLER, {"env": "prod"}))


@pytest.fixture(scope="session")
def chosen_assembly(made_once: MakeOnce, cut_off: dict[str, str]) -> Path:
    """The assembly of `dev` with the settings in `CHOSEN` and in each architecture's `chosen.json`."""
    context = {}
    for name in architectures.BY_NAME:
        own = json.loads((Path(__file__).parent / name / "chosen.json").read_text())
        context |= {f"{name}.{field}": value for field, value in (CHOSEN | own).items()}
    return made_once("chosen", lambda folder: synthesize(folder, cut_off | CHOSEN_BY_CALLER, context))
