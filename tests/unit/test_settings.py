"""Settings of every architecture: the defaults, overrides, and one sentence for each invalid value.

`wrong_settings.json` of an architecture has, by path, an invalid value for each setting that architectures do
not share.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import architectures
from settings import Settings, load
from settings.base import Environment
from settings.loading import KINDS
from tests.support.settings import error

ROOT = Path(__file__).resolve().parents[2]
NAMES = list(architectures.BY_NAME)
WRONG_SHARED = {
    "retain": "perhaps",
    "own_key": "2",
    "log_retention_days": "a week",
    "alarm_email": "nobody",
    "subnet_ids": "subnet-1",
    "security_group_ids": "mine",
}


def wrong(name: str) -> dict[str, str]:
    """Return an invalid value for each setting of an architecture, by path."""
    return WRONG_SHARED | json.loads((Path(__file__).parent / name / "wrong_settings.json").read_text())


def group(info: FieldInfo) -> type[BaseModel] | None:
    """Return the class of a field that is a group of settings; None if it is a single setting."""
    kind = info.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def fields(kind: type[BaseModel], above: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield the fields of settings and of their groups, each by its path."""
    for name, info in kind.model_fields.items():
        path = f"{above}{info.alias or name}"
        yield path, info
        if inner := group(info):
            yield from fields(inner, f"{path}.")


GROUPS = [(name, path) for name in NAMES for path, info in fields(KINDS[name]) if group(info)]


def chosen(name: str, context: dict[str, Any]) -> Any:
    """Return the settings of an architecture."""
    return getattr(load(context), name)


def test_default_environment_is_dev():
    assert load({}) == load({"env": "dev"})
    assert load({}).env == "dev"


@pytest.mark.parametrize("env", ["dev", "prod"])
def test_serverless_endpoints_of_all_stacks_fit_into_a_new_account(env: str):
    # the quota of a new account: 10 concurrent invocations for all serverless endpoints together
    assert sum(chosen(name, {"env": env}).serverless_units for name in NAMES) <= 10


@pytest.mark.parametrize("name", NAMES)
def test_prod_keeps_its_data_and_dev_does_not(name: str):
    assert chosen(name, {"env": "prod"}).retain is True
    assert chosen(name, {"env": "dev"}).retain is False


@pytest.mark.parametrize("name", NAMES)
def test_single_values_are_overridden_as_the_command_line_gives_them(name: str):
    found = chosen(
        name,
        {
            f"{name}.retain": "true",
            f"{name}.log_retention_days": "90",
            f"{name}.subnet_ids": "subnet-0123abcd, subnet-0123abce",
            f"{name}.security_group_ids": "sg-0123abcd",
        },
    )
    changed = {
        "retain": True,
        "log_retention_days": 90,
        "subnet_ids": ("subnet-0123abcd", "subnet-0123abce"),
        "security_group_ids": ("sg-0123abcd",),
    }
    assert found.model_dump() == chosen(name, {}).model_dump() | changed


@pytest.mark.parametrize("name", NAMES)
def test_number_from_a_list_must_be_on_the_list(name: str):
    path = f"{name}.log_retention_days"
    assert error({path: "8"}).startswith(f"{path} must be one of 1, ")


@pytest.mark.parametrize("name", NAMES)
def test_override_replaces_the_environments_value(name: str):
    assert chosen(name, {"env": "prod", f"{name}.retain": "false"}).retain is False
    assert chosen(name, {"env": "prod"}).retain is True


def test_context_of_the_cdk_is_ignored():
    assert load({"@aws-cdk/core:checkSecretUsage": True, "aws:cdk:x": 1, "availability-zones": []}) == load(
        {}
    )


