"""Delivery of a container's output to CloudWatch Logs, with the role of its job or endpoint."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

BATCH_EVENTS = 1_000
BATCH_BYTES = 900_000  # CloudWatch Logs allows 1,048,576 bytes, and adds 26 bytes for each event
WAITING = 50_000
"""Maximum number of waiting lines, and of lines in one delivery. If so many lines wait, the output of the
container blocks, as with Docker."""

logger = logging.getLogger(__name__)


class LogWriter:
    """Delivers lines to the streams of one log group every `interval` seconds, in order within each stream.

    If the role may not write logs, the container runs without logs, as on AWS: `problem` and the server's log
    have the error. `close` delivers the remaining lines immediately.

    :param connect: returns the client; called in the writer's thread
    """

    def __init__(self, connect: Callable[[], Any], group: str, interval: float):
        self._connect, self._group, self._interval = connect, group, interval
        self._lines: queue.Queue[tuple[str, int, str] | None] = queue.Queue(WAITING)
        self._streams: set[str] = set()
        self._closing = threading.Event()
        self.problem: str | None = None
        self._thread = threading.Thread(target=self._deliver, name=f"logs {group}", daemon=True)
        self._thread.start()

    def write(self, stream: str, line: str) -> None:
        if line.strip():  # CloudWatch Logs refuses empty messages
            self._lines.put((stream, int(time.time() * 1000), line))

    def close(self) -> None:
        if self._thread.is_alive():
            self._closing.set()
            self._lines.put(None)
            self._thread.join()

    def _deliver(self) -> None:
        client, more = None, True
        while more:
            batch = [self._lines.get()]
            if batch[0] is not None:
                self._closing.wait(self._interval)
            while batch[-1] is not None and len(batch) < WAITING:
                try:
                    batch.append(self._lines.get_nowait())
                except queue.Empty:
                    break
            more = batch[-1] is not None
            if self.problem is None:
                try:
                    client = client or self._connect()
                    self._send(client, [line for line in batch if line is not None])
                except Exception as error:  # a failed delivery must not end a job
                    self.problem = str(error)
                    logger.warning("Could not deliver logs to %s: %s", self._group, error)

    def _send(self, client: Any, lines: list[tuple[str, int, str]]) -> None:
        by_stream: dict[str, list[dict[str, Any]]] = {}
        for stream, moment, line in lines:
            by_stream.setdefault(stream, []).append({"timestamp": moment, "message": line})
        for stream, events in by_stream.items():
            if stream not in self._streams:
                self._create(client, stream)
            batch, size = [], 0
            for event in events:
                cost = len(event["message"].encode()) + 26
                if batch and (len(batch) == BATCH_EVENTS or size + cost > BATCH_BYTES):
                    client.put_log_events(logGroupName=self._group, logStreamName=stream, logEvents=batch)
                    batch, size = [], 0
                batch.append(event)
                size += cost
            client.put_log_events(logGroupName=self._group, logStreamName=stream, logEvents=batch)

    def _create(self, client: Any, stream: str) -> None:
        try:
            _unless_there(client.create_log_stream, logGroupName=self._group, logStreamName=stream)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceNotFoundException":
                raise
            _unless_there(client.create_log_group, logGroupName=self._group)
            _unless_there(client.create_log_stream, logGroupName=self._group, logStreamName=stream)
        self._streams.add(stream)


def _unless_there(create: Callable[..., Any], **names: str) -> None:
    try:
        create(**names)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceAlreadyExistsException":
            raise
