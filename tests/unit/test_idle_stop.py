"""The program that stops a notebook instance once nothing on it is active.

The tests call its code with a simulated clock, and run it as a process, as on an instance: against a server
that answers as Jupyter does (jupyter_server's REST API, `/api/kernels` and `/api/terminals`), and with a
program `aws` that records its calls.
"""

from __future__ import annotations

import ast
import json
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from groundplan.scripts import idle_stop
from groundplan.scripts.idle_stop import Activity, NoAnswerError, StopError, Watch
from tests.support.waiting import until

SCRIPT = Path(idle_stop.__file__)
HOUR = 3600.0


class Instance:
    """A notebook instance with a simulated clock, responses of Jupyter, and results of calls to stop it."""

    def __init__(self, idle: float = HOUR):
        self.now = 1000.0
        self.answer: Activity | Exception = Activity(None, "")
        self.fails = 0
        self.stops = 0
        self.watch = Watch(idle, ask=self._ask, stop=self._stop, clock=lambda: self.now)

    def _ask(self) -> Activity:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def _stop(self) -> None:
        self.stops += 1
        if self.stops <= self.fails:
            raise StopError("throttled")

    def after(self, seconds: float, age: float | Exception | None = None) -> int:
        """Poll once after `seconds`; return the number of calls to stop the instance so far.

        :param age: seconds since the last activity; None if no kernel or terminal runs
        """
        self.now += seconds
        self.answer = age if isinstance(age, Exception) else Activity(age, "")
        self.watch.poll()
        return self.stops


SILENCE = NoAnswerError("refused")


def test_instance_is_stopped_after_the_idle_time() -> None:
    instance = Instance()
    assert instance.after(10, age=0) == 0
    assert instance.after(HOUR - 1, age=HOUR - 1) == 0
    assert instance.after(1, age=HOUR) == 1


def test_busy_kernel_is_never_idle() -> None:
    instance = Instance()
    for _ in range(100):
        assert instance.after(HOUR, age=0) == 0


@pytest.mark.parametrize("age", [None, 5 * HOUR])
def test_fresh_instance_gets_the_full_time(age: float | None) -> None:
    # given no activity, or activity from before the start of the program
    instance = Instance()
    assert instance.after(0, age) == 0
    assert instance.after(HOUR - 1, age) == 0
    assert instance.after(1, age) == 1


def test_activity_counts_after_its_kernel_ended() -> None:
    instance = Instance()
    assert instance.after(HOUR / 2, age=0) == 0
    # when the kernel was shut down
    assert instance.after(HOUR / 2, age=None) == 0
    assert instance.after(HOUR / 2, age=None) == 1


def test_instance_stops_after_twice_the_time_without_a_response() -> None:
    instance = Instance()
    assert instance.after(1, age=0) == 0
    assert instance.after(HOUR, SILENCE) == 0
    assert instance.after(HOUR - 1, SILENCE) == 0
    assert instance.after(1, SILENCE) == 1


def test_response_of_jupyter_resets_the_silence() -> None:
    instance = Instance()
    instance.after(1, age=0)
    assert instance.after(2 * HOUR - 1, SILENCE) == 0
    assert instance.after(0, age=0) == 0
    assert instance.after(2 * HOUR - 1, SILENCE) == 0


def test_instance_is_not_stopped_before_jupyters_first_response(capsys: pytest.CaptureFixture[str]) -> None:
    instance = Instance()
    for _ in range(10):
        assert instance.after(HOUR, SILENCE) == 0
    assert "Jupyter has never answered (refused): keep running" in capsys.readouterr().out


def test_stop_that_fails_is_tried_at_the_next_poll(capsys: pytest.CaptureFixture[str]) -> None:
    # given
    instance = Instance()
    instance.fails = 2
    # when
    calls = [instance.after(seconds, age=None) for seconds in (HOUR, 60, 60)]
    # then the stop was called until SageMaker accepted it
    assert calls == [1, 2, 3]
    said = capsys.readouterr().out
    assert said.count("the stop failed, the next poll decides again: throttled") == 2
    assert said.count("the stop was accepted") == 1
    # and the stop was called once more after another idle time, because the instance is still running
    assert instance.after(HOUR - 1, age=None) == 3
    assert instance.after(1, age=None) == 4


