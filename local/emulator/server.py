# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
"""The local cloud's server: MiniStack, the local SageMaker, and administration, in one process.

    python -m local.emulator.server --port 4566 --home .groundplan/cloud --region eu-west-1

Runs in the environment `cloud`; `local.cloud.LocalCloud` starts it. Listens on 127.0.0.1 only.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

from hypercorn.asyncio import serve
from hypercorn.config import Config

import local.emulator.patches  # noqa: F401 - registers its hooks
from local import faults, keys, record
from local.emulator import callers, calls, cloudformation, disk, ministack, polling, reach, signatures
from local.emulator.patches import cloudwatch, executions, functions
from local.emulator.platform import LocalPlatform
from local.emulator.web import as_on_aws, from_the_web
from local.reaper import GRACE_SECONDS, Reaper, alive
from local.sagemaker import (
    hosting,
    http,
    isolation,
    labeling,
    mlflow,
    notebooks,
    pipelines,
    processing,
    quotas,
    scaling,
    training,
    transform,
    tuning,
)
from local.sagemaker.api import Context
from local.sagemaker.jobs import operations as jobs
from local.sagemaker.jobs.kinds import KINDS
from local.sagemaker.jobs.status import ENDED
from local.sagemaker.store import Store

ACCOUNT = "000000000000"
ALARM_SECONDS = 10
"""Interval of alarm evaluations."""
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "GROUNDPLAN_HOME", "SSL_CERT_FILE")
"""Environment variables that the server keeps. Lambda functions inherit the server's environment, and must
not get the user's other variables, in particular credentials."""

logger = logging.getLogger("groundplan")


def settle(port: int, home: Path, region: str) -> None:
    """Set the environment variables that MiniStack reads when it is imported."""
    kept = {name: os.environ[name] for name in INHERITED if name in os.environ}
    scratch = home / "tmp"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    os.environ.clear()
    os.environ.update(kept)
    os.environ.update(
        GATEWAY_PORT=str(port),
        BIND_HOST="127.0.0.1",
        MINISTACK_REGION=region,
        MINISTACK_ACCOUNT_ID=ACCOUNT,
        PERSIST_STATE="1",
        STATE_DIR=str(home / "state"),
        S3_PERSIST="1",
        S3_DATA_DIR=str(home / "s3"),
        TMPDIR=str(scratch),
        # Listen on one port only, and do not use this machine's Docker
        IOT_MTLS_ENABLED="0",
        SFTP_ENABLED="0",
        DOCKER_HOST="unix:///nonexistent/docker.sock",
        LOG_LEVEL="WARNING",
        SAGEMAKER_MLFLOW_CUSTOM_ENDPOINT=f"http://127.0.0.1:{port}",
    )


