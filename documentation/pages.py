"""Regenerate the generated parts of the documentation: `make pages`, after a synthesis.

- `docs/NAME/stack.svg` of every architecture, drawn from its template
- the tables of alarms in `docs/operations.md`, from the templates
- `docs/constructs/NAME.svg` of every construct, and the reference sections of its page
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from typing import Any

import architectures
from documentation import constructs, diagram
from tooling.envs import ROOT

OPERATIONS = ROOT / "docs" / "operations.md"
COMPARED = {"GreaterThanThreshold": "above", "LessThanThreshold": "below"}


def alarms(template: Mapping[str, Any], stack_name: str) -> str:
    """Return the table of a template's alarms."""
    rows = ["| alarm | raised when | meaning, and what to do first |", "| --- | --- | --- |"]
    for name, resource in template["Resources"].items():
        if resource["Type"] == "AWS::CloudWatch::Alarm":
            alarm = resource["Properties"]
            title = re.sub(r"^Pager|[0-9A-F]{8}$", "", name)
            meaning = alarm["AlarmDescription"].removeprefix(f"{stack_name}: ")
            rows.append(f"| `{title}` | {_condition(alarm)} | {meaning[0].upper()}{meaning[1:]} |")
    return "\n".join(rows)


def _condition(alarm: Mapping[str, Any]) -> str:
    inputs = [each["MetricStat"] for each in alarm.get("Metrics", []) if "MetricStat" in each]
    names = [each["Metric"]["MetricName"] for each in inputs] or [alarm["MetricName"]]
    metric = " + ".join(f"`{name.rpartition('/')[2]}`" for name in names)
    statistic = alarm.get("ExtendedStatistic") or alarm.get("Statistic", "Sum").lower()
    minutes = (inputs[0]["Period"] if inputs else alarm["Period"]) // 60
    times = f"{alarm['EvaluationPeriods']} times " if alarm["EvaluationPeriods"] > 1 else ""
    compared = COMPARED[alarm["ComparisonOperator"]]
    return f"{statistic} of {metric} in {times}{minutes} minutes is {compared} {alarm['Threshold']:,}"


def with_alarms(text: str, name: str, table: str) -> str:
    """Return the text of `docs/operations.md` with an alarm table below the heading of the architecture
    `name`."""
    head, heading, rest = text.partition(f"\n### {name}\n")
    if not heading:
        raise ValueError(f"{OPERATIONS.relative_to(ROOT)} must have a heading '### {name}'")
    rest = re.sub(r"\A\n(\|.*\n)*\n*", "", rest)
    return f"{head}{heading}\n{table}\n\n{rest}"


def main() -> int:
    operations = OPERATIONS.read_text()
    for each in architectures.ALL:
        stack_name = each.stack_name("dev")
        template = json.loads((ROOT / "cdk.out" / f"{stack_name}.template.json").read_text())
        operations = with_alarms(operations, each.name, alarms(template, stack_name))
        path = ROOT / "docs" / each.name / "stack.svg"
        path.write_text(diagram.rendered(diagram.draw(template).dot()))
        print(f"  {path.relative_to(ROOT)}")
    OPERATIONS.write_text(operations)
    for name, dot in constructs.pictures().items():
        page = constructs.page(name)
        page.with_suffix(".svg").write_text(diagram.rendered(dot))
        page.write_text(constructs.with_reference(name, page.read_text()))
        print(f"  {page.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