def test_activity_cancels_a_failed_stop() -> None:
    instance = Instance()
    instance.fails = 1
    assert instance.after(HOUR, age=None) == 1
    assert instance.after(60, age=0) == 1


# Against a server


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


class Jupyter:
    """A server that answers as Jupyter does, with the test's kernels and terminals."""

    def __init__(self) -> None:
        self.kernels: Callable[[], list[dict[str, Any]]] = list
        self.terminals: Callable[[], list[dict[str, Any]] | None] = list
        self.polls = 0
        server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server, self.address = server, f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        jupyter = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                jupyter.polls += self.path == "/api/kernels"
                lists = {"/api/kernels": jupyter.kernels, "/api/terminals": jupyter.terminals}
                found = lists[self.path]()
                body = json.dumps({"message": "Not Found"} if found is None else found).encode()
                self.send_response(404 if found is None else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None: ...

        return Handler


def kernel(state: str, age: float) -> dict[str, Any]:
    """Return a kernel as in `/api/kernels`."""
    return {
        "id": "5a4bd1a1-9a0d-4b3c-8a4f-3d4a0c2b5a10",
        "name": "groundplan",
        "last_activity": ago(age),
        "execution_state": state,
        "connections": 1,
    }


@pytest.fixture
def jupyter() -> Iterator[Jupyter]:
    found = Jupyter()
    yield found
    found.server.shutdown()
    found.server.server_close()


def seen(jupyter: Jupyter) -> Activity:
    return idle_stop.activity_of(jupyter.address)


def test_latest_of_kernels_and_terminals_counts(jupyter: Jupyter) -> None:
    jupyter.kernels = lambda: [kernel("idle", 500), kernel("starting", 900)]
    jupyter.terminals = lambda: [{"name": "1", "last_activity": ago(100)}]
    age, summary = seen(jupyter)
    assert age is not None
    assert 100 <= age < 500
    assert summary == "2 kernels, 0 busy, 1 terminals"


def test_executing_kernel_is_active_now(jupyter: Jupyter) -> None:
    jupyter.kernels = lambda: [kernel("idle", 900), kernel("busy", 900)]
    assert seen(jupyter) == Activity(0, "2 kernels, 1 busy, 0 terminals")


@pytest.mark.parametrize("moment", ["2026-11-29T10:00:00Z", "2026-11-29T10:00:00.123456+00:00"])
def test_times_are_read_as_jupyter_writes_them(jupyter: Jupyter, moment: str) -> None:
    jupyter.kernels = lambda: [kernel("idle", 0) | {"last_activity": moment}]
    passed = (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
    age = seen(jupyter).age
    assert age == pytest.approx(max(0, passed), abs=600)


def test_server_without_terminals_reports_zero_terminals(jupyter: Jupyter) -> None:
    jupyter.terminals = lambda: None
    assert seen(jupyter) == Activity(None, "0 kernels, 0 busy, 0 terminals")


@pytest.mark.parametrize(
    ("kernels", "reason"),
    [
        ([{"id": "1"}], "not Jupyter's: KeyError"),
        ({"message": "Forbidden"}, "/api/kernels: status 200"),
        ([kernel("idle", 1) | {"last_activity": "yesterday"}], "not Jupyter's: ValueError"),
    ],
)
def test_invalid_response_of_jupyter_raises_no_answer(jupyter: Jupyter, kernels: Any, reason: str) -> None:
    jupyter.kernels = lambda: kernels
    with pytest.raises(NoAnswerError, match=reason):
        seen(jupyter)


def test_stopped_server_raises_no_answer(jupyter: Jupyter) -> None:
    jupyter.server.shutdown()
    jupyter.server.server_close()
    with pytest.raises(NoAnswerError, match="ConnectionRefused"):
        seen(jupyter)


def test_self_signed_certificate_of_jupyter_is_accepted(jupyter: Jupyter, tmp_path: Path) -> None:
    # given a server with a self-signed certificate, as on SageMaker's instances
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subject = ["-subj", "/CN=elsewhere", "-days", "1", "-nodes"]
    files = ["-keyout", str(key), "-out", str(cert)]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", *subject, *files], check=True, capture_output=True
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    jupyter.server.socket = context.wrap_socket(jupyter.server.socket, server_side=True)
    jupyter.kernels = lambda: [kernel("busy", 0)]
    # then
    assert idle_stop.activity_of(jupyter.address.replace("http:", "https:")).age == 0


# The following tests run the program as a process, as an instance does

IDLE, POLL = 0.5, 0.05
"""Idle time and polling interval in seconds. `MANY` polls take longer than the idle time on any machine."""
MANY = 3 * int(IDLE / POLL)


METADATA = json.dumps(
    {
        "ResourceArn": "arn:aws:sagemaker:eu-west-1:000000000000:notebook-instance/trial",
        "ResourceName": "trial",
    }
)


class Running:
    """The idle stop as a process, with a program `aws` whose first calls fail."""

    def __init__(self, folder: Path, jupyter: Jupyter, failures: int = 0):
        self.calls_file, self.log = folder / "calls", folder / "log"
        (folder / "metadata.json").write_text(METADATA)
        aws = folder / "aws"
        aws.write_text(
            f'#!/bin/sh\necho "$@" >> {self.calls_file}\n'
            f'test "$(wc -l < {self.calls_file})" -gt {failures} && exit\n'
            "echo An error occurred >&2\nexit 254\n"
        )
        aws.chmod(0o755)
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                # without site-packages, as with the system Python of an instance
                [
                    *(sys.executable, "-I", "-S", str(SCRIPT)),
                    *("--idle-minutes", str(IDLE / 60), "--poll-seconds", str(POLL)),
                    *("--jupyter", jupyter.address, "--metadata", str(folder / "metadata.json")),
                ],
                env={"PATH": f"{folder}:{os.environ['PATH']}"},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def calls(self) -> list[str]:
        return self.calls_file.read_text().splitlines() if self.calls_file.exists() else []

    def until(self, condition: Callable[[], Any], what: str) -> None:
        until(condition, what, process=self.process)


@contextmanager
def running(folder: Path, jupyter: Jupyter, failures: int = 0) -> Iterator[Running]:
    found = Running(folder, jupyter, failures)
    try:
        yield found
    finally:
        found.process.kill()
        found.process.wait()


@pytest.mark.parametrize("what", ["kernel", "terminal"])
def test_instance_in_use_runs_until_it_is_idle(what: str, jupyter: Jupyter, tmp_path: Path) -> None:
    # given a kernel that has executed without output for an hour, or a terminal with output
    if what == "kernel":
        jupyter.kernels = lambda: [kernel("busy", HOUR)]
    else:
        jupyter.terminals = lambda: [{"name": "1", "last_activity": ago(0)}]
    with running(tmp_path, jupyter) as program:
        # when a multiple of the idle time has passed
        program.until(lambda: jupyter.polls > MANY, "polls")
        # then
        assert program.calls == []
        # and when the kernel or terminal is no longer active, then the instance is stopped
        jupyter.kernels = lambda: [kernel("idle", HOUR)]
        jupyter.terminals = lambda: [{"name": "1", "last_activity": ago(HOUR)}]
        program.until(lambda: program.calls, "the stop")
        assert program.calls[0] == (
            "sagemaker stop-notebook-instance --notebook-instance-name trial --region eu-west-1"
        )
        program.until(lambda: "the stop was accepted" in program.log.read_text(), "its log")


def test_aws_cli_is_called_until_it_succeeds(jupyter: Jupyter, tmp_path: Path) -> None:
    with running(tmp_path, jupyter, failures=2) as program:
        program.until(lambda: len(program.calls) >= 3, "the third call")
        program.until(lambda: "the stop was accepted" in program.log.read_text(), "its log")
    assert program.log.read_text().count("decides again: An error occurred") == 2


@pytest.mark.parametrize("missing", ["aws", "metadata.json"])
def test_stop_without_metadata_or_aws_cli_raises_an_error(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = tmp_path / "metadata.json"
    if missing == "aws":
        metadata.write_text(METADATA)
        monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StopError, match=f"No such file.*{missing}"):
        idle_stop.stop_instance(metadata)


def test_program_runs_on_the_system_python_of_an_instance() -> None:
    tree = ast.parse(SCRIPT.read_text(), feature_version=(3, 9))
    names = {
        name.name if isinstance(node, ast.Import) else node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in node.names
    }
    assert {str(name).partition(".")[0] for name in names} <= sys.stdlib_module_names
