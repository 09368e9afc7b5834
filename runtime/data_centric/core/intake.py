"""Validation of a labeling run's input, before anything is written."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from data_centric.core import manifests, reviews
from data_centric.core.manifests import REFERENCE, Entry, ManifestError
from data_centric.core.places import INPUTS, LABELS, Places, result
from data_centric.core.predictions import Predictions, Selection, select
from data_centric.core.runs import Rates, RunSettings

MOST_BYTES = 64 * 2**20
"""Maximum size of a manifest in bytes, because the Lambda function reads it into memory."""
FIELDS = (
    "name",
    "manifest",
    "gold_manifest",
    "corrects",
    "settings",
    "predictions",
    "instructions",
    "kind",
    "group",
    "estimate_only",
)
OWN = ("name", "instructions", "kind", "group")
"""Settings of `RunSettings` that are top-level fields of the input."""


class InputError(ValueError):
    """The input of a run is invalid. The message names the field and what is allowed."""


@dataclass(frozen=True)
class Defaults:
    """Settings of the stack: defaults for runs, limits, and rates for the cost estimate."""

    attribute: str
    labels: int
    most_labels: int
    extra_share: float
    """Budget of extra labels, as a share of the regular labels (`labels` for each item)"""
    least_confidence: float
    lease_seconds: int
    gold_every: int
    gold_least: int
    gold_share: float
    most_items: int
    """Maximum number of items in a run"""
    most_hours: int
    """Hours after which a run is closed even if labels are missing"""
    answer_seconds: float
    hourly_wage: float
    """Dollars"""
    answer_dollars: float
    """Dollars for the AWS requests of an answer"""

    @property
    def rates(self) -> Rates:
        return Rates(self.answer_seconds, self.hourly_wage, self.answer_dollars)


@dataclass(frozen=True)
class Request:
    """Input of a run: keys of the manifests, and settings."""

    name: str
    manifest: str
    gold_manifest: str | None
    """None: no gold questions"""
    corrects: str | None
    """Key of the manifest whose labels the run corrects; None: no manifest"""
    predictions: Predictions | None
    """None: the manifest has no predictions, and all its items are labeled"""
    settings: Mapping[str, Any]
    """Settings of `RunSettings` by name"""
    estimate_only: bool
    """Whether only the cost estimate is requested"""


@dataclass(frozen=True)
class Intake:
    """A valid run before it starts."""

    run: RunSettings
    entries: Sequence[Entry]
    gold_entries: Sequence[Entry]
    truths: Mapping[str, int]
    """Class of each gold question, by item"""
    estimate_only: bool = False
    selection: Selection | None = None
    """The selected predictions, if `entries` come from predictions"""
    corrects: str | None = None
    """Key of the manifest whose labels the run corrects; None: no manifest"""


def request(given: Any, places: Places) -> Request:
    """Parse the input of a state machine's execution. Raises `InputError`."""
    if not isinstance(given, Mapping):
        raise InputError(f"the input must be a JSON object, got {given!r}")
    _known("", given, FIELDS)
    for name in ("name", "manifest"):
        if not isinstance(given.get(name), str):
            raise InputError(f"{name} must be a text, got {given.get(name)!r}")
    settings = given.get("settings", {})
    if not isinstance(settings, Mapping):
        raise InputError(f"settings must be a JSON object, got {settings!r}")
    own = [field.name for field in fields(RunSettings) if field.name not in OWN]
    _known("settings.", settings, own)
    classes = settings.get("classes")
    if not isinstance(classes, list) or not all(isinstance(each, str) for each in classes):
        raise InputError(f"settings.classes must be a list of texts, got {classes!r}")
    keys = dict[str, str | None]()
    for name in ("manifest", "gold_manifest", "corrects"):
        try:
            keys[name] = places.key(str(given[name]), INPUTS, LABELS) if given.get(name) else None
        except ValueError as error:
            raise InputError(f"{name} {error}") from None
    whole = {**settings, "classes": tuple(classes)} | {name: given[name] for name in OWN if name in given}
    if not keys["manifest"]:
        raise InputError("manifest must be an S3 address, got an empty text")
    if (keys["corrects"] or "").startswith(result(given["name"], "")):
        raise InputError(f"corrects must not be a result of the run itself, got {given['corrects']!r}")
    estimate_only = given.get("estimate_only", False)
    if type(estimate_only) is not bool:
        raise InputError(f"estimate_only must be true or false, got {estimate_only!r}")
    return Request(
        given["name"],
        keys["manifest"],
        keys["gold_manifest"],
        keys["corrects"],
        _predictions(given),
        whole,
        estimate_only,
    )


