"""The templates as last agreed, with the hashes of assets masked.

A rebuild of the code must not move a logical id: CloudFormation would replace the resource, and with it the
data, or fail on its physical name. Where a template is meant to change, write the snapshots anew and review
their diff: `.groundplan/envs/app/bin/python -m pytest tests/synth/test_snapshots.py --snapshot-update`.
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
    """Snapshots that lie in the folder of the architecture that a test is given by `name`."""

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
