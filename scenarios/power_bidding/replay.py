"""A server that replays real history: the grid operators' APIs and a market, with its own clock."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scenarios import ScenarioError
from scenarios.power_bidding.history import Replay
from tooling import envs

SECONDS = 30
"""Timeout of the server's start, and of its responses."""


@dataclass(frozen=True)
class FeedServer:
    """A running server: its address, its control key, and the secret with which the stack calls it."""

    url: str
    control: str
    secret: dict[str, Any]

    def clock(self, **change: Any) -> dict[str, Any]:
        """Change the clock's `hour`, `step`, `rate` or `paused`, if given, and return the clock."""
        return self._ask("/clock", change or None)

    def fault(self, feed: str, kind: str, **when: Any) -> None:
        """Add a fault of a feed. `when` has the fault's first hour `from`, and more, such as its end `to`."""
        self._ask("/faults", {"feed": feed, "kind": kind} | when)

    def results(self) -> dict[str, Any]:
        """Return all offers, awards and settlements."""
        return self._ask("/results", None, key=self.secret["market"]["key"])

    def _ask(self, path: str, body: dict[str, Any] | None, key: str = "") -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310 - of the server that was started
            self.url + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={"x-api-key": key or self.control, "Content-Type": "application/json"},
            method="GET" if body is None else "POST",
        )
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310
            return json.loads(answer.read())


@contextlib.contextmanager
def replaying(
    replay: Replay, start: str, rate: float, assets: list[dict[str, Any]], folder: Path
) -> Iterator[FeedServer]:
    """Run a server whose clock is stopped at `start`. `rate` is seconds of the replay per real second."""
    listed = folder / "assets.json"
    listed.write_text(json.dumps(assets))
    command = [
        *(sys.executable, "-m", "local.feeds", "--history", str(replay.path), "--zone", replay.zone),
        *("--start", start, "--rate", f"{rate:g}", "--paused", "--assets", str(listed)),
        *("--load", "published"),
    ]
    process = subprocess.Popen(command, cwd=envs.ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout  # noqa: S101 - `stdout` is a pipe
        line = process.stdout.readline()
        if not line:
            raise ScenarioError("the replay server did not start")
        told = json.loads(line)
        yield FeedServer(told["url"], told["control"], told["secret"])
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(SECONDS)
        process.kill()