class Server:
    """The parts of one cloud that run in this process."""

    def __init__(self, port: int, home: Path, region: str, snowflake_python: str | None, lock: int):
        self.port, self.home, self.region = port, home, region
        self.reaper = Reaper(lock)
        self.reaper.adopt(os.getpgrp())  # this process and the processes of Lambda functions
        self.snowflake = Snowflake(home, snowflake_python, self.reaper) if snowflake_python else None
        self.platform = LocalPlatform(f"http://127.0.0.1:{port}", home, self.reaper)
        self.store = Store(home / "sagemaker.sqlite")
        self.disk = disk.Disk(home)
        self.snapshots = self.disk.snapshots
        self._cut_off: list[dict[str, Any]] = []
        reach.install(self)
        self.key = keys.ensure(home)
        self.gate = callers.Gate(self.key, ACCOUNT)
        self._recall()

    # Methods for the hooks

    def context(self, account: str, region: str, access_key: str | None) -> Context:
        return Context(self.platform, self.store.scoped(account, region), access_key)

    def sagemaker(self, *request: Any) -> tuple[int, dict[str, str], bytes]:
        return http.handle_request(self.platform, self.store, *request)

    def changed(self) -> None:
        self.snapshots.changed()

    def full(self, size: int) -> str | None:
        """Return why `size` bytes cannot be written, or None if they can."""
        return self.disk.refusal(size)

    def cut_off(self, stack: dict[str, Any]) -> None:
        """Register a restored stack that was being changed when the previous server ended."""
        self._cut_off.append(stack)

    # Lifecycle

    def begin(self) -> None:
        """Recover the previous server's unfinished work and start background threads.

        The server must already answer requests."""
        self.snapshots.start()
        for stack in self._cut_off:
            region, account = stack["StackId"].split(":")[3:5]
            cloudformation.remove_unlisted(self.context(account, region, None), stack)
        with self.store.answering():
            training.recover(self.platform, self.store)
            processing.recover(self.platform, self.store)
            transform.recover(self.platform, self.store)
            tuning.recover(self.platform, self.store)
            labeling.recover(self.platform, self.store)
            hosting.recover(self.platform, self.store)
            notebooks.recover(self.platform, self.store)
            pipelines.recover(self.platform, self.store)  # after the jobs, whose state pipelines read
            executions.resume()
        threading.Thread(target=self._watch_alarms, name="alarms", daemon=True).start()
        threading.Thread(target=self._scale, name="scaling", daemon=True).start()

    def _watch_alarms(self) -> None:
        """Evaluate alarms at intervals: an alarm's state can change without new data."""
        while True:
            time.sleep(ALARM_SECONDS)
            try:
                cloudwatch.evaluate_alarms()
            except Exception:
                logger.exception("Could not evaluate the alarms; will try again at the next interval")

    def _scale(self) -> None:
        """Evaluate scaling policies four times in each period of the policies' metrics."""
        while True:
            time.sleep(quotas.setting(self.platform, "scaling_period") / 4)
            try:
                scaling.act_everywhere(self.platform, self.store, cloudwatch.metrics)
            except Exception:
                logger.exception(
                    "Could not evaluate the scaling policies; will try again at the next interval"
                )

    async def serve(self) -> None:
        config = Config()
        config.bind = [f"127.0.0.1:{self.port}"]
        config.keep_alive_timeout = 75
        config.graceful_timeout = 1
        config.loglevel = "WARNING"
        ended = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)

        async def until_ended() -> None:
            await ended.wait()
            # Before the server stops answering, so that ending containers can deliver their last log lines
            await asyncio.to_thread(self._end_instances)

        await serve(self.application, config, shutdown_trigger=until_ended)  # type: ignore[arg-type]

    async def application(self, scope: dict, receive: Any, send: Any) -> None:
        """Route requests to MiniStack's application or to the local cloud's administration."""
        if scope["type"] == "websocket":
            if from_the_web(scope["headers"]) or not await self.gate.admit_socket(scope):
                await send({"type": "websocket.close", "code": 1008})
            else:
                await ministack.application()(scope, receive, send)
        elif scope["type"] != "http":
            await ministack.application()(scope, receive, send)
        elif from_the_web(scope["headers"]):
            error = (
                "The local cloud refuses requests from remote web pages and to host names that are not local."
            )
            await _answer(send, 403, {"error": error})
        elif scope["path"].startswith("/_groundplan/"):
            await self._administer(scope, receive, send)
        else:
            await as_on_aws(self._answer_call, scope, receive, send)

    async def _answer_call(self, scope: dict, receive: Any, send: Any) -> None:
        admitted = await self.gate.admit(scope, receive, send)
        if admitted is None:
            return  # an error response was sent
        if functions.dies_with(self.platform, scope):
            await _answer(
                send, 500, {"error": "Not executed: an injected fault killed the function that sent this."}
            )
        else:
            await polling.hold(admitted)
            await self.disk.answer(ministack.application(), scope, admitted, calls.recording(admitted, send))

    def stop(self) -> None:
        """Save the state and end all other processes of this cloud, after the last request."""
        try:
            with contextlib.suppress(OSError):  # the disk is full, which the next line logs
                self._remember()
            self.snapshots.stop()
            (self.home / "server.json").unlink(missing_ok=True)
            ministack.end_functions()
        finally:
            self.reaper.release(os.getpgrp())
            self.reaper.end()

    def crash(self) -> dict[str, Any]:
        """Save the state, then kill this process. Running jobs and functions get no notice.

        As on AWS, the effects of answered requests are kept: this method blocks the event loop, so no request
        is answered after the state is saved."""
        self._remember()
        self.snapshots.save()
        os.kill(os.getpid(), signal.SIGKILL)
        return {}  # never reached

    def _end_instances(self) -> None:
        # Pipeline executions first: they would treat the end of their jobs as a failure
        for end in (pipelines.shutdown, jobs.shutdown, hosting.shutdown, mlflow.shutdown):
            try:
                with self.store.answering():  # a shutdown does not wait for free disk space
                    end(self.store)
            except Exception:
                logger.exception(
                    "A part of the cloud did not shut down cleanly. The reaper ends its remaining processes"
                )

    # Administration

    async def _administer(self, scope: dict, receive: Any, send: Any) -> None:
        try:
            body = await self.gate.admit_owner(scope, receive)
        except signatures.SignatureError as error:
            return await _answer(send, 403, {"error": f"{error.code}: {error.message}"})
        path, status = scope["path"].removeprefix("/_groundplan/"), 200
        try:
            given = json.loads(body or b"{}")
            if scope["method"] == "GET" and path == "status":
                answer = self.status()
            elif scope["method"] == "POST" and path == "iam":
                if not isinstance(given["enforce"], bool):
                    raise TypeError(f"enforce must be true or false, got {given['enforce']!r}")
                ministack.enforce(given["enforce"])
                answer = {"enforce": ministack.enforcing()}
                self._remember()
            elif scope["method"] == "POST" and path == "crash":
                answer = self.crash()
            elif scope["method"] == "POST" and path == "settings":
                answer = self._set(given)
                self._remember()
            else:
                status, answer = 404, {"error": f"{scope['method']} {scope['path']} does not exist"}
        except (KeyError, ValueError, TypeError) as error:
            status, answer = 400, {"error": f"{type(error).__name__}: {error}"}
        except OSError as error:
            logger.exception("Could not save the cloud's state after %s", path)
            status, answer = 507, {"error": f"Could not save the cloud's state: {error}"}
        await _answer(send, status, answer)

    def _remember(self) -> None:
        """Store the settings, so that they apply after a restart too."""
        set_so_far = {"enforce": ministack.enforcing(), "settings": self.platform.settings}
        draft = self.home / "settings.json.tmp"
        draft.write_text(json.dumps(set_so_far))
        draft.replace(self.home / "settings.json")

    def _recall(self) -> None:
        file = self.home / "settings.json"
        if file.exists():
            known = json.loads(file.read_text())
            ministack.enforce(known["enforce"])
            self.platform.settings |= known["settings"]

    def _set(self, given: dict[str, Any]) -> dict[str, Any]:
        """Change settings; null restores a default. Returns all settings. Raises ValueError."""
        unknown = sorted(set(given) - {*quotas.DEFAULTS, faults.INJECTED})
        if unknown:
            raise ValueError(f"{unknown[0]} is not a setting; the settings are {', '.join(quotas.DEFAULTS)}")
        for name, value in given.items():
            wanted = str if isinstance(quotas.DEFAULTS.get(name), str) else int | float
            if value is not None and (isinstance(value, bool) or not isinstance(value, wanted)):
                kind = "a text" if wanted is str else "a number"
                raise ValueError(f"{name} must be {kind} or null, got {value!r}")
        for name, value in given.items():
            if value is None:
                self.platform.settings.pop(name, None)
            else:
                self.platform.settings[name] = value
        return quotas.DEFAULTS | self.platform.settings

    def status(self) -> dict[str, Any]:
        endpoints, running = [], {f"{kind.folder}_jobs_running": [] for kind in KINDS.values()}
        for account, region in self.store.scopes():
            scope = self.store.scoped(account, region)
            for kind in KINDS.values():
                found = scope.all(kind.records)
                running[f"{kind.folder}_jobs_running"] += [
                    job[kind.name] for job in found if job[kind.status] not in ENDED
                ]
            endpoints += [(one["EndpointName"], one["EndpointStatus"]) for one in scope.all("endpoint")]
        return {
            "pid": os.getpid(),
            "endpoint_url": self.platform.endpoint_url,
            "region": self.region,
            "account": ACCOUNT,
            "iam_enforced": ministack.enforcing(),
            "containers": isolation.describe(self.platform),
            "snowflake": self.snowflake.port if self.snowflake else None,
            "stacks": ministack.stacks(),
            **running,
            "endpoints": [{"name": name, "status": status} for name, status in endpoints],
            "executions_running": ministack.executions_running(),
            "functions_warm": ministack.functions_running(),
            "faults": faults.report(self.platform),
            "function_writes": dict(functions.most_writes),
        }


