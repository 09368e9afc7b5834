"""Snapshots of the templates, with the hashes of assets masked.

A refactoring must not change a logical id: CloudFormation would replace the resource and lose its data, or
the update would fail because the resource's physical name is taken. When a template is meant to change,
update the snapshots and review their diff:
`.groundplan/envs/app/bin/python -m pytest tests/synth/test_snapshots.py --snapshot-update`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.json import JSONSnapshotExtension
from syrupy.location import PyTestLocation

import architectures


class OfArchitecture(JSONSnapshotExtension):
    """Snapshots in the folder of the architecture `name` of a test."""

    @classmethod
    def dirname(cls, *, test_location: PyTestLocation) -> str:
        name = test_location.item.callspec.params["name"]  # pyright: ignore[reportAttributeAccessIssue]
        return str(Path(test_location.filepath).parent / name / "__snapshots__" / test_location.basename)


HASH = re.compile(r"\b[0-9a-f]{64}\b")


@pytest.mark.parametrize("name", architectures.BY_NAME)
def test_template_is_the_one_agreed_on(name: str, assembly: Path, snapshot: SnapshotAssertion) -> None:
    text = (assembly / f"{architectures.BY_NAME[name].stack_name('dev')}.template.json").read_text()
    template: dict[str, Any] = json.loads(HASH.sub("ASSET", text))
    assert template == snapshot(extension_class=OfArchitecture)
