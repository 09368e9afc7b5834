"""Serve the labeling page on this machine for development, with the API's own code over a table in memory.

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
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from data_centric.core import api, http, manifests, reviews, workflow
from data_centric.core.http import Answer, HttpError
from data_centric.core.labelers import pseudonym
from data_centric.core.manifests import Entry
from data_centric.core.runs import RunSettings
from data_centric.core.workflow import Desk
from tests.support import sites
from tests.support.data_centric.desks import Rows, with_settings
from tests.support.sites import Site

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "web" / "data_centric"
BUCKET = "s3://pictures/"
KEY = b"of the pseudonyms"


@dataclass
class Service(Site):
    """Labeling runs in memory."""

    table: Rows = field(default_factory=Rows)
    calls: list[str] = field(default_factory=list)
    ahead: float = 0.0
    """Seconds by which the service's clock is ahead of this machine's"""
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
    ) -> None:
        """Open a run on the lines of a manifest. The run is a review if the lines have reviews.

        :param gold: class of each gold question, by its picture's S3 URI
        """
        entries = _entries(lines)
        kind = "review" if reviews.FIELD in entries[0].fields else "label"
        run = replace(settings, kind=kind, instructions=instructions)
        desk = Desk(self.table, run, self.now)
        known = _entries([{"source-ref": source} for source in gold or {}])
        truths = {entry.item: (gold or {})[entry.source] for entry in known}
        workflow.begin(desk, entries, known, truths)
        tasks = {task.item: task for task in workflow.tasks_of(run, (*entries, *known), truths)}
        if kind == "review":
            for entry in entries:
                review = reviews.read(entry.fields[reviews.FIELD]).to_json()
                tasks[entry.item] = replace(tasks[entry.item], review=review)
        workflow.add_tasks(desk, [*tasks.values()])
        workflow.open_run(desk, len(entries))

    def close(self, run: str) -> None:
        """Close a run, so that labelers no longer see it."""
        row = self.table.run(run)
        assert row
        workflow.close_run(Desk(self.table, RunSettings.from_json(row.settings), self.now))

    def picture(self, name: str, image: Image.Image) -> str:
        """Store a picture; return its S3 URI."""
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        self.objects[name] = buffer.getvalue()
        return BUCKET + name

    def answers(self, run: str) -> dict[str, dict[str, int | None]]:
        """Return the answers by the task's source (a picture's key or a text) and the labeler's email
        address."""
        names = {pseudonym(f"sub-{user}", KEY): user for user in self.passwords}
        return {
            task.source.removeprefix(BUCKET): {names[each]: choice for each, choice in task.answers.items()}
            for task in self.table.tasks(run)
            if task.answers
        }

    def address(self, reference: str, seconds: int) -> str:
        """Return the URL of a picture, as `api.Pictures` does."""
        return f"{self.storage}/{reference.removeprefix(BUCKET)}"

    def request(
        self, method: str, path: str, query: str, user: str, body: bytes
    ) -> tuple[int, Any, Mapping[str, str]]:
        run = re.fullmatch(r"/api/runs/([^/]+)/.+", path)
        name = run[1] if run else ""
        event: http.GatewayEvent = {
            "routeKey": f"{method} {path.replace(f'/{name}/', '/{run}/') if run else path}",
            "pathParameters": {"run": name},
            "body": body.decode(),
            "requestContext": {"authorizer": {"jwt": {"claims": {"sub": f"sub-{user}"}}}},
        }
        with self.lock:
            self.calls.append(f"{method} {path}")
            told = self._answer(event)
        return told.status, told.body, told.headers

    def _answer(self, event: http.GatewayEvent) -> Answer:
        try:
            operation, call = http.parse(event)
            # Each request gets a new service with empty counters, as in a new execution environment of the
            # function
            return api.answer(api.Service(self.table, self, KEY, self.now), operation.name, call)
        except HttpError as problem:
            return problem.answer()


def _entries(lines: Sequence[Mapping[str, Any]]) -> list[Entry]:
    return manifests.parse("\n".join(map(json.dumps, lines)).encode())


def served(service: Service, port: int = 0) -> AbstractContextManager[str]:
    """Serve the page, and yield its address."""
    return sites.served(service, PAGE, {"selfSignUp": False}, port)


def drawn(number: int, size: tuple[int, int] = (900, 600)) -> Image.Image:
    """Return a picture of the shape that `number % 3` selects: 0 a circle, 1 a square, 2 a triangle."""
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
        [
            {
                "source-ref": source,
                "review": {
                    "given": shapes[(number + number // 2) % 3],
                    "suggested": shapes[number % 3],
                    "reason": "The model gives the suggested label 0.97 and the given label 0.01.",
                    "neighbours": [
                        {"source-ref": sources[other], "label": shapes[other % 3]}
                        for other in (number + 3, number + 6, (number + 1) % 12)
                    ],
                },
            }
            for number, source in enumerate(sources[:6])
        ],
        "Decide whether the given label is right.",
    )


if __name__ == "__main__":
    behind = Service()
    example(behind)
    with served(behind, 8000) as address:
        print(address, flush=True)
        threading.Event().wait()
