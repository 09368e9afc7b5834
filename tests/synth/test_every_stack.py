"""Required and forbidden contents of every architecture's template."""

from __future__ import annotations

import filecmp
import json
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import aws_cdk
import pytest

import architectures
from settings import load
from tests.synth.conftest import ROOT, synthesize, template
from tests.synth.template import Template, flat, listed, of_type, statements

VARIANTS = {"dev": "assembly", "prod": "prod_assembly", "chosen": "chosen_assembly"}
"""Fixture with the assembly's folder, by variant."""


@pytest.fixture(params=architectures.BY_NAME)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=VARIANTS)
def each(name: str, request: pytest.FixtureRequest) -> Template:
    assembly = request.getfixturevalue(VARIANTS[request.param])
    return template(assembly, name, "prod" if request.param == "prod" else "dev")


# Synthesis is pure


def test_two_synths_are_byte_identical(assembly: Path, cut_off: dict[str, str], tmp_path: Path):
    other = synthesize(tmp_path / "other", cut_off | {"PYTHONHASHSEED": "2", "TZ": "Asia/Tokyo", "LANG": "C"})
    files = sorted(path.relative_to(assembly) for path in assembly.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(other) for path in other.rglob("*") if path.is_file())
    for architecture in architectures.ALL:
        assert Path(f"{architecture.stack_name('dev')}.template.json") in files
    assert filecmp.cmpfiles(assembly, other, map(str, files), shallow=False)[1:] == ([], [])


def test_template_is_the_same_in_the_local_cloud(assembly: Path, cut_off: dict[str, str], tmp_path: Path):
    *_, one = architectures.ALL
    # the local cloud also synthesizes without the CDK's validation
    env = cut_off | {"CDK_VALIDATION": "false"}
    alone = synthesize(tmp_path / "alone", env, {"only": one.name})
    file = f"{one.stack_name('dev')}.template.json"
    assert [path.name for path in alone.glob("*.template.json")] == [file]
    assert (alone / file).read_bytes() == (assembly / file).read_bytes()


@pytest.mark.parametrize(
    "attempt",
    [
        [sys.executable, "-c", "import socket; socket.create_connection(('127.0.0.1', 9), 1)"],
        [sys.executable, "-c", "import urllib.request; urllib.request.urlopen('http://localhost:9')"],
        ["node", "-e", "require('net').connect(9, '127.0.0.1')"],
        ["node", "-e", "require('http').get('http://localhost:9')"],
    ],
)
def test_templates_are_synthesized_without_a_network(attempt: list[str], cut_off: dict[str, str]):
    done = subprocess.run(attempt, env=cut_off, capture_output=True, text=True)
    assert done.returncode != 0
    assert "the network is cut" in done.stderr


def test_assembly_has_no_fixed_account_region_or_partition(name: str, assembly: Path):
    stack = architectures.BY_NAME[name].stack_name("dev")
    for file in (f"{stack}.template.json", f"{stack}.assets.json", "manifest.json"):
        text = (assembly / file).read_text()
        assert not re.search(r"(?<![0-9a-f-])\d{12}(?![0-9a-f])", text)
        assert not re.search(r"\b(us|eu|ap|sa|ca|me|af)-[a-z]+-\d\b", text)
        assert "arn:aws:" not in text


def test_template_has_no_trace_of_local_cloud_or_machine(each: Template):
    text = json.dumps(each).lower()
    local = ("localhost", "127.0.0.1", "ministack", "fakesnow", "endpoint_url", "000000000000")
    for word in (*local, str(ROOT).lower()):
        assert word not in text
    assert not of_type(each, "AWS::CDK::Metadata")


def test_feature_flags_are_the_recommended_ones():
    """The recommended flags are those that the CDK's package lists for this version."""
    (archive,) = (Path(aws_cdk.__file__).parent / "_jsii").glob("aws-cdk-lib*.tgz")
    with tarfile.open(archive) as files:
        member = files.extractfile("package/recommended-feature-flags.json")
        assert member
        flags = json.load(member)
    ours = json.loads((ROOT / "cdk.json").read_text())
    assert {name: ours["context"].get(name) for name in flags} == flags
    assert ours["versionReporting"] is False


def test_no_secret_material_is_anywhere(assembly: Path):
    for path in assembly.rglob("*"):
        if path.is_file():
            text = path.read_text(errors="ignore")
            assert "-----BEGIN" not in text or path.suffix == ".py", path
            assert "resolve:secretsmanager" not in text


# Least privilege


def test_no_managed_policy_is_used(each: Template):
    for role in of_type(each, "AWS::IAM::Role").values():
        assert "ManagedPolicyArns" not in role["Properties"]
    assert "FullAccess" not in json.dumps(each)


