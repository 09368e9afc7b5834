"""Corrects a manifest with the labels of a run that labeled some of the manifest's items again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from data_centric.core import manifests
from data_centric.core.manifests import BYTE_ORDER_MARK, MOST_NAMED, Entry, Label
from data_centric.core.runs import RunSettings


@dataclass(frozen=True)
class Corrected:
    manifest: bytes
    """All lines in their order. Lines that the run did not label are unchanged"""
    version: str
    """Version of all labels of the manifest, see `manifests.version`"""
    changed: int
    """Number of items whose class the run changed"""
    confirmed: int
    """Number of items whose class the run confirmed"""
    unanswered: int
    """Number of the run's items that got no new label, and keep their earlier one"""


def corrected(
    body: bytes, run: RunSettings, entries: Sequence[Entry], labels: Mapping[str, Label]
) -> Corrected:
    """Replace labels in a manifest by the labels of a run; return the result.

    Raises `ValueError` if an item of the run is absent from the manifest, and `ManifestError` with every line
    whose label is invalid. Lines that are not in the run need no label.

    :param body: the whole manifest
    :param entries: entries of the run's manifest
    :param labels: the run's labels by item
    """
    wanted = {entry.item: entry.line for entry in entries}
    own = list[Entry]()

    def choice(entry: Entry) -> tuple[str, int] | None:
        if entry.item in wanted:
            own.append(entry)
        elif run.attribute not in entry.fields:
            return None
        return entry.item, manifests.choice_of(entry, run.attribute, run.classes)

    choices = dict(each for each in manifests.each(body, choice) if each)
    if absent := sorted(wanted[item] for item in wanted.keys() - choices.keys()):
        named = ", ".join(map(str, absent[:MOST_NAMED]))
        more = f" and {len(absent) - MOST_NAMED} more" if len(absent) > MOST_NAMED else ""
        raise ValueError(
            f"must have every item of the input's manifest, lacks the items of its lines {named}{more}"
        )
    lines, changed, confirmed = manifests.lines_of(body), 0, 0
    for entry in own:
        if label := labels.get(entry.item):
            same = label.choice == choices[entry.item]
            changed, confirmed = changed + (not same), confirmed + same
            choices[entry.item] = label.choice
            lines[entry.line - 1] = manifests.labeled([entry], run.attribute, labels).rstrip(b"\n")
    mark = BYTE_ORDER_MARK if body.startswith(BYTE_ORDER_MARK) else b""
    version = manifests.version_of((item, each, run.classes[each]) for item, each in choices.items())
    unanswered = len(own) - changed - confirmed
    return Corrected(mark + b"\n".join(lines), version, changed, confirmed, unanswered)