@pytest.mark.parametrize("key", ["retain", "misspelt.retain", "prod.retain"])
def test_setting_without_an_architecture_is_refused(key: str):
    assert error({key: "true"}) == (
        f"{key} must begin with the name of an architecture, such as {NAMES[0]}.retain"
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_has_an_invalid_value_to_test(name: str):
    assert set(wrong(name)) == {path for path, info in fields(KINDS[name]) if not group(info)}


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [(name, path, value) for name in NAMES for path, value in wrong(name).items()],
)
def test_invalid_value_is_refused_with_the_allowed_ones(name: str, path: str, value: str):
    allowed = dict(fields(KINDS[name]))[path].description
    assert error({f"{name}.{path}": value}) == f"{name}.{path} must be {allowed}, got {value!r}"


@pytest.mark.parametrize("value", ["stage", "", 7, None, ["dev"]])
def test_unknown_environment_is_refused_with_the_existing_ones(value: Any):
    assert error({"env": value}) == f"env must be dev or prod, got {value!r}"


def test_unknown_architecture_is_refused_with_the_existing_ones():
    first, second, *_ = NAMES
    assert load({"only": f"{second}, {first}"}).only == (second, first)
    allowed = f"architectures to synthesize, comma separated, of {', '.join(NAMES)}"
    assert error({"only": f"{first},weather"}) == f"only must be {allowed}, got 'weather'"
    assert error({"only": ""}) == f"only must be {allowed}, got []"


@pytest.mark.parametrize("name", NAMES)
def test_unknown_setting_is_refused_with_the_existing_ones(name: str):
    allowed = ", ".join(info.alias or field for field, info in KINDS[name].model_fields.items())
    assert error({f"{name}.keep": "true"}) == f"{name}.keep is not a setting, must be one of: {allowed}"


@pytest.mark.parametrize(("name", "path"), GROUPS)
def test_unknown_field_of_a_group_is_refused_with_its_fields(name: str, path: str):
    inner = group(dict(fields(KINDS[name]))[path])
    assert inner
    allowed = ", ".join(info.alias or field for field, info in inner.model_fields.items())
    assert (
        error({f"{name}.{path}.no": "2"}) == f"{name}.{path}.no is not a setting, must be one of: {allowed}"
    )


@pytest.mark.parametrize("name", NAMES)
def test_architecture_is_set_field_by_field(name: str):
    assert error({name: {"retain": True}}) == f"{name} is set one field at a time, such as {name}.retain=true"


@pytest.mark.parametrize(("name", "path"), GROUPS)
def test_group_is_set_field_by_field(name: str, path: str):
    assert error({f"{name}.{path}": "x"}) == f"{name}.{path} must be set one field at a time, got 'x'"


@pytest.mark.parametrize("name", NAMES)
def test_subnets_and_security_groups_are_required_together(name: str):
    assert error({f"{name}.subnet_ids": "subnet-0123abcd"}) == (
        f"{name}.security_group_ids must be given together with subnet_ids, got none"
    )
    assert error({f"{name}.security_group_ids": "sg-0123abcd"}) == (
        f"{name}.subnet_ids must be given together with security_group_ids, got none"
    )


@pytest.mark.parametrize("name", NAMES)
def test_all_invalid_values_are_reported_at_once(name: str):
    values = {f"{name}.{path}": value for path, value in wrong(name).items()}
    lines = error({"env": "stage"} | values).splitlines()
    assert sorted(line.partition(" ")[0] for line in lines) == sorted(["env", *values])


@pytest.mark.parametrize("name", NAMES)
def test_every_field_documents_its_allowed_values(name: str):
    for path, info in fields(KINDS[name]):
        assert info.description or group(info), path


def test_environments_name_only_settings_that_exist():
    for env in get_args(Environment):
        assert isinstance(load({"env": env}), Settings)
    assert {env for kind in KINDS.values() for env in kind.ENVIRONMENTS} <= set(get_args(Environment))


def test_app_prints_one_sentence_and_exits_with_1(tmp_path: Path):
    context = json.dumps({f"{NAMES[0]}.retain": "perhaps"})
    done = subprocess.run(
        [sys.executable, str(ROOT / "app.py")],
        cwd=tmp_path,
        env=os.environ | {"CDK_CONTEXT_JSON": context, "CDK_OUTDIR": str(tmp_path / "out")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == error(json.loads(context))
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "out").glob("*"))
