"""Draw each stack's diagram from its template: functions, state machines, jobs, data stores, and calls.

    make pages    # docs/NAME/stack.svg of every architecture, after a synthesis

Arrows are permissions and events: an arrow from a function, state machine or job to a table means that the
role of the function, state machine or job allows actions on that table. Roles, policies, log groups, alarms
and dead-letter queues are left out. Custom resources are left out too, because they run only when the stack
changes.
"""

from __future__ import annotations

import re
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tooling import envs

ROOT = envs.ROOT
Resource = Mapping[str, Any]
KINDS = {
    "AWS::Lambda::Function": ("Lambda function", "compute"),
    "AWS::StepFunctions::StateMachine": ("state machine", "flow"),
    "AWS::Events::Rule": ("EventBridge rule", "flow"),
    "AWS::Scheduler::Schedule": ("schedule", "flow"),
    "AWS::SageMaker::Endpoint": ("SageMaker endpoint", "compute"),
    "AWS::SageMaker::Pipeline": ("SageMaker pipeline", "flow"),
    "AWS::SageMaker::NotebookInstance": ("notebook instance", "compute"),
    "AWS::SageMaker::ModelPackageGroup": ("model registry", "data"),
    "AWS::SageMaker::MlflowApp": ("MLflow app", "data"),
    "AWS::S3::Bucket": ("S3 bucket", "data"),
    "AWS::DynamoDB::Table": ("DynamoDB table", "data"),
    "AWS::Athena::WorkGroup": ("Athena workgroup", "data"),
    "AWS::Glue::Database": ("Glue database", "data"),
    "AWS::SecretsManager::Secret": ("secret", "data"),
    "AWS::SSM::Parameter": ("parameter", "data"),
    "AWS::SQS::Queue": ("SQS queue", "data"),
    "AWS::SNS::Topic": ("SNS topic", "flow"),
    "AWS::ApiGatewayV2::Api": ("HTTP API", "edge"),
    "AWS::CloudFront::Distribution": ("CloudFront", "edge"),
    "AWS::Cognito::UserPool": ("Cognito user pool", "edge"),
}
"""Name and color group of each resource type; other types are not drawn"""
JOBS = {
    "sagemaker:CreateTrainingJob": "training jobs",
    "sagemaker:CreateProcessingJob": "processing jobs",
    "sagemaker:CreateHyperParameterTuningJob": "tuning jobs",
    "sagemaker:CreateEndpoint": "endpoint",
    "sagemaker:InvokeEndpoint": "endpoint",
}
"""Name of the jobs or endpoint, by the SageMaker action that creates or invokes them. The template can also
have an endpoint as a resource"""
ENDPOINT, MODEL = "AWS::SageMaker::Endpoint", "AWS::SageMaker::Model"
COLORS = {"compute": "#ed7100", "flow": "#c925a8", "data": "#2e7d32", "edge": "#6b3fd4", "other": "#52606d"}
GLUE = {
    "AWS::Lambda::EventSourceMapping": ("EventSourceArn", "FunctionName"),
    "AWS::ApiGatewayV2::Integration": ("ApiId", "IntegrationUri"),
    "AWS::ApiGatewayV2::Authorizer": ("ApiId", "JwtConfiguration"),
}
"""Types that connect two resources: the properties with the source and the target of the arrow"""


@dataclass
class Drawing:
    """Nodes by id, with their name and type, and arrows between them."""

    nodes: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    """Name, type and color group of each node"""
    arrows: set[tuple[str, str]] = field(default_factory=set)
    own: set[str] = field(default_factory=set)
    """Nodes that are drawn even if they have no arrow. If there are any, all other nodes have dashed
    outlines"""

    def dot(self) -> str:
        """Return the diagram in Graphviz's language."""
        used = {end for arrow in self.arrows for end in arrow} | self.own
        lines = [
            "digraph stack {",
            '  graph [rankdir=LR, bgcolor="transparent", nodesep=0.25, ranksep=0.9, fontname="Helvetica"]',
            '  node [shape=box, style="rounded,filled", fillcolor="#ffffff", fontname="Helvetica",'
            ' fontsize=12, margin="0.14,0.07", penwidth=1.6]',
            '  edge [color="#7b8794", arrowsize=0.7, penwidth=1.1]',
        ]
        for node, (name, kind, group) in sorted(self.nodes.items()):
            if node in used:
                label = f'<{name}<br/><font point-size="9" color="#52606d">{kind}</font>>'
                style = ', style="rounded,filled,dashed"' if self.own and node not in self.own else ""
                lines.append(f'  "{node}" [label={label}, color="{COLORS[group]}"{style}]')
        stored = [
            node for node, (_, _, group) in sorted(self.nodes.items()) if group == "data" and node in used
        ]
        lines += ["  {rank=max; " + "; ".join(f'"{node}"' for node in stored) + "}"] if stored else []
        for source, target in sorted(self.arrows):
            back = " [constraint=false]" if source in stored else ""
            lines.append(f'  "{source}" -> "{target}"{back}')
        return "\n".join([*lines, "}", ""])


