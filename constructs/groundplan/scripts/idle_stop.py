"""Stop this notebook instance once nothing on it has been active for a while.

Runs on the instance as root, on the system's Python (3.9 on Amazon Linux 2023) without any package, from the
instance's start to its stop. The time is counted from the last activity, or from the start of this program:

- A kernel that is executing is active now, however long it takes and whatever it prints.
- Another kernel, or a terminal, was active when Jupyter says so (`last_activity`). A terminal's is the last
  time it printed something.
- Without an answer from Jupyter nothing is known, so nothing is stopped; but a Jupyter that has answered
  before and is silent for twice the time is of no use to anybody, and the instance is stopped.
- A Jupyter that has never answered may listen elsewhere: the instance is left running, and the log says so.

A stop that fails is tried again at the next poll; one that was accepted and did not happen, after the same
time once more. Each poll logs its decision.
"""

from __future__ import annotations

import argparse
import http.client
import json
import ssl
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable, NamedTuple  # noqa: UP035 - Python 3.9
from urllib.parse import urlsplit

ANSWER_SECONDS = 20
"""How long Jupyter may take for one answer."""
STOP_SECONDS = 120
"""How long the AWS CLI may take for its call."""


class Activity(NamedTuple):
    """What Jupyter knows of its kernels and terminals."""

    age: float | None
    """Seconds since the last activity, 0 while a kernel executes; None without a kernel or a terminal."""
    summary: str


class NoAnswerError(Exception):
    """Jupyter did not say what runs in it; the text says why."""


class StopError(Exception):
    """The instance was not stopped; the text says why."""


class Watch:
    """Decides, at each poll, whether the instance is stopped.

    `ask` returns the activity or raises `NoAnswerError`; `stop` stops the instance or raises `StopError`;
    `clock` returns seconds that only grow.
    """

    def __init__(
        self,
        idle_seconds: float,
        ask: Callable[[], Activity],
        stop: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.idle_seconds, self.ask, self.stop, self.clock = idle_seconds, ask, stop, clock
        self.active_at = self.answered_at = clock()
        self.has_answered = False

    def poll(self) -> None:
        """Ask once, and stop the instance where it is idle."""
        try:
            activity = self.ask()
        except NoAnswerError as error:
            self._unanswered(str(error))
            return
        now = self.clock()
        self.has_answered, self.answered_at = True, now
        if activity.age is not None:
            self.active_at = max(self.active_at, now - activity.age)
        idle = now - self.active_at
        if idle < self.idle_seconds:
            say(f"{activity.summary}; {_minutes(idle)} of {_minutes(self.idle_seconds)} idle: keep running")
        else:
            self._stop(f"{activity.summary}; {_minutes(idle)} idle")

    def _unanswered(self, reason: str) -> None:
        silent = self.clock() - self.answered_at
        if not self.has_answered:
            say(f"Jupyter has never answered ({reason}): keep running")
        elif silent < 2 * self.idle_seconds:
            limit = _minutes(2 * self.idle_seconds)
            say(f"no answer from Jupyter ({reason}) for {_minutes(silent)} of {limit}: keep running")
        else:
            self._stop(f"no answer from Jupyter ({reason}) for {_minutes(silent)}")

    def _stop(self, why: str) -> None:
        say(f"{why}: stop")
        try:
            self.stop()
        except StopError as error:
            say(f"the stop failed, the next poll decides again: {error}")
            return
        say("the stop was accepted")
        self.active_at = self.answered_at = self.clock()


def activity_of(jupyter: str) -> Activity:
    """Return what the server at the address knows. Raises `NoAnswerError`."""
    kernels = _get(jupyter, "/api/kernels")
    terminals = _get(jupyter, "/api/terminals", absent=404)  # a server without terminals
    try:
        busy = sum(kernel["execution_state"] == "busy" for kernel in kernels)
        ages = [_age(each["last_activity"]) for each in (*kernels, *terminals)]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise NoAnswerError(f"an answer that is not Jupyter's: {error!r}") from None
    summary = f"{len(kernels)} kernels, {busy} busy, {len(terminals)} terminals"
    return Activity(0 if busy else min(ages, default=None), summary)


def _get(jupyter: str, path: str, absent: int | None = None) -> list[dict[str, Any]]:
    """Return the list at a path of the server's; an empty one for the status `absent`."""
    address = urlsplit(jupyter)
    host, port = address.hostname or "", address.port
    if address.scheme == "https":
        # The certificate is the instance's own, and the request does not leave it
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        server: http.client.HTTPConnection = http.client.HTTPSConnection(
            host, port, timeout=ANSWER_SECONDS, context=context
        )
    else:
        server = http.client.HTTPConnection(host, port, timeout=ANSWER_SECONDS)
    try:
        server.request("GET", address.path.rstrip("/") + path)
        answer = server.getresponse()
        content = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise NoAnswerError(f"{path}: {type(error).__name__}: {error}") from None
    finally:
        server.close()
    if answer.status == absent:
        return []
    try:
        found = json.loads(content) if answer.status == 200 else None
    except ValueError:
        found = None
    if not isinstance(found, list):
        raise NoAnswerError(f"{path}: status {answer.status}, {len(content)} bytes")
    return found


def _age(moment: str) -> float:
    """Seconds since a time as Jupyter writes it, such as `2026-11-29T10:00:00.123456Z`."""
    at = datetime.fromisoformat(moment.replace("Z", "+00:00"))
    if at.tzinfo is None:
        at = at.replace(tzinfo=timezone.utc)  # noqa: UP017 - Python 3.9
    return max(0.0, time.time() - at.timestamp())


def stop_instance(metadata: Path) -> None:
    """Stop the notebook instance that the metadata file of SageMaker's is about. Raises `StopError`."""
    try:
        about = json.loads(metadata.read_text())
        name, region = about["ResourceName"], about["ResourceArn"].split(":")[3]
        which = ["--notebook-instance-name", name, "--region", region]
        subprocess.run(
            ["aws", "sagemaker", "stop-notebook-instance", *which],
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=STOP_SECONDS,
        )
    except subprocess.CalledProcessError as error:
        raise StopError(" ".join(error.output.split()) or str(error)) from None
    except (OSError, ValueError, LookupError, subprocess.TimeoutExpired) as error:
        raise StopError(f"{type(error).__name__}: {error}") from None


def say(text: str) -> None:
    print(f"[idle stop] {datetime.now().isoformat(timespec='seconds')} {text}", flush=True)


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} minutes"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--idle-minutes", type=float, required=True)
    parser.add_argument("--poll-seconds", type=float, default=60)
    parser.add_argument("--jupyter", default="https://127.0.0.1:8443", help="address of the server")
    parser.add_argument("--metadata", type=Path, default=Path("/opt/ml/metadata/resource-metadata.json"))
    given = parser.parse_args()
    say(f"started on Python {sys.version_info[0]}.{sys.version_info[1]}")
    watch = Watch(
        given.idle_minutes * 60,
        ask=lambda: activity_of(given.jupyter),
        stop=lambda: stop_instance(given.metadata),
    )
    while True:
        watch.poll()
        time.sleep(given.poll_seconds)


if __name__ == "__main__":
    main()
