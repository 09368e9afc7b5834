"""Settings of a deployment, parsed from the CDK's context."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, create_model
from pydantic.fields import FieldInfo

import architectures
from settings.base import ArchitectureSettings, Choices, Environment, SettingsError, split

Chosen = TypeVar("Chosen", bound=ArchitectureSettings)

KINDS: dict[str, type[ArchitectureSettings]] = {
    each.name: architectures.load(each.settings) for each in architectures.ALL
}
"""Settings class by architecture."""


class _App(Choices):
    env: Environment = Field(default="dev", description="dev or prod")
    only: Annotated[
        tuple[Annotated[str, Field(pattern=f"^({'|'.join(KINDS)})$")], ...], BeforeValidator(split)
    ] = Field(
        default=tuple(KINDS),
        min_length=1,
        description=f"architectures to synthesize, comma separated, of {', '.join(KINDS)}",
    )


_FIELDS: dict[str, Any] = {name: (kind, kind()) for name, kind in KINDS.items()}
_Fields = create_model("_Fields", __base__=_App, **_FIELDS)


class Settings(_Fields):
    """Settings of the whole app, and a field for each architecture."""

    def of(self, kind: type[Chosen]) -> Chosen:
        """Return the settings of an architecture by their class."""
        return next(chosen for _, chosen in self if isinstance(chosen, kind))


def load(context: Mapping[str, Any]) -> Settings:
    """Return the settings in the CDK's context: `env`, `only`, and fields as `architecture.field`.

    Ignores the CDK's own keys, which contain characters that names of settings cannot have, and single words
    that are not the name of a field. Raises `SettingsError`.
    """
    env = context.get("env", "dev")
    values: dict[str, Any] = {name: context[name] for name in _App.model_fields if name in context} | {
        name: _copy(kind.ENVIRONMENTS.get(env, {}) if isinstance(env, str) else {})
        for name, kind in KINDS.items()
    }
    problems = []
    for key, value in sorted(context.items()):
        architecture, *path = key.split(".")
        if architecture not in KINDS:
            # otherwise a misspelt setting would silently deploy the default
            meant = _owner(path[-1] if path else key) or (f"{next(iter(KINDS))}.retain" if path else "")
            if meant and re.fullmatch(r"\w+(\.\w+)*", key):
                problems.append(f"{key} must begin with the name of an architecture, such as {meant}")
            continue
        if not path:
            problems.append(f"{key} is set one field at a time, such as {key}.retain=true")
            continue
        *groups, field = path
        inner = values.setdefault(architecture, {})
        for group in groups:
            if not isinstance(inner.get(group), dict):
                inner[group] = {}
            inner = inner[group]
        inner[field] = value
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        problems += dict.fromkeys(_sentence(dict(detail)) for detail in error.errors())
        settings = None
    if settings is not None:
        problems += [
            f"{name}.{problem}" for name in KINDS for problem in getattr(settings, name).contradictions()
        ]
    if problems or settings is None:
        raise SettingsError("\n".join(problems))
    return settings


def _owner(field: str) -> str:
    """Return the full name of a setting from its last part; "" if there is none."""
    return next((f"{name}.{field}" for name, kind in KINDS.items() if field in kind.model_fields), "")


def _copy(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, Mapping) else value for key, value in values.items()}


def _sentence(detail: dict[str, Any]) -> str:
    """Return the error message for one of pydantic's errors."""
    model: type[BaseModel] = Settings
    path, field = [], None
    for part in detail["loc"]:
        path.append(str(part))
        found = _field(model, str(part))
        if found is None:
            if detail["type"] == "extra_forbidden":
                known = ", ".join(info.alias or name for name, info in model.model_fields.items())
                return f"{'.'.join(path)} is not a setting, must be one of: {known}"
            path.pop()  # the message names the list, not the index in it
            break
        field = found
        if isinstance(found.annotation, type) and issubclass(found.annotation, BaseModel):
            model = found.annotation
    allowed = field.description if field and field.description else "set one field at a time"
    if detail["type"] == "instance_type":
        allowed = detail["msg"]
    given = detail["input"]
    return f"{'.'.join(path)} must be {allowed}, got {given!r}"


def _field(model: type[BaseModel], name: str) -> FieldInfo | None:
    return next((info for key, info in model.model_fields.items() if name in (key, info.alias)), None)