def draw(template: Mapping[str, Any]) -> Drawing:
    """Return the diagram of a template."""
    resources: Mapping[str, Resource] = template["Resources"]
    custom = {
        target
        for resource in resources.values()
        if resource["Type"].startswith("Custom::")
        for target in references(resource["Properties"].get("ServiceToken"))
    }
    drawing = Drawing(
        {
            name: (title(name, resource["Type"]), *KINDS[resource["Type"]])
            for name, resource in resources.items()
            if resource["Type"] in KINDS and name not in custom
        }
    )
    rights = rights_of(resources)
    letters = {
        queue
        for resource in resources.values()
        for queue in references(resource["Properties"].get("DeadLetterConfig"))
    }
    drawing.nodes = {name: node for name, node in drawing.nodes.items() if name not in letters}
    for name in [*drawing.nodes]:
        runs = [resources[name]]
        if resources[name]["Type"] == ENDPOINT:  # an endpoint has the role of its models
            runs += [each for each in resources.values() if each["Type"] == MODEL]
        for each in runs:
            _permitted(drawing, name, roles_of(each), rights)
        _triggers(drawing, name, resources[name])
    for resource in resources.values():
        if resource["Type"] in GLUE:
            source, target = (references(resource["Properties"].get(each)) for each in GLUE[resource["Type"]])
            _connect(drawing, source, target)
    return drawing


def resources(found: Mapping[str, Resource], own: set[str]) -> Drawing:
    """Return the diagram of some resources of a template, and of the resources that they refer to.

    A policy is drawn as arrows from its roles to the resources that it names. Lambda permissions are not
    drawn.

    :param own: logical ids of the resources to draw
    """
    hidden = ("AWS::IAM::Policy", "AWS::Lambda::Permission", "AWS::CDK::Metadata")
    shown = {name for name, resource in found.items() if resource["Type"] not in hidden}
    drawing = Drawing(own=own & shown)
    for name in own:
        properties = found[name].get("Properties", {})
        policy = found[name]["Type"] == "AWS::IAM::Policy"
        sources = references(properties["Roles"]) if policy else {name} & shown
        targets = (references(properties) & shown) - sources
        drawing.arrows |= {(source, target) for source in sources for target in targets}
    for name in drawing.own | {end for arrow in drawing.arrows for end in arrow}:
        kind, properties = found[name]["Type"], found[name].get("Properties", {})
        shown_name = properties.get("RouteKey") or properties.get("Endpoint") or title(name, kind)
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind.rpartition("::")[2]).lower()
        words = "custom resource" if kind.startswith("Custom::") else words
        drawing.nodes[name] = (shown_name, *KINDS.get(kind, (words, "other")))
    return drawing


@dataclass
class Rights:
    """The permissions in the policies of a role."""

    targets: set[str] = field(default_factory=set)
    """Resources that the policies' statements name"""
    passed: set[str] = field(default_factory=set)
    """Roles that the role may pass to a service"""
    jobs: set[str] = field(default_factory=set)
    """Names in `JOBS` that the role may create or invoke"""


def rights_of(resources: Mapping[str, Resource]) -> dict[str, Rights]:
    """Return the rights of each role of a template, by the role's logical id."""
    found: dict[str, Rights] = defaultdict(Rights)
    for resource in resources.values():
        if resource["Type"] == "AWS::IAM::Policy":
            properties = resource["Properties"]
            for role in references(properties.get("Roles")):
                for statement in properties["PolicyDocument"]["Statement"]:
                    _add(found[role], statement)
    return found


