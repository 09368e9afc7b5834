"""The rules that every construct of the library keeps."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import App, Stack
from aws_cdk import aws_iam as iam
from constructs import Construct

import groundplan
from tests.synth.conftest import ROOT, template

PUBLIC = [getattr(groundplan, name) for name in groundplan.__all__]
CONSTRUCTS = [item for item in PUBLIC if inspect.isclass(item) and issubclass(item, Construct)]
README = (ROOT / "constructs" / "README.md").read_text()


def test_the_folder_is_no_package_or_it_would_shadow_the_cdks_own():
    assert not (ROOT / "constructs" / "__init__.py").exists()


@pytest.mark.parametrize("construct", CONSTRUCTS, ids=lambda c: c.__name__)
def test_a_construct_takes_at_most_seven_props_by_name(construct: type):
    props = list(inspect.signature(construct).parameters.values())[2:]
    assert len(props) <= 7
    assert all(prop.kind is inspect.Parameter.KEYWORD_ONLY for prop in props)


@pytest.mark.parametrize("construct", CONSTRUCTS, ids=lambda c: c.__name__)
def test_a_construct_says_itself_in_a_sentence_and_explains_every_prop(construct: type):
    text = inspect.getdoc(construct) or ""
    assert text.splitlines()[0].endswith(".")
    for name in list(inspect.signature(construct).parameters)[2:]:
        assert f":param {name}: " in text, name


@pytest.mark.parametrize("construct", CONSTRUCTS, ids=lambda c: c.__name__)
def test_a_construct_has_its_section_with_every_prop(construct: type):
    section = re.search(rf"^## {construct.__name__}\n(.*?)(?=^## |\Z)", README, re.DOTALL | re.MULTILINE)
    assert section, "no section in constructs/README.md"
    for name in list(inspect.signature(construct).parameters)[2:]:
        assert f"`{name}`" in section[1], name


MADE = {
    "snowflake-training": (
        "Artifacts",
        "Models",
        "Credentials",
        "Training",
        "Serving",
        "CleanUp",
        "Workflow",
        "Pager",
        "Notebook",
    ),
    "personalization": (
        "Data",
        "Users",
        "Api",
        "Site",
        "SiteFiles",
        "CleanUp",
        "Training",
        "Endpoint",
        "Pager",
        "Dispatcher",
        "Sweeper",
    ),
}


@pytest.mark.parametrize("architecture", MADE)
def test_a_construct_makes_at_most_eight_resources(architecture: str, assembly: Path, prod_assembly: Path):
    """What there is one of for each thing that it is told, a route or an alarm, counts once."""
    for made in (template(assembly, architecture), template(prod_assembly, architecture, "prod")):
        for id in MADE[architecture]:
            others = [other for other in ("ApiFunction", "SiteFiles", *MADE[architecture]) if other != id]
            longer = tuple(other for other in others if other.startswith(id))
            kinds = [
                resource["Type"]
                for name, resource in made["Resources"].items()
                if name.startswith(id) and not name.startswith(longer)
            ]
            repeated = [
                kind for kind in kinds if kind in ("AWS::ApiGatewayV2::Route", "AWS::CloudWatch::Alarm")
            ]
            assert len(kinds) - len(repeated) + bool(repeated) <= 8, kinds


def test_a_wildcard_without_a_reason_is_refused_at_synthesis():
    stack = Stack(App(), "Stack")
    role = iam.Role(stack, "Role", assumed_by=iam.AccountRootPrincipal())  # pyright: ignore[reportArgumentType]
    with pytest.raises(
        ValueError, match=re.escape("s3:GetObject on arn:<AWS::Partition>:s3:::x/* needs a reason")
    ):
        groundplan.allow(role, "s3:GetObject", on=[f"arn:{stack.partition}:s3:::x/*"])


def test_a_key_is_a_jobs_only_with_the_right_to_lend_it(prod: dict[str, Any]):
    statements = [
        statement
        for resource in prod["Resources"].values()
        if resource["Type"] == "AWS::IAM::Policy"
        for statement in resource["Properties"]["PolicyDocument"]["Statement"]
        if statement["Action"] == "kms:CreateGrant"
    ]
    assert [s["Condition"] for s in statements] == [{"Bool": {"kms:GrantIsForAWSResource": "true"}}]


def test_more_packages_than_a_lifecycle_script_holds_are_refused():
    stack = Stack(App(), "Stack")
    with pytest.raises(ValueError, match="12288 are allowed"):
        groundplan.SageMakerNotebook(stack, "Notebook", name="n", packages=["a-package==1.0.0"] * 1000)
