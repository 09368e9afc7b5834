"""The labeling page on this machine, with the labeling workflow over a table in memory: to work on the page.

python -m tests.support.data_centric.page_server  # sign in as ada@example.org, password "Groundplan-1"
"""

from __future__ import annotations

import io
import json
import random
import re
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from PIL import Image, ImageDraw

from data_centric.core import manifests, workflow
from data_centric.core.labelers import pseudonym
from data_centric.core.manifests import Entry
from data_centric.core.runs import RunSettings
from data_centric.core.workflow import Assignment, BlockedError, BusyError, Desk, NoRunError, NoTaskError
from tests.support import sites
from tests.support.data_centric.desks import Rows, with_settings
from tests.support.sites import Site

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "web" / "data_centric"
BUCKET = "s3://pictures/"
KEY = b"of the pseudonyms"
ERRORS = {
    BlockedError: (403, "blocked", "Too many of your answers to known items are wrong."),
    NoRunError: (404, "not_found", "There is no such run."),
    NoTaskError: (409, "no_lease", "You do not hold this task any more."),
    BusyError: (503, "busy", "The service is busy. Try again."),
    ValueError: (400, "invalid", "The choice is not a class of the run."),
}


@dataclass
class OpenRun:
    desk: Desk
    kind: str
    instructions: str
    reviews: Mapping[str, Mapping[str, Any]]
    """Reviews by item; a neighbour's `url` is the key of a picture"""


