"""The settings of `personalization` as its functions get them, with some values changed."""

from __future__ import annotations

import json
from typing import Any

from personalization.core.settings import JobSettings, Limits, Pace
from settings import load
from settings.personalization import Personalization
from stacks.personalization import variables

DEFAULT = load({}).of(Personalization)


def job_settings(**changes: Any) -> JobSettings:
    """Return the job settings of the default deployment with `changes` to fields."""
    made: dict[str, Any] = variables.job_settings(DEFAULT, image="image", role="role", tags={})
    made["prompts"] = tuple(made["prompts"])
    return JobSettings(**(made | changes))


def pace(**changes: Any) -> Pace:
    return Pace(**(variables.pace(DEFAULT) | changes))


def limits(**changes: Any) -> Limits:
    return Limits(**(variables.limits(DEFAULT) | changes))


def texts(
    job: dict[str, Any] | None = None,
    limits: dict[str, Any] | None = None,
    pace: dict[str, Any] | None = None,
) -> dict[str, str]:
    """Return the environment variables JOB_SETTINGS, LIMITS and PACE by name; the values are JSON."""
    made = variables.job_settings(DEFAULT, image="image", role="role", tags={})
    return {
        "JOB_SETTINGS": json.dumps(made | (job or {})),
        "LIMITS": json.dumps(variables.limits(DEFAULT) | (limits or {})),
        "PACE": json.dumps(variables.pace(DEFAULT) | (pace or {})),
    }
