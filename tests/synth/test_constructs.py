"""Rules for every construct of the library."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import App, CfnResource, Stack
from aws_cdk import aws_ecr_assets as assets
from aws_cdk import aws_iam as iam
from aws_cdk.assertions import Template
from constructs import Construct

import architectures
import groundplan
from documentation import constructs as construct_pages
from documentation import diagram
from settings import load
from tests.synth.conftest import CONTEXT, ROOT, stack_of, template
from tests.synth.template import flat, listed, of_type

PUBLIC = [getattr(groundplan, name) for name in groundplan.__all__]
CONSTRUCTS = [item for item in PUBLIC if inspect.isclass(item) and issubclass(item, Construct)]


def props_of(construct: type) -> list[inspect.Parameter]:
    """Return the parameters of `__init__` after `(self, scope, id)`. The signature of the class is that of
    its metaclass, so it cannot be used."""
    return list(inspect.signature(construct.__init__).parameters.values())[3:]


def test_constructs_folder_is_no_package_that_shadows_the_cdks():
    assert not (ROOT / "constructs" / "__init__.py").exists()


@pytest.mark.parametrize("construct", CONSTRUCTS, ids=lambda c: c.__name__)
def test_construct_takes_at_most_seven_props_by_name(construct: type):
    props = props_of(construct)
    assert len(props) <= 7
    assert all(prop.kind is inspect.Parameter.KEYWORD_ONLY for prop in props)


@pytest.mark.parametrize("construct", CONSTRUCTS, ids=lambda c: c.__name__)
def test_docstring_of_a_construct_explains_it_and_every_prop(construct: type):
    text = inspect.getdoc(construct) or ""
    assert text.splitlines()[0].endswith(".")
    for name in (prop.name for prop in props_of(construct)):
        assert f":param {name}: " in text, name


@pytest.mark.parametrize("name", construct_pages.names())
def test_usage_on_a_page_creates_what_the_picture_shows(name: str):
    # given the picture of a documentation page; the picture's file also contains the source of the picture
    found = diagram.SOURCE.search(construct_pages.page(name).with_suffix(".svg").read_text())
    # when the picture is drawn again from the page's example, then its source is the same; if not, run `make
    # pages`
    assert found
    assert found[1] == construct_pages.pictures()[name]


@pytest.mark.parametrize("name", construct_pages.names())
def test_page_of_a_construct_has_the_props_of_the_source(name: str):
    text = construct_pages.page(name).read_text()
    assert construct_pages.with_reference(name, text) == text  # if it fails, run `make pages`


REPEATED = {
    "AWS::ApiGatewayV2::Route",
    "AWS::Athena::NamedQuery",
    "AWS::CloudWatch::Alarm",
    "AWS::Glue::Table",
}
"""Resource types of which a construct creates one for each item of a prop. All resources of such a type count
as one."""


@pytest.mark.parametrize("env", ["dev", "prod"])
@pytest.mark.parametrize("name", architectures.BY_NAME)
def test_construct_creates_at_most_eight_resources(name: str, env: str):
    for construct in stack_of(App(context=CONTEXT), name, load({"env": env})).node.children:
        kinds = [
            each.cfn_resource_type for each in construct.node.find_all() if isinstance(each, CfnResource)
        ]
        once = [kind for kind in kinds if kind not in REPEATED]
        assert len(once) + len(REPEATED & set(kinds)) <= 8, f"{construct.node.path}: {kinds}"


@pytest.mark.parametrize("name", architectures.BY_NAME)
def test_key_is_used_for_alarms_of_this_account_only(name: str, prod_assembly: Path):
    # given
    made = template(prod_assembly, name, "prod")
    keys, alarms = (of_type(made, kind) for kind in ("AWS::KMS::Key", "AWS::CloudWatch::Alarm"))
    # when
    granted = [
        statement
        for key in keys.values()
        for statement in key["Properties"]["KeyPolicy"]["Statement"]
        if "cloudwatch.amazonaws.com" in listed(statement["Principal"].get("Service"))
    ]
    # then
    assert len(granted) == (len(keys) if alarms else 0)
    for statement in granted:
        assert statement["Condition"]["StringEquals"] == {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}
        (source,) = statement["Condition"]["ArnLike"].values()
        assert flat(source) == "arn:<AWS::Partition>:cloudwatch:<AWS::Region>:<AWS::AccountId>:alarm:*"


def test_wildcard_without_a_reason_is_refused_at_synthesis():
    stack = Stack(App(), "Stack")
    role = iam.Role(stack, "Role", assumed_by=iam.AccountRootPrincipal())  # pyright: ignore[reportArgumentType]
    with pytest.raises(
        ValueError, match=re.escape("s3:GetObject on arn:<AWS::Partition>:s3:::x/* must have a reason")
    ):
        groundplan.allow(role, "s3:GetObject", on=[f"arn:{stack.partition}:s3:::x/*"])


def endpoint(instances: groundplan.Instances) -> dict[str, Any]:
    """Return the production variant of a `MultiModelEndpoint`."""
    stack = Stack(App(), "Stack")
    groundplan.MultiModelEndpoint(
        stack,
        "Endpoint",
        name="many",
        image=assets.DockerImageAsset(
            stack, "Image", directory=str(ROOT / "tests/support/containers/hosting")
        ),
        bucket=groundplan.ArtifactBucket(stack, "Data"),
        folder="adapters",
        instances=instances,
    )
    resources = Template.from_stack(stack).to_json()["Resources"].values()
    (config,) = [each for each in resources if each["Type"] == "AWS::SageMaker::EndpointConfig"]
    return config["Properties"]["ProductionVariants"][0]


def test_endpoint_without_a_gpu_has_no_host_image():
    assert "InferenceAmiVersion" not in endpoint(groundplan.Instances(type="ml.m5.xlarge"))


@pytest.mark.parametrize(
    ("instance", "cuda", "reason"),
    [
        ("ml.g5.xlarge", "", "cuda must be one of 12.2, 12.4, 13.0 on ml.g5.xlarge, got ''"),
        (
            "ml.p3.2xlarge",
            "13.0",
            "CUDA 13.0 needs GPUs of compute capability 7.5 or more, ml.p3",
        ),
        ("ml.x9.large", "13.0", "ml.x9.large must be a SageMaker instance type such as ml.g5.xlarge"),
    ],
)
def test_endpoint_whose_gpus_cannot_run_the_image_is_refused(instance: str, cuda: str, reason: str):
    with pytest.raises(ValueError, match=re.escape(reason)):
        endpoint(groundplan.Instances(type=instance, cuda=cuda))
