"""The log of a container: SageMaker's metrics in it, and its delivery by the local cloud."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from local.sagemaker.logs import LogWriter

CONTAINERS = Path(__file__).resolve().parents[2] / "containers"

PROGRAM = """
import logging
from toolkit.failure import keep_secret
from toolkit.logs import log_to_stdout

log_to_stdout("package")
keep_secret("hunter2")
log, library = logging.getLogger("package.train"), logging.getLogger("library")
log.info("train:rmse=%.3g", 0.5)
library.info("noise")
library.warning("login with %s", "hunter2")
try:
    raise ValueError("-----BEGIN PRIVATE KEY-----\\nabc\\n-----END PRIVATE KEY-----")
except ValueError:
    log.exception("training failed")
"""


def test_log_to_stdout_writes_levels_and_redacts_secrets():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=CONTAINERS, capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert lines[:3] == ["INFO train:rmse=0.5", "WARNING login with ***", "ERROR training failed"]
    assert lines[-1] == "ValueError: ***"
    assert done.stderr == ""
    # the regular expression of the templates' metric definitions matches
    assert re.findall(r"train:rmse=([0-9.eE+-]+)", done.stdout) == ["0.5"]


class CloudWatchLogs:
    """CloudWatch Logs client that records the messages."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def create_log_stream(self, **_: str) -> None:
        pass

    def put_log_events(self, logEvents: list[dict[str, Any]], **_: str) -> None:
        self.messages += [event["message"] for event in logEvents]


def test_writer_delivers_remaining_lines_at_once_when_closed():
    # given a writer that delivers every ten minutes
    logs = CloudWatchLogs()
    writer = LogWriter(lambda: logs, "group", interval=600)
    writer.write("stream", "first")
    writer.write("stream", "last")
    # when the writer is closed
    began = time.monotonic()
    writer.close()
    # then the remaining lines are delivered at once
    assert logs.messages == ["first", "last"]
    assert time.monotonic() - began < 60
