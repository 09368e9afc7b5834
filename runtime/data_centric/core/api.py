"""Operations of the HTTP API for labelers and operators. They check the user's permissions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from data_centric.core import workflow
from data_centric.core.http import Answer, Call, HttpError, busy, invalid, not_found
from data_centric.core.labelers import pseudonym
from data_centric.core.manifests import REFERENCE
from data_centric.core.reviews import Review
from data_centric.core.runs import NAME, RunSettings
from data_centric.core.tasks import LabelerRow, RunRow
from data_centric.core.workflow import (
    Assignment,
    BlockedError,
    BusyError,
    Desk,
    NoRunError,
    NoTaskError,
    Table,
)

OPERATORS = "operators"
"""Group of the users who may see a run's progress."""
PICTURE_SECONDS = 900
"""Maximum validity of a picture's URL. The URL expires with the lease, if the lease ends earlier."""
COUNT_SECONDS = 10
"""Time for which the number of incomplete tasks is cached, because counting reads all of them."""


class Pictures(Protocol):
    def address(self, reference: str, seconds: int) -> str:
        """Return a URL from which a browser can download the object of an S3 address for `seconds`."""
        ...


@dataclass
class Service:
    table: Table
    pictures: Pictures
    key: bytes
    """Secret key from which the labelers' pseudonyms are computed"""
    now: Callable[[], float]
    """Returns the seconds since 1970-01-01 UTC"""
    count: Callable[[str, float], None] = lambda name, value: None
    """Emits a metric"""
    _counted: dict[str, tuple[float, int]] = field(default_factory=dict)
    """(time of the count, number of incomplete tasks), by run"""

    def incomplete(self, run: str) -> int:
        """Return the number of tasks that need labels, from a count at most `COUNT_SECONDS` old."""
        at, found = self._counted.get(run, (0.0, 0))
        if self.now() - at > COUNT_SECONDS:
            at, found = self.now(), self.table.incomplete(run)
            self._counted[run] = (at, found)
        return found


def answer(service: Service, operation: str, call: Call) -> Answer:
    """Answer a request. Raises `HttpError`."""
    try:
        return _OPERATIONS[operation](service, call)
    except NoRunError:
        raise not_found() from None
    except BusyError:
        raise busy() from None
    except BlockedError:
        service.count("Refused", 1)
        raise HttpError(
            403, "blocked", "Too many of your answers to test questions were wrong. Ask the run's operator."
        ) from None
    except NoTaskError:
        raise HttpError(
            409, "no_lease", "This task is not assigned to you: its time ended, or you never had it."
        ) from None


def _list(service: Service, call: Call) -> Answer:
    rows = (service.table.run(name) for name in service.table.open_runs())
    shown = [_shown(service, row, call) for row in rows if row and row.status == "open" and _may(row, call)]
    return Answer(200, {"runs": shown})


def _task(service: Service, call: Call) -> Answer:
    desk = _desk(service, _row(service, call))
    found = workflow.next_task(desk, _labeler(service, call))
    return Answer(200, _given(service, found)) if found else Answer(204)


def _submit(service: Service, call: Call) -> Answer:
    row, labeler = _row(service, call), _labeler(service, call)
    desk, choice = _desk(service, row), call.body["choice"]
    if choice is not None and choice >= len(desk.run.classes):
        last = len(desk.run.classes) - 1
        raise invalid("choice", f"choice must be a whole number from 0 to {last}, or null, got {choice}")
    result = workflow.submit(desk, labeler, call.body["item"], None if choice is None else int(choice))
    if result == "kept":
        service.count("Answers", 1)
    return Answer(200, {"result": result, **_counts(service, row, labeler)})


def _progress(service: Service, call: Call) -> Answer:
    if OPERATORS not in call.groups:
        raise HttpError(403, "forbidden", f"Only members of the group {OPERATORS} may see a run's progress.")
    row = _stored(service, call)
    return Answer(200, asdict(workflow.progress(_desk(service, row))))


_OPERATIONS: Mapping[str, Callable[[Service, Call], Answer]] = {
    "listRuns": _list,
    "nextTask": _task,
    "submitAnswer": _submit,
    "getProgress": _progress,
}


def _row(service: Service, call: Call) -> RunRow:
    """Return the run that the call names. Raises `HttpError` unless it exists and the user may label it."""
    row = _stored(service, call)
    if not _may(row, call):
        raise not_found()
    return row


def _stored(service: Service, call: Call) -> RunRow:
    name = call.path.get("run", "")
    row = service.table.run(name) if NAME.fullmatch(name) else None
    if row is None:
        raise not_found()
    return row


def _desk(service: Service, row: RunRow) -> Desk:
    return Desk(service.table, RunSettings.from_json(row.settings), service.now)


def _may(row: RunRow, call: Call) -> bool:
    group = RunSettings.from_json(row.settings).group
    return not group or group in call.groups


def _labeler(service: Service, call: Call) -> str:
    return pseudonym(call.user, service.key)


def _shown(service: Service, row: RunRow, call: Call) -> dict[str, Any]:
    run = RunSettings.from_json(row.settings)
    return {
        "name": run.name,
        "kind": run.kind,
        "instructions": run.instructions,
        "classes": list(run.classes),
        **_counts(service, row, _labeler(service, call)),
    }


def _counts(service: Service, row: RunRow, labeler: str) -> dict[str, int]:
    """Return three counts: the labeler's answers (gold questions included), the run's items, and the items
    that have all their labels."""
    me = service.table.labeler(row.run, labeler) or LabelerRow(row.run, labeler)
    complete = max(row.items - service.incomplete(row.run), 0)
    return {"done": me.submitted, "items": row.items, "complete": complete}


def _given(service: Service, found: Assignment) -> dict[str, Any]:
    seconds = int(min(max(found.until - service.now(), 1), PICTURE_SECONDS))

    def address(reference: str) -> str:
        return service.pictures.address(reference, seconds)

    if found.source_field == REFERENCE:
        source = {"kind": "image", "url": address(found.source)}
    else:
        source = {"kind": "text", "text": found.source}
    review = _review(found.review, address) if found.review else None
    return {"item": found.item, "until": found.until, "source": source, "review": review}


def _review(review: Review, address: Callable[[str], str]) -> dict[str, Any]:
    return {
        "given": review.given,
        "suggested": review.suggested,
        "reason": review.reason,
        "neighbours": [{"url": address(each.reference), "label": each.label} for each in review.neighbours],
    }
