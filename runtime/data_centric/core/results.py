"""The results of a run: the labeled manifest, the items without a label, and the report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from data_centric.core import manifests
from data_centric.core.divergence import Divergence, divergence
from data_centric.core.manifests import Entry, Label
from data_centric.core.runs import RunSettings
from data_centric.core.tasks import TaskRow
from data_centric.core.workflow import answers_of, estimated


@dataclass(frozen=True)
class Results:
    labels: Mapping[str, Label]
    """Labels by item, without gold questions"""
    version: str
    """Version of the labels, see `manifests.version`"""
    labeled: bytes
    """Manifest of the labeled items"""
    unlabeled: bytes
    """Manifest of the unlabeled items, which have no task, no answers or only unsure answers"""
    report: Divergence
    """Divergence report, gold questions included; labelers appear by pseudonym"""


def results(
    run: RunSettings,
    entries: Sequence[Entry],
    tasks: Iterable[TaskRow],
    labels: Mapping[str, Label],
    most: int,
) -> Results:
    """Return the results of a run.

    :param entries: entries of the run's manifest
    :param tasks: all tasks of the run, gold questions included
    :param labels: consolidated labels by item
    :param most: maximum number of disputed items in the report
    """
    whole = [*tasks]
    sources = {task.item: task.source for task in whole}
    return Results(
        labels,
        manifests.version(labels),
        manifests.labeled(entries, run.attribute, labels),
        manifests.unlabeled(entries, run.attribute, labels),
        divergence(answers_of(whole), estimated(run, whole), run.classes, sources, most),
    )