def test_every_wildcard_has_a_reason(each: Template):
    for name, policy, statement in statements(each):
        accepted = {
            rule["id"]: rule["reason"]
            for rule in policy.get("Metadata", {}).get("cdk_nag", {}).get("rules_to_suppress", [])
        }
        for action in listed(statement["Action"]):
            assert "*" not in action or f"AwsSolutions-IAM5[Action::{action}]" in accepted, (
                f"{name}: {action}"
            )
        for resource in map(flat, listed(statement["Resource"])):
            if "*" in resource:
                reason = accepted.get(f"AwsSolutions-IAM5[Resource::{resource}]", "")
                assert len(reason) > 20, f"{name}: {resource}"


def test_roles_are_passed_by_name_and_to_sagemaker_only(each: Template):
    for statement in [s for _, _, s in statements(each) if s["Action"] == "iam:PassRole"]:
        assert all("*" not in flat(resource) for resource in listed(statement["Resource"]))
        assert statement["Condition"] == {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}


def test_sagemaker_assumes_roles_for_this_account_only(each: Template):
    for name, role in of_type(each, "AWS::IAM::Role").items():
        if name.startswith(("TrainingRole", "ServingRole")):
            (trust,) = role["Properties"]["AssumeRolePolicyDocument"]["Statement"]
            assert trust["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}


def test_templates_have_statements_that_the_checks_cover(assembly: Path):
    """Without wildcards and SageMaker roles in any template, the tests above would test nothing."""
    made = [template(assembly, name) for name in architectures.BY_NAME]
    found = [statement for each in made for _, _, statement in statements(each)]
    assert any("*" in flat(resource) for each in found for resource in listed(each["Resource"]))
    assert any(each["Action"] == "iam:PassRole" for each in found)
    assert any(name.startswith("TrainingRole") for each in made for name in of_type(each, "AWS::IAM::Role"))
    assert any(of_type(each, "AWS::Logs::LogGroup") for each in made)


# Safe by default


def test_buckets_are_private_and_encrypted(each: Template):
    buckets = of_type(each, "AWS::S3::Bucket")
    for bucket in buckets.values():
        properties = bucket["Properties"]
        assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
        assert properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        assert properties["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    policies = of_type(each, "AWS::S3::BucketPolicy")
    assert len(policies) == len(buckets) > 0
    for policy in policies.values():
        denied = [s for s in policy["Properties"]["PolicyDocument"]["Statement"] if s["Effect"] == "Deny"]
        assert {"Bool": {"aws:SecureTransport": "false"}} in [s["Condition"] for s in denied]


@pytest.mark.parametrize("variant", ["dev", "prod"])
def test_every_log_group_has_the_configured_retention(
    name: str, variant: str, request: pytest.FixtureRequest
):
    days = getattr(load({"env": variant}), name).log_retention_days
    found = template(request.getfixturevalue(VARIANTS[variant]), name, variant)
    groups = of_type(found, "AWS::Logs::LogGroup")
    assert {group["Properties"]["RetentionInDays"] for group in groups.values()} <= {days}


def test_every_undeliverable_event_becomes_a_dead_letter(each: Template):
    queues = {f"<{name}.Arn>" for name in of_type(each, "AWS::SQS::Queue")}
    rules = of_type(each, "AWS::Events::Rule")
    for name, rule in rules.items():
        for target in rule["Properties"]["Targets"]:
            assert flat(target["DeadLetterConfig"]["Arn"]) in queues, name
    senders = {
        flat(statement["Condition"]["ArnEquals"]["aws:SourceArn"])
        for policy in of_type(each, "AWS::SQS::QueuePolicy").values()
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
        if statement.get("Principal") == {"Service": "events.amazonaws.com"}
    }
    assert senders == {f"<{name}.Arn>" for name in rules}


def test_eventbridge_may_use_the_key_of_the_dead_letters(each: Template):
    queues = of_type(each, "AWS::SQS::Queue").values()
    for key in {flat(queue["Properties"].get("KmsMasterKeyId")) for queue in queues} - {"None"}:
        resource = each["Resources"][key.strip("<>").removesuffix(".Arn")]
        policy = resource["Properties"]["KeyPolicy"]["Statement"]
        (statement,) = [s for s in policy if "events.amazonaws.com" in listed(s["Principal"].get("Service"))]
        assert set(statement["Action"]) == {"kms:Decrypt", "kms:GenerateDataKey*"}
        # EventBridge uses the key without sending aws:SourceAccount, so a condition on aws:SourceAccount
        # would lose dead letters
        assert "Condition" not in statement
