"""Stop this notebook instance when it has been idle for a given time.

Runs on the instance as root, on the system's Python (3.9 on Amazon Linux 2023) without any package, from the
instance's start to its stop. The idle time begins at the last activity or at the start of this program,
whichever is later:

- A kernel that executes counts as active, however long it takes and whether or not it prints.
- For other kernels and for terminals, Jupyter reports the time of the last activity (`last_activity`). For a
  terminal it is the time of its last output.
- If Jupyter does not answer, the activity is unknown and the instance is left running. If it answered before
  and has not answered for twice the idle time, the instance is stopped.
- If Jupyter has never answered, it may listen at another address: the instance is left running, and the log
  says so.

A failed stop is retried at the next poll. If a stop was accepted but the instance still runs, the stop is
repeated after the idle time has passed again. Each poll logs its decision.
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
"""Timeout of a request to Jupyter."""
STOP_SECONDS = 120
"""Timeout of a call of the AWS CLI."""


class Activity(NamedTuple):
    """The last activity in Jupyter's kernels and terminals."""

    age: float | None
    """Seconds since the last activity, 0 while a kernel executes; None without kernels and terminals."""
    summary: str


class NoAnswerError(Exception):
    """Jupyter did not report its kernels and terminals. The message has the reason."""


class StopError(Exception):
    """The instance could not be stopped. The message has the reason."""


class Watch:
    """Decides, at each poll, whether the instance is stopped.

    `ask` returns the activity or raises `NoAnswerError`; `stop` stops the instance or raises `StopError`;
    `clock` returns the time of a monotonic clock in seconds.
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
        """Get the activity once, and stop the instance if it is idle."""
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
    """Return the activity that the Jupyter server at this URL reports. Raises `NoAnswerError`."""
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
    """Return the JSON list at a path of the server; an empty list if the status is `absent`."""
    address = urlsplit(jupyter)
    host, port = address.hostname or "", address.port
    if address.scheme == "https":
        # not verified: the certificate is self-signed, and the request does not leave the instance
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
    """Return the seconds since a time in Jupyter's format, such as `2026-11-29T10:00:00.123456Z`."""
    at = datetime.fromisoformat(moment.replace("Z", "+00:00"))
    if at.tzinfo is None:
        at = at.replace(tzinfo=timezone.utc)  # noqa: UP017 - Python 3.9
    return max(0.0, time.time() - at.timestamp())


def stop_instance(metadata: Path) -> None:
    """Stop the notebook instance that SageMaker's metadata file describes. Raises `StopError`."""
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