def _add(rights: Rights, statement: Mapping[str, Any]) -> None:
    if statement.get("Effect") != "Allow":
        return
    actions = statement["Action"]
    actions = [actions] if isinstance(actions, str) else actions
    targets = references(statement.get("Resource"))
    if "iam:PassRole" in actions:
        rights.passed |= targets
    elif not all(action.startswith(("logs:", "kms:", "cloudwatch:")) for action in actions):
        rights.targets |= targets
    rights.jobs |= {JOBS[action] for action in actions if action in JOBS}


def _permitted(drawing: Drawing, name: str, roles: Iterable[str], rights: Mapping[str, Rights]) -> None:
    """Add the arrows that follow from a resource's roles, and nodes for the jobs that the resource
    creates."""
    for role in roles:
        own = rights.get(role, Rights())
        _connect(drawing, [name], own.targets)
        for job in sorted(own.jobs):
            deployed = [node for node, (_, kind, _) in drawing.nodes.items() if kind == KINDS[ENDPOINT][0]]
            if job == "endpoint" and deployed:
                _connect(drawing, [name], deployed)
                continue
            drawing.nodes.setdefault(job, (f"SageMaker {job}", "created by the workflow", "compute"))
            _connect(drawing, [name], [job])
            for passed in own.passed:
                _connect(drawing, [job], rights.get(passed, Rights()).targets)


def _triggers(drawing: Drawing, name: str, resource: Resource) -> None:
    """Add arrows from and to event rules, and to the origins of a distribution."""
    properties = resource["Properties"]
    targets = [each.get("Arn") for each in properties.get("Targets", [])]
    targets += [properties.get("Target", {}).get("Arn"), properties.get("DistributionConfig")]
    _connect(drawing, [name], references(targets))
    if resource["Type"] == "AWS::Events::Rule":
        _connect(drawing, references(properties.get("EventPattern")), [name])


def _connect(drawing: Drawing, sources: Iterable[str], targets: Iterable[str]) -> None:
    known = drawing.nodes
    drawing.arrows |= {(a, b) for a in sources for b in targets if a in known and b in known and a != b}


def roles_of(resource: Resource) -> set[str]:
    """Return the roles that a resource runs with."""
    properties = resource["Properties"]
    names = ("Role", "RoleArn", "ExecutionRoleArn")
    return {role for name in names for role in references(properties.get(name))}


def references(value: Any) -> set[str]:
    """Return the logical ids that a value refers to."""
    return set(_references(value))


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key == "Ref" and isinstance(inner, str):
                yield inner
            elif key == "Fn::GetAtt":
                yield inner[0] if isinstance(inner, list) else inner.partition(".")[0]
            elif key == "Fn::Sub":
                text = inner if isinstance(inner, str) else inner[0]
                yield from re.findall(r"\$\{(\w+)", text)
            else:
                yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def title(logical: str, kind: str) -> str:
    """Return a readable name of a resource, such as `Check run` for `CheckRunFunction8ADB22C5`."""
    name = re.sub(r"[0-9A-F]{8}$", "", logical)
    for word in (kind.rpartition("::")[2], "Resource", "Instance", "Group"):
        if name.endswith(word) and name != word:
            name = name.removesuffix(word)
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z0-9]*|[a-z0-9]+", name)
    kept = [word for number, word in enumerate(words) if word not in words[:number]]
    return " ".join(kept[1:] if kept[0] == "Tables" and len(kept) > 1 else kept).capitalize()


RENDER = """
import { instance } from "@viz-js/viz";
import { readFileSync } from "node:fs";
console.log((await instance()).renderString(readFileSync(0, "utf8"), { format: "svg" }));
"""
SOURCE = re.compile(r"<!-- from the template:\n(.*?)-->", re.DOTALL)


def rendered(dot: str) -> str:
    """Return a diagram as SVG, with its Graphviz source in a comment."""
    envs.cdk()  # installs the packages of package.json
    done = subprocess.run(
        [envs.node() / "node", "--input-type=module", "-e", RENDER],
        input=dot,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    start = done.stdout.index("<svg")
    return f"<!-- from the template:\n{dot}-->\n{done.stdout[start:].strip()}\n"