@dataclass
class Service(Site):
    """Runs in memory."""

    runs: dict[str, OpenRun] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    ahead: float = 0.0
    """Seconds of the service's clock before this machine's"""
    lock: threading.RLock = field(default_factory=threading.RLock)

    def now(self) -> float:
        return time.time() + self.ahead

    def open(
        self,
        settings: RunSettings,
        lines: Sequence[Mapping[str, Any]],
        instructions: str = "",
        *,
        gold: Mapping[str, int] | None = None,
        reviews: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> OpenRun:
        """Open a run on the lines of a manifest.

        :param gold: class of each gold question, by its picture's address
        :param reviews: reviews by the picture's address; a run with reviews is a review
        """
        desk = Desk(Rows(), settings, self.now)
        known = _entries([{"source-ref": source} for source in gold or {}])
        truths = {entry.item: (gold or {})[entry.source] for entry in known}
        entries = _entries(lines)
        workflow.load(desk, entries, known, truths)
        by_item = {entry.item: (reviews or {}).get(entry.source, {}) for entry in entries}
        run = OpenRun(desk, "review" if reviews else "label", instructions, by_item)
        self.runs[settings.name] = run
        return run

    def close(self, run: str) -> None:
        """Close a run: labelers do not see it any more."""
        del self.runs[run]

    def picture(self, name: str, image: Image.Image) -> str:
        """Store a picture; return its address."""
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        self.objects[name] = buffer.getvalue()
        return BUCKET + name

    def answers(self, run: str) -> dict[str, dict[str, int | None]]:
        """Return the answers by source and labeler's address."""
        names = {_labeler(user): user for user in self.passwords}
        return {
            task.source.removeprefix(BUCKET): {names[each]: choice for each, choice in task.answers.items()}
            for task in self.runs[run].desk.table.tasks(run)
            if task.answers
        }

    def request(
        self, method: str, path: str, query: str, user: str, body: bytes
    ) -> tuple[int, Any, Mapping[str, str]]:
        with self.lock:
            self.calls.append(f"{method} {path}")
            try:
                found = self._found(method, path, _labeler(user), json.loads(body or b"{}"))
            except (BlockedError, NoRunError, NoTaskError, BusyError, ValueError) as error:
                status, code, message = ERRORS[type(error)]
                wait = {"Retry_After": "1"} if status == 503 else {}
                return status, {"error": {"code": code, "message": message}}, wait
        return (204 if found is None else 200), found, {}

    def _found(self, method: str, path: str, labeler: str, body: Mapping[str, Any]) -> Any:
        if (method, path) == ("GET", "/api/runs"):
            return {"runs": [self._shown(name, labeler) for name in self.runs]}
        route = re.fullmatch(r"/api/runs/([^/]+)/(task|answers)", path)
        name, what = (unquote(route[1]), route[2]) if route else ("", "")
        if method != "POST" or name not in self.runs:
            raise NoRunError
        run = self.runs[name]
        if what == "task":
            task = workflow.next_task(run.desk, labeler)
            return task and self._task(run, task)
        told = workflow.submit(run.desk, labeler, body["item"], body["choice"])
        counts = self._shown(name, labeler)
        return {"result": told} | {key: counts[key] for key in ("done", "items", "complete")}

    def _shown(self, name: str, labeler: str) -> dict[str, Any]:
        run = self.runs[name]
        far = workflow.progress(run.desk)
        done = sum(labeler in task.answers for task in run.desk.table.tasks(name))
        about = {"name": name, "kind": run.kind, "instructions": run.instructions}
        counts = {"done": done, "items": far.items, "complete": far.complete}
        return about | counts | {"classes": list(run.desk.run.classes)}

    def _task(self, run: OpenRun, task: Assignment) -> dict[str, Any]:
        source = {"kind": "text", "text": task.source}
        if task.source_field == manifests.REFERENCE:
            source = {"kind": "image", "url": self._url(task.source)}
        review = dict(run.reviews.get(task.item, {}))
        if review:
            review["neighbours"] = [
                {"url": self._url(each["url"]), "label": each["label"]} for each in review["neighbours"]
            ]
        return {"item": task.item, "until": task.until, "source": source, "review": review or None}

    def _url(self, source: str) -> str:
        return f"{self.storage}/{source.removeprefix(BUCKET)}"


def _labeler(user: str) -> str:
    return pseudonym(f"sub-{user}", KEY)


def _entries(lines: Sequence[Mapping[str, Any]]) -> list[Entry]:
    return manifests.parse("\n".join(map(json.dumps, lines)).encode())


def served(service: Service, port: int = 0) -> AbstractContextManager[str]:
    """Serve the page, and yield its address."""
    return sites.served(service, PAGE, {"selfSignUp": False}, port)


def drawn(number: int, size: tuple[int, int] = (900, 600)) -> Image.Image:
    """Return a picture of a shape: 0 a circle, 1 a square, 2 a triangle."""
    draw = random.Random(number)
    image = Image.effect_noise((size[0] // 4, size[1] // 4), 40).resize(size).convert("RGB")
    side = min(size) * draw.uniform(0.25, 0.4)
    x, y = (draw.uniform(side, length - side) for length in size)
    color = tuple(draw.randrange(40, 220) for _ in range(3))
    pen = ImageDraw.Draw(image)
    sides = (0, 4, 3)[number % 3]
    if sides:
        pen.regular_polygon((x, y, side), sides, fill=color)
    else:
        pen.ellipse((x - side, y - side, x + side, y + side), fill=color)
    return image


def example(service: Service) -> None:
    """Open a run of pictures, a run of texts and a review."""
    shapes = ("circle", "square", "triangle")
    sources = [service.picture(f"shapes/{number}.png", drawn(number)) for number in range(12)]
    known = [service.picture(f"gold/{number}.png", drawn(number)) for number in range(3)]
    service.open(
        with_settings(name="shapes", classes=shapes, labels=2, gold_every=4, lease_seconds=600),
        [{"source-ref": source} for source in sources],
        "Choose the shape that you see.\n\nA square may stand on a corner. Answer “Unsure” if it is cut off.",
        gold={source: number for number, source in enumerate(known)},
    )
    texts = [
        "The parcel came two days late, and nobody answered my letters.",
        "Works as described. I would buy it again.",
        "It is a lamp.",
    ]
    service.open(
        with_settings(name="comments", classes=("good", "neutral", "bad"), lease_seconds=600),
        [{"source": text} for text in texts],
        "Is the customer's comment good, neutral or bad?",
    )
    service.open(
        with_settings(name="shapes-review", classes=shapes, lease_seconds=600),
        [{"source-ref": source} for source in sources[:6]],
        "Decide whether the given label is right.",
        reviews={
            source: {
                "given": shapes[(number + number // 2) % 3],
                "suggested": shapes[number % 3],
                "reason": "The model gives the suggested label 0.97 and the given label 0.01.",
                "neighbours": [
                    {"url": sources[other], "label": shapes[other % 3]}
                    for other in (number + 3, number + 6, (number + 1) % 12)
                ],
            }
            for number, source in enumerate(sources[:6])
        },
    )


if __name__ == "__main__":
    behind = Service()
    example(behind)
    with served(behind, 8000) as address:
        print(address, flush=True)
        threading.Event().wait()
