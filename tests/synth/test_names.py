"""Physical names: the names of two stacks of one architecture do not collide, and each leaves room for
suffixes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from aws_cdk import App, Stage

import architectures
from settings import SettingsError, load
from settings.loading import KINDS
from tests.synth.conftest import stack_of
from tests.synth.template import NAMED, flat

ENDPOINTS = [each.name for each in architectures.ALL if "endpoint_name" in KINDS[each.name].model_fields]
"""Architectures with a setting for the endpoint's name"""


def names(template: Path) -> set[tuple[str, str]]:
    return {
        (resource["Type"], flat(resource["Properties"][NAMED[resource["Type"]]]))
        for resource in json.loads(template.read_text())["Resources"].values()
        if NAMED.get(resource["Type"]) in resource.get("Properties", {})
    }


@pytest.mark.parametrize("name", architectures.BY_NAME)
def test_two_stages_of_one_account_share_no_name(name: str, tmp_path: Path) -> None:
    # given the same stack in two stages
    app, settings = App(outdir=str(tmp_path)), load({})
    for stage in ("blue", "green"):
        stack_of(Stage(app, stage), name, settings)

    # when
    app.synth()

    # then all names differ, except the names given in settings
    chosen = {value for _, value in getattr(settings, name) if isinstance(value, str)}
    (blue,), (green,) = (tmp_path.glob(f"assembly-{stage}/*.template.json") for stage in ("blue", "green"))
    assert len(names(blue)) == len(names(green))
    assert {physical for _, physical in names(blue) & names(green)} <= chosen


def accepts(name: str, endpoint_name: str) -> bool:
    """Return whether the settings of an architecture accept a name for its endpoint."""
    try:
        load({f"{name}.endpoint_name": endpoint_name})
    except SettingsError:
        return False
    return True


@pytest.mark.parametrize("name", ENDPOINTS)
def test_stack_takes_the_longest_endpoint_name_of_its_settings(name: str) -> None:
    # given
    longest = max(length for length in range(1, 100) if accepts(name, "g" * length))
    # when
    made = stack_of(App(), name, load({f"{name}.endpoint_name": "g" * longest}))
    # then
    assert made
