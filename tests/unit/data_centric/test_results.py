"""A run from its input manifest to its output manifests."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime

from data_centric.core import hooks, manifests
from data_centric.core.labelers import pseudonym
from data_centric.core.results import Results, results
from tests.support.data_centric.desks import World

NOW = datetime(2026, 11, 30, 4, 0, tzinfo=UTC)
IDENTITIES = ("ann@example.com", "bob@example.com")


def labeled_run() -> tuple[World, Results]:
    """Return a run of three items, and its results. Two labelers agree on two items, and both are unsure
    about the third."""
    world = World(3)
    for identity in IDENTITIES:
        name = pseudonym(identity, b"secret")
        while item := world.next(name):
            world.submit(name, item, None if item == world.entries[2].item else 1)
    return world, results_of(world)


def results_of(world: World) -> Results:
    """Return the results with labels by the default post-annotation function."""
    labels = {}
    for payload in hooks.payloads(world.run, world.tasks):
        response = hooks.consolidated(hooks.post_request("job", world.run, "s3://x/y"), payload)
        labels |= hooks.labels(world.run, world.entries, response, NOW)
    return results(world.run, world.entries, world.tasks, labels, 10)


def test_labels_are_written_as_a_manifest() -> None:
    world, found = labeled_run()
    entries = manifests.parse(found.labeled)
    assert [entry.source for entry in entries] == [entry.source for entry in world.entries[:2]]
    labels = manifests.labels_of(entries, "animal", world.run.classes)
    assert {label.class_name for label in labels.values()} == {"dog"}
    assert {label.job for label in labels.values()} == {"animals"}
    assert found.version == manifests.version(labels)


def test_items_without_a_label_are_in_the_unlabeled_manifest() -> None:
    world, found = labeled_run()
    assert [entry.item for entry in manifests.parse(found.unlabeled)] == [world.entries[2].item]
    assert (found.report.items, found.report.unlabeled, found.report.unsure) == (2, 1, 2)


def test_no_labeler_is_named_in_the_manifests() -> None:
    _, found = labeled_run()
    names = [name for identity in IDENTITIES for name in (identity, pseudonym(identity, b"secret"))]
    for manifest in (found.labeled, found.unlabeled):
        assert not any(name.encode() in manifest for name in names)
    report = json.dumps(asdict(found.report))
    assert not any(identity in report for identity in IDENTITIES)


def test_unfinished_run_has_the_results_so_far() -> None:
    world = World(3)
    found = results_of(world)
    assert (found.labels, found.labeled, len(manifests.parse(found.unlabeled))) == ({}, b"", 3)
    assert (found.report.agreement, found.report.alpha, found.report.labelers) == (None, None, [])