def _predictions(given: Mapping[str, Any]) -> Predictions | None:
    found = given.get("predictions")
    if found is None:
        return None
    if not isinstance(found, Mapping):
        raise InputError(f"predictions must be a JSON object, got {found!r}")
    _known("predictions.", found, [field.name for field in fields(Predictions)])
    for name in ("attribute", "at_most_confidence"):
        if name not in found:
            raise InputError(f"predictions must have the field {name}")
    if given.get("kind", "label") != "label":
        raise InputError(f"kind must be label if the input has predictions, got {given['kind']!r}")
    try:
        return Predictions(**found)
    except ValueError as error:
        raise InputError(f"predictions.{error}") from None


def intake(
    asked: Request,
    manifest: bytes,
    gold_manifest: bytes | None,
    defaults: Defaults,
    places: Places,
    run: RunSettings | None = None,
) -> Intake:
    """Check manifests and settings, and return the run.

    Raises `InputError` with every invalid line of a manifest, or with the invalid setting.

    :param run: settings of the stored run; None: a new run, whose settings come from `asked` and `defaults`
    """
    review = asked.settings.get("kind") == "review"
    selection, settings = None, functools.partial(_run, asked, defaults, gold=gold_manifest is not None)
    if asked.predictions:
        selection = _selection(manifest, asked.predictions, run or settings(items=1), places)
        entries = selection.entries
    else:
        entries = _entries("manifest", manifest, review, places)
    if run is None:
        if not 1 <= len(entries) <= defaults.most_items:
            what = "predictions must select" if selection else "manifest must have"
            raise InputError(f"{what} 1 to {defaults.most_items} items, got {len(entries)}")
        run = settings(items=len(entries))
    whole = functools.partial(
        Intake, estimate_only=asked.estimate_only, selection=selection, corrects=asked.corrects
    )
    if gold_manifest is None:
        return whole(run, entries, (), {})
    gold = _entries("gold_manifest", gold_manifest, review, places)
    try:
        labels = manifests.labels_of(gold, run.attribute, run.classes)
    except ManifestError as error:
        raise InputError(f"gold_manifest: {error}") from None
    truths = {item: label.choice for item, label in labels.items()}
    return whole(run, entries, gold, truths)


def _run(asked: Request, defaults: Defaults, items: int, *, gold: bool) -> RunSettings:
    labels = asked.settings.get("labels", defaults.labels)
    extra = math.ceil(items * labels * defaults.extra_share) if type(labels) is int else 0
    usual = {field.name: getattr(defaults, field.name, None) for field in fields(RunSettings)}
    usual = {name: value for name, value in usual.items() if value is not None} | {"extra_labels": extra}
    if not gold:
        usual["gold_every"] = 0
    try:
        if type(labels) is int and "most_labels" not in asked.settings:
            usual["most_labels"] = max(labels, defaults.most_labels)
        return RunSettings(**{**usual, **asked.settings})
    except ValueError as error:
        raise InputError(f"settings: {error}") from None
    except TypeError:  # a value of a wrong type was compared with a number
        raise InputError("settings: every value must have the type of its default") from None


def _selection(body: bytes, asked: Predictions, run: RunSettings, places: Places) -> Selection:
    if asked.attribute == run.attribute:
        raise InputError(
            f"predictions.attribute must differ from the label's attribute, got {asked.attribute!r}"
        )
    try:
        return select(body, asked, run.classes, lambda entry: check_entry(entry, False, places))
    except ManifestError as error:
        raise InputError(f"manifest: {error}") from None


def _entries(name: str, body: bytes, review: bool, places: Places) -> Sequence[Entry]:
    try:
        entries = manifests.parse(body)
    except ManifestError as error:
        raise InputError(f"{name}: {error}") from None
    problems = list[tuple[int, str]]()
    for entry in entries:
        try:
            check_entry(entry, review, places)
        except ValueError as error:
            problems.append((entry.line, str(error)))
    if problems:
        raise InputError(f"{name}: {ManifestError(problems)}")
    return entries


def check_entry(entry: Entry, review: bool, places: Places) -> None:
    """Raise `ValueError` unless labelers may see the entry's pictures, and a review has all its fields."""
    if entry.source_field == REFERENCE:
        _seen(REFERENCE, entry.source, places)
    if review:
        for neighbour in reviews.read(entry.fields.get(reviews.FIELD)).neighbours:
            _seen("a neighbour", neighbour.reference, places)


def _seen(what: str, address: str, places: Places) -> None:
    try:
        places.key(address, INPUTS)
    except ValueError as error:
        raise ValueError(f"{what} {error}") from None


def _known(prefix: str, given: Mapping[str, Any], allowed: Sequence[str]) -> None:
    if unknown := sorted(set(given) - set(allowed)):
        raise InputError(f"{prefix}{unknown[0]} is an unknown field, must be one of: {', '.join(allowed)}")
