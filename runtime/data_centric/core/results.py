"""The results of a run: the labeled manifest, the items without a label, and the report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from data_centric.core import manifests
from data_centric.core.consensus import Consensus
from data_centric.core.divergence import Divergence, divergence
from data_centric.core.manifests import Entry, Label
from data_centric.core.runs import RunSettings
from data_centric.core.tasks import TaskRow
from data_centric.core.workflow import answers_of, estimated


@dataclass(frozen=True)
class Results:
    labels: Mapping[str, Label]
    """By item, without gold questions"""
    version: str
    """Of the labels"""
    labeled: bytes
    """Manifest of the items with a label"""
    unlabeled: bytes
    """Manifest of the others: no answers, or unsure ones only"""
    report: Divergence
    """With gold questions; labelers have their pseudonyms"""


def results(
    run: RunSettings, entries: Sequence[Entry], tasks: Iterable[TaskRow], created: datetime, most: int
) -> Results:
    """Return the results so far.

    :param entries: of the run's manifest
    :param tasks: all of the run's, gold questions included
    :param created: of the labels
    :param most: divided items in the report
    """
    whole = [*tasks]
    estimate = estimated(run, whole)
    labels = {
        entry.item: _label(run, estimate.items[entry.item], created)
        for entry in entries
        if entry.item in estimate.items
    }
    sources = {task.item: task.source for task in whole}
    return Results(
        labels,
        manifests.version(labels),
        manifests.labeled(entries, run.attribute, labels),
        manifests.unlabeled(entries, run.attribute, labels),
        divergence(answers_of(whole), estimate, run.classes, sources, most),
    )


def _label(run: RunSettings, found: Consensus, created: datetime) -> Label:
    return Label(found.choice, run.classes[found.choice], found.confidence, run.name, created)
