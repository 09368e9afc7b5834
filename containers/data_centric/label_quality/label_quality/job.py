"""The analysis: finds suspects and redundant examples, and writes files to /opt/ml/processing/output."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from toolkit import sagemaker

from . import crowd, manifests, model, page, redundant, similar, suspects
from .answers import Answers
from .crowd import NONE, Crowd
from .examples import Examples
from .inputs import Inputs
from .manifests import REFERENCE, REVIEW, Line, Manifest, relabeled
from .model import Calibrated
from .settings import Settings
from .similar import Similar
from .suspects import Suspect

log = logging.getLogger(__name__)

OUTPUT = sagemaker.PROCESSING / "output"
NAMED = 100
"""Maximum number of unreadable items that the report names"""


@dataclass(frozen=True)
class Found:
    """All results of a job."""

    examples: Examples
    lines: Sequence[Line]
    """Lines with the labels after consolidation"""
    labels: Any
    """[n], labels after consolidation"""
    names: Sequence[str]
    given: Any
    """[n], labels in the manifest"""
    predictions: Calibrated
    similar: Similar
    suspects: Sequence[Suspect]
    redundant: Any
    """[n] of bool"""
    crowd: Crowd | None
    ignored: int
    """Number of unused answers: those for items that are not analyzed, and those with a class that no
    analyzed item has as its label in the manifest"""


def run(inputs: Inputs, settings: Settings) -> None:
    """Analyze the inputs and write the results."""
    found = analyzed(inputs.examples, inputs.manifest.classes, inputs.answers, settings)
    _write(found, inputs.manifest, settings)
    log.info("suspects=%d redundant=%d", len(found.suspects), int(found.redundant.sum()))


def analyzed(examples: Examples, classes: Mapping[int, str], answered: Answers, settings: Settings) -> Found:
    """Analyze the examples and return the results.

    :param classes: names of the classes by their index in the manifest
    :param answered: the labelers' answers; empty: the manifest's labels are used
    """
    present = sorted({line.choice for line in examples.lines})
    names = [classes[choice] for choice in present]
    given = np.array([present.index(line.choice) for line in examples.lines])
    points = model.embedded(examples.features, settings.seed)
    alike = similar.compare(points, examples.digests, settings.duplicate_distance)
    raw = model.out_of_fold(points, given, alike.groups, len(names), settings.folds, settings.seed)
    labels, lines, people, ignored = given, examples.lines, None, 0
    votes, confidence = np.zeros(raw.shape, int), np.full(len(given), np.nan)
    if answered:
        table, labelers, ignored = _table(examples.lines, answered, names)
        people = crowd.consensus(table, labelers, given, raw)
        labels, votes, confidence = people.labels, people.votes, people.confidence
        lines = [
            _relabeled(line, settings.attribute, people, index, present, names)
            for index, line in enumerate(examples.lines)
        ]
    predictions = model.calibrated(raw, labels)
    known = suspects.Given(labels, predictions.probabilities, alike, names, votes, confidence)
    suspected = suspects.find(known, settings.least_confidence, settings.outlier_distance)
    mask = np.zeros(len(labels), bool)
    mask[[each.index for each in suspected]] = True
    share = settings.redundant_share
    surplus = redundant.find(labels, predictions.probabilities, alike.groups, mask, share)
    return Found(
        examples, lines, labels, names, given, predictions, alike, suspected, surplus, people, ignored
    )


def _table(lines: Sequence[Line], answered: Answers, names: Sequence[str]) -> tuple[Any, list[str], int]:
    """Return the answers [n, M], the M labelers, and the number of ignored answers."""
    labelers = sorted({labeler for own in answered.values() for labeler in own})
    columns = {labeler: column for column, labeler in enumerate(labelers)}
    numbers = {name: number for number, name in enumerate(names)}
    table = np.full((len(lines), len(labelers)), NONE)
    for index, line in enumerate(lines):
        for labeler, name in answered.get(line.source, {}).items():
            table[index, columns[labeler]] = numbers.get(name, NONE)
    used = (table != NONE).any(0)
    ignored = sum(map(len, answered.values())) - int((table != NONE).sum())
    return table[:, used], [name for name, some in zip(labelers, used, strict=True) if some], ignored


def _relabeled(
    line: Line, attribute: str, people: Crowd, index: int, present: Sequence[int], names: Sequence[str]
) -> Line:
    """Return a line with the consensus as its label. A line without answers is unchanged."""
    if not people.votes[index].any():
        return line
    label, human = people.labels[index], bool(people.votes[index, people.labels[index]])
    confidence = float(people.confidence[index])
    return relabeled(line, attribute, present[label], names[int(label)], confidence, human)


def _write(found: Found, manifest: Manifest, settings: Settings) -> None:
    shown = found.suspects[: settings.most_suspects]
    reviews = [_review(found, each) for each in shown]
    kept = [line.fields for line, out in zip(found.lines, found.redundant, strict=True) if not out]
    if found.crowd:
        _save("labels.manifest", manifests.written(line.fields for line in found.lines))
    _save("review.manifest", manifests.written(reviews))
    _save("kept.manifest", manifests.written(kept))
    first = found.suspects[: settings.most_shown]
    _save(
        "suspects.html", page.rendered(found.examples, found.labels, found.names, first, len(found.suspects))
    )
    sagemaker.write_json(OUTPUT / "report.json", report(found, manifest, settings))


def _save(name: str, content: bytes) -> None:
    sagemaker.write_bytes(OUTPUT / name, content)


def _review(found: Found, suspect: Suspect) -> dict[str, Any]:
    review = {
        "kinds": list(suspect.kinds),
        "given": found.names[suspect.given],
        "suggested": found.names[suspect.suggested],
        "reason": suspect.reason,
        # only neighbours with a picture, because the labeling page shows no others
        "neighbours": [
            {line.field: line.source, "label": line.class_name}
            for line in (found.lines[each] for each in suspect.neighbours)
            if line.field == REFERENCE
        ],
    }
    return {**found.lines[suspect.index].fields, REVIEW: review}


def report(found: Found, manifest: Manifest, settings: Settings) -> dict[str, Any]:
    """Return the content of `report.json`."""
    predictions, groups = found.predictions, found.similar.groups
    kinds = [kind for each in found.suspects for kind in each.kinds]
    counts = np.bincount(groups)
    unreadable = found.examples.unreadable
    return {
        "settings": asdict(settings),
        "items": len(found.lines),
        "unlabeled": manifest.unlabeled,
        "unreadable": {"count": len(unreadable), "sources": list(unreadable[:NAMED])},
        "given_version": manifests.version(found.examples.lines),
        "labels_version": manifests.version(found.lines),
        "classes": [
            {
                "name": name,
                "items": int((found.labels == number).sum()),
                "probable_errors": sum(
                    each.given == number and "label" in each.kinds for each in found.suspects
                ),
            }
            for number, name in enumerate(found.names)
        ],
        "model": {
            "accuracy": predictions.accuracy,
            "log_loss": predictions.log_loss,
            "temperature": predictions.temperature,
            "uniform": predictions.uniform,
            "calibration_error": predictions.error,
            "calibration_error_before": predictions.error_before,
        },
        "consensus": _consensus(found, found.crowd) if found.crowd else None,
        "suspects": {
            "count": len(found.suspects),
            **{kind: kinds.count(kind) for kind in suspects.KINDS},
            "first": [
                {
                    "source": found.lines[each.index].source,
                    "kinds": list(each.kinds),
                    "given": found.names[each.given],
                    "suggested": found.names[each.suggested],
                    "probability_given": each.probability_given,
                    "probability_suggested": each.probability_suggested,
                    "reason": each.reason,
                }
                for each in found.suspects[: settings.most_suspects]
            ],
        },
        "duplicates": {
            "groups": int((counts > 1).sum()),
            "items": int(counts[counts > 1].sum()),
            "equal_items": int((np.bincount(found.similar.exact)[found.similar.exact] > 1).sum()),
        },
        "redundant": int(found.redundant.sum()),
    }


def _consensus(found: Found, people: Crowd) -> dict[str, Any]:
    answered = people.majority != NONE
    labels, given, majority = found.labels[answered], found.given[answered], people.majority[answered]
    return {
        "items": int(answered.sum()),
        "answers": int(people.votes.sum()),
        "ignored_answers": found.ignored,
        "confidence": float(people.confidence[answered].mean()),
        "changed": int((labels != given).sum()),
        "equal_to_given": float((labels == given).mean()),
        "equal_to_majority": float((labels == majority).mean()),
        "given_equal_to_majority": float((given == majority).mean()),
        "model_weight": people.model_weight,
        "labelers": [asdict(each) for each in people.labelers],
        "spammers": [each.name for each in people.labelers if each.verdict == "spammer"],
    }
