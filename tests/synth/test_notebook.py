"""Notebook instances: the platform, and the script that runs at each start."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import App, Stack
from aws_cdk.assertions import Template

import groundplan
from groundplan.notebook import LONGEST_SCRIPT, SCRIPTS
from tests.support.waiting import until
from tests.synth.conftest import CONTEXT
from tests.synth.template import flat, listed, of_type

PACKAGES = ["pandas==2.3.3", "matplotlib==3.11.0"]


def notebook(context: dict[str, Any] | None = None, **props: Any) -> dict[str, Any]:
    """Return the template of a stack with one notebook instance."""
    stack = Stack(App(context=context), "Stack")
    groundplan.SageMakerNotebook(stack, "Notebook", **({"name": "trial", "packages": PACKAGES} | props))
    return dict(Template.from_stack(stack).to_json())


def on_start(template: dict[str, Any]) -> str:
    """Return the decoded lifecycle script."""
    (config,) = of_type(template, "AWS::SageMaker::NotebookInstanceLifecycleConfig").values()
    (hook,) = config["Properties"]["OnStart"]
    return hook["Content"]["Fn::Base64"]


@pytest.mark.parametrize("platform", ["notebook-al2023-v1", "notebook-al2023-v2"])
def test_notebook_is_synthesized_on_each_platform(platform: str):
    # given the CDK's validation against CloudFormation's schemas
    template = notebook(CONTEXT, platform=platform)
    # then
    (instance,) = of_type(template, "AWS::SageMaker::NotebookInstance").values()
    assert instance["Properties"]["PlatformIdentifier"] == platform


def test_unknown_platform_is_refused():
    with pytest.raises(RuntimeError, match="'notebook-al2023-v3' does not match pattern"):
        notebook(CONTEXT, platform="notebook-al2023-v3")


FAKES = {
    "systemd-run": 'while case $1 in -*) shift;; *) false;; esac; do :; done; echo "$@" >> started',
    "sudo": 'test "$*" = "-u ec2-user -i nohup bash -eu" && cat >> kernel.sh',
    "python3.11": "exit 1",
}
"""Replacements of the instance's programs, which record their calls."""


@pytest.mark.parametrize("idle_minutes", [45, 0, None])
def test_script_starts_the_idle_stop_and_the_kernel(idle_minutes: int | None, tmp_path: Path):
    # given the start script, with a folder of this test instead of /opt/groundplan, and programs that record
    # their calls
    script = on_start(notebook(stop=groundplan.AutoStop(idle_minutes=idle_minutes)))
    folder, programs = tmp_path / "groundplan", tmp_path / "bin"
    assert script.count("folder=/opt/groundplan\n") == 1
    script = script.replace("folder=/opt/groundplan\n", f"folder={folder}\n")
    programs.mkdir()
    for name, text in FAKES.items():
        (programs / name).write_text(f"#!/bin/bash\n{text}\n")
        (programs / name).chmod(0o755)
    # when
    environment = {"PATH": f"{programs}:{os.environ['PATH']}"}
    subprocess.run(["bash"], input=script, text=True, check=True, cwd=tmp_path, env=environment, timeout=60)
    # then the script has unpacked the files of the library
    assert (folder / "idle_stop.py").read_bytes() == (SCRIPTS / "idle_stop.py").read_bytes()
    assert (folder / "packages.txt").read_text().splitlines() == PACKAGES
    # and the script has started the expected programs
    kernel = tmp_path / "kernel.sh"
    until(lambda: kernel.exists() and kernel.read_text().endswith("--display-name groundplan\n"))
    assert f'--requirement "{folder}/packages.txt"' in kernel.read_text()
    subprocess.run(["bash", "-n", str(kernel)], check=True)
    started = tmp_path / "started"
    said = started.read_text().splitlines() if started.exists() else []
    command = f"python3 {folder}/idle_stop.py --idle-minutes {idle_minutes}"
    assert said == ([command] if idle_minutes else [])


def test_script_is_bash_and_short_enough_for_sagemaker():
    script = on_start(notebook())
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    assert len(base64.b64encode(script.encode())) <= 16_384
    assert "{{" not in script


def test_instance_starts_when_the_idle_stop_fails_to_start(tmp_path: Path):
    # given an instance whose `systemd-run` fails
    script = on_start(notebook()).replace("folder=/opt/groundplan\n", f"folder={tmp_path}\n")
    for name, text in (FAKES | {"systemd-run": "exit 1"}).items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    # when
    done = subprocess.run(
        ["bash"],
        input=script,
        text=True,
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        timeout=60,
    )
    # then
    assert done.returncode == 0
    assert "The idle stop was not started" in done.stdout


def test_more_packages_than_a_lifecycle_script_holds_are_refused():
    # given the names of 300 packages, which hardly compress
    names = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(300)]
    with pytest.raises(ValueError, match=f"at most {LONGEST_SCRIPT} bytes, got .* with 300 packages"):
        notebook(packages=names)


@pytest.mark.parametrize("minutes", [-1, 1.5])
def test_invalid_idle_minutes_are_refused(minutes: Any):
    with pytest.raises(ValueError, match=re.escape(f"must be a whole number from 0, got {minutes}")):
        notebook(stop=groundplan.AutoStop(idle_minutes=minutes))


@pytest.mark.parametrize("idle_minutes", [60, None])
def test_notebook_may_stop_itself_and_no_other_instance(idle_minutes: int | None):
    # given
    template = notebook(stop=groundplan.AutoStop(idle_minutes=idle_minutes))
    (instance,) = of_type(template, "AWS::SageMaker::NotebookInstance").values()
    role = instance["Properties"]["RoleArn"]["Fn::GetAtt"][0]
    # when
    granted = [
        flat(statement["Resource"])
        for policy in of_type(template, "AWS::IAM::Policy").values()
        if {"Ref": role} in policy["Properties"]["Roles"]
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
        if "sagemaker:StopNotebookInstance" in listed(statement["Action"])
    ]
    # then
    own = "arn:<AWS::Partition>:sagemaker:<AWS::Region>:<AWS::AccountId>:notebook-instance/trial"
    assert granted == ([own] if idle_minutes else [])
