"""Reads the input of a labeling run, and the run's manifests from S3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data_centric.aws import environment
from data_centric.core import corrections, intake
from data_centric.core.corrections import Corrected
from data_centric.core.intake import MOST_BYTES, InputError, Intake
from data_centric.core.manifests import Label
from data_centric.core.runs import RunSettings


def read(given: Any, run: RunSettings | None = None) -> Intake:
    """Return the run that the input of a state machine execution describes. Raises `InputError`.

    :param run: settings of the stored run; None: a new run
    """
    objects = environment.objects()
    asked = intake.request(given, objects.places)
    manifests = list[bytes | None]()
    for name, key in (("manifest", asked.manifest), ("gold_manifest", asked.gold_manifest)):
        try:
            manifests.append(objects.read(key, MOST_BYTES) if key else None)
        except ValueError as error:
            raise InputError(f"{name}: {error}") from None
    manifest, gold = manifests
    return intake.intake(asked, manifest or b"", gold, environment.defaults(), objects.places, run)


def corrected(found: Intake, labels: Mapping[str, Label]) -> Corrected | None:
    """Return the manifest that a run corrects, with the run's labels in place of earlier ones.

    None if the run corrects no manifest. Raises `InputError`.
    """
    if found.corrects is None:
        return None
    try:
        body = environment.objects().read(found.corrects, MOST_BYTES)
        return corrections.corrected(body, found.run, found.entries, labels)
    except ValueError as error:
        raise InputError(f"corrects: {error}") from None