async def _answer(send: Any, status: int, answer: dict[str, Any]) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(answer).encode()})


class Snowflake:
    """The process of the local Snowflake."""

    def __init__(self, home: Path, python: str, reaper: Reaper):
        self._log = (home / "snowflake.log").open("ab")
        self._file = home / "snowflake.json"
        self._before = self._file.stat().st_mtime_ns if self._file.exists() else 0
        arguments = ["--home", str(home / "snowflake"), "--credentials", str(self._file)]
        self._process = subprocess.Popen(
            [python, "-m", "local.snowflake.server", *arguments],
            cwd=Path(__file__).resolve().parents[2],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        reaper.adopt(self._process.pid)

    @property
    def port(self) -> int | None:
        """Port on which the local Snowflake was last started; None if it was never started."""
        return json.loads(self._file.read_text())["port"] if self._file.exists() else None

    def wait(self, seconds: float = 60) -> None:
        """Wait until the local Snowflake is ready. Raises `RuntimeError` if it exits or takes too long."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"The local Snowflake exited before it was ready; see {self._log.name}")
            if self.port and self._file.stat().st_mtime_ns != self._before:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                    return
            time.sleep(0.05)
        raise RuntimeError(f"The local Snowflake was not ready within {seconds:g} s; see {self._log.name}")


def begin(server: Server) -> None:
    """Wait until the whole cloud is ready, then write `server.json`."""
    url = f"{server.platform.endpoint_url}/_groundplan/status"
    # tests for Linux namespaces now, so that no request waits for this test
    isolation.describe(server.platform)
    try:
        while True:
            asked = urllib.request.Request(url, headers=dict(keys.signed(server.key, "GET", url)))  # noqa: S310
            with contextlib.suppress(OSError), urllib.request.urlopen(asked, timeout=5):  # noqa: S310
                break
            time.sleep(0.02)
        server.begin()
        if server.snowflake:
            server.snowflake.wait()
    except Exception:
        logger.exception("The cloud could not start")
        os.kill(os.getpid(), signal.SIGTERM)
        return
    draft = server.home / "server.json.tmp"
    draft.write_text(json.dumps({"pid": os.getpid(), "port": server.port, "region": server.region}))
    draft.replace(server.home / "server.json")


def alone(home: Path) -> int:
    """Lock this home folder and return the lock's file descriptor. Exits if another server uses the folder.

    If the previous server was killed, waits until the processes that it left have ended."""
    lock = os.open(home / "lock", os.O_WRONLY | os.O_CREAT, 0o600)
    deadline = time.monotonic() + 2 * GRACE_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except BlockingIOError:
            announced = home / "server.json"
            runs = announced.exists() and alive(json.loads(announced.read_text())["pid"])
            if runs or time.monotonic() > deadline:
                sys.exit(f"A cloud is already running in {home}")
            time.sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser(prog="local.emulator.server", description="The local cloud's server.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--home", type=Path, required=True, help="folder of the cloud's state")
    parser.add_argument("--region", default="eu-west-1")
    parser.add_argument("--snowflake", metavar="PYTHON", help="start the local Snowflake with this Python")
    asked = parser.parse_args()
    home = asked.home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)  # the folder has secrets
    lock = alone(home)
    if os.getpgrp() != os.getpid():
        os.setpgrp()  # a process group for this cloud only
    record.start(os.environ.get(record.VARIABLE))
    settle(asked.port, home, asked.region)
    server = Server(asked.port, home, asked.region, asked.snowflake, lock)
    threading.Thread(target=begin, args=[server], daemon=True).start()
    try:
        asyncio.run(server.serve())
    finally:
        server.stop()


if __name__ == "__main__":
    main()
