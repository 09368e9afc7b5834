"""A handle on a local cloud, for the CLI and for tests. Standard library only.

with LocalCloud(Path(".groundplan/cloud")) as cloud:
    outputs = cloud.deploy("groundplan-dev-snowflake-training")
    subprocess.run(["aws", "s3", "ls"], env=os.environ | cloud.env())
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from local import keys
from local.ports import free_port
from local.reaper import alive
from tooling import envs, layers

ACCOUNT = "000000000000"
REGION = "eu-west-1"
START_SECONDS = 120
"""Timeout of the cloud's start, which takes a few seconds, or longer on a machine under load."""
STOP_SECONDS = 90
TAIL_LINES = 40


class CloudError(Exception):
    """An operation on a local cloud failed. The message has the reason."""


class LocalCloud:
    """One local cloud. Its state is in `home`, and it listens on one port of 127.0.0.1.

    Several clouds can run at once, each with a separate home. A `LocalCloud` for the home of a running cloud
    controls that cloud.
    """

    def __init__(self, home: Path, port: int | None = None, region: str | None = None):
        """
        :param port: default: the port of the last start; a free port at the first start, or if that port is
            taken
        :param region: default: the Region of the last start, or eu-west-1
        """
        self.home = home.resolve()
        self._port, self._region = port, region

    # Lifecycle ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the cloud and wait until it is ready. On failure, raises `CloudError` with the end of the
        log."""
        if self.running:
            return
        python, snowflake = envs.environment("cloud"), envs.environment("snowflake")
        envs.environment("app")  # the server reads botocore's service models from it
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            self.home.chmod(0o700)
        except OSError as error:
            raise CloudError(
                f"{self.home}, the cloud's folder, cannot be used by this user ({error.strerror}):"
                " choose another folder with --home"
            ) from error
        # Only one of two concurrent calls may start the cloud: the other would delete its server.json
        with envs.locked(self.home / "start.lock"):
            if not self.running:
                self._launch(python, snowflake)

    def stop(self) -> None:
        """Stop the cloud and everything that it runs, and keep its state. Without a running cloud, do
        nothing."""
        if pid := self._pid():
            self._end(pid, signal.SIGTERM)

    def kill(self) -> None:
        """Kill the server with SIGKILL. `local/reaper.py` then ends its containers and functions."""
        if pid := self._pid():
            self._end(pid, signal.SIGKILL)

    def crash(self) -> None:
        """Kill the server between two requests, after it has saved its state.

        As on AWS, the effects of all answered requests are kept."""
        if pid := self._pid():
            with contextlib.suppress(CloudError, OSError):
                self._ask("crash", {})
            self._end(pid, signal.SIGKILL)

    @property
    def running(self) -> bool:
        return self._pid() is not None

    def __enter__(self) -> LocalCloud:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # Properties and requests ----------------------------------------------------------------------

    @property
    def port(self) -> int:
        port = self._last().get("port") or self._port
        if port is None:
            raise CloudError(f"No cloud was started in {self.home} yet")
        return port

    @property
    def region(self) -> str:
        return self._last().get("region") or self._region or REGION

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def snowflake(self) -> Path:
        """Path of the file with the connection to the local Snowflake, in the format of the secret in Secrets
        Manager."""
        return self.home / "snowflake.json"

    @property
    def log(self) -> Path:
        """Path of the server's log."""
        return self.home / "cloud.log"

    @property
    def key(self) -> keys.Key:
        """The account's root access key, created at the first start. Raises `CloudError` before that."""
        try:
            return keys.read(self.home)
        except FileNotFoundError as error:
            raise CloudError(f"No cloud was started in {self.home} yet") from error

    def env(self) -> dict[str, str]:
        """Return the environment variables that make AWS SDKs, the AWS CLI and the CDK use this cloud."""
        from local import images

        key = self.key
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ENDPOINT_URL_S3": self.endpoint_url,
            # The server's address for AWS's MLflow plugin
            "SAGEMAKER_MLFLOW_CUSTOM_ENDPOINT": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": key.access_key_id,
            "AWS_SECRET_ACCESS_KEY": key.secret_access_key,
            "AWS_SESSION_TOKEN": "",
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
            # SDKs add a prefix (`sync-`) to the host name of some operations; such hosts do not exist here
            "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",
            "CDK_DEFAULT_ACCOUNT": ACCOUNT,
            "CDK_DEFAULT_REGION": self.region,
            "CDK_DOCKER": str(images.launcher(envs.home(), envs.environment("cloud"))),
            "GROUNDPLAN_ADDRESS": f"http://{{label}}.{{service}}.localhost:{self.port}",
            "GROUNDPLAN_HOME": str(envs.home()),
            "GROUNDPLAN_SNOWFLAKE": str(self.snowflake),
        }

    def status(self) -> dict[str, Any]:
        """Return the cloud's address and settings, and its stacks, running jobs and endpoints by name."""
        return self._ask("status")

    def enforce_iam(self, on: bool) -> None:
        """Enable or disable the check of every call against its caller's policies.

        The key that `env` exports is the account's root key, whose calls are always allowed.
        """
        self._ask("iam", {"enforce": on})

    def configure(self, **settings: Any) -> dict[str, Any]:
        """Set quotas and intervals (`local/sagemaker/quotas.py`) and faults to inject (`local/faults.py`).

        None restores a setting's default. Returns all settings."""
        return self._ask("settings", settings)

    def local_url(self, address: str) -> str:
        """Return the local address of a CloudFront distribution or an HTTP API, given its address on AWS.

        For example, `https://d123.cloudfront.net/` becomes `http://d123.cloudfront.localhost:4566/`. Raises
        `ValueError` for any other address.
        """
        parts = urllib.parse.urlsplit(address)
        label, _, rest = (parts.hostname or "").partition(".")
        service = rest.partition(".")[0]
        if service not in ("cloudfront", "execute-api"):
            raise ValueError(
                f"address must be that of a CloudFront distribution or an HTTP API, got {address}"
            )
        host = f"{label}.{service}.localhost:{self.port}"
        return urllib.parse.urlunsplit(("http", host, parts.path, parts.query, parts.fragment))

    # Deployment -----------------------------------------------------------------------------------

    def deploy(
        self,
        *stacks: str,
        context: Mapping[str, str] | None = None,
        app: str | None = None,
        progress: Callable[[str], None] = lambda line: None,
    ) -> dict[str, dict[str, str]]:
        """Deploy with the unchanged CDK CLI, as to AWS, and return each stack's outputs.

        The CDK validates the templates only if the environment variable CDK_VALIDATION is `true`. Raises
        `CloudError` with the CLI's output.

        :param stacks: names; default: all stacks
        :param context: values for `--context`
        :param app: command of the CDK app; default: the project's app
        :param progress: called with each line of the CLI's output
        """
        self._bootstrap(progress)
        with tempfile.TemporaryDirectory() as folder:
            outputs, assembly = Path(folder) / "outputs.json", Path(folder) / "assembly"
            options = ["--require-approval", "never", "--progress", "events", "--outputs-file", str(outputs)]
            try:
                command = ["deploy", *(stacks or ["--all"]), *options]
                self._cdk(command, progress, *self._synthesis(context, app, assembly))
            finally:
                self._keep(assembly, self._kept(context, app))
            return json.loads(outputs.read_text()) if outputs.exists() else {}

    def destroy(
        self,
        *stacks: str,
        context: Mapping[str, str] | None = None,
        app: str | None = None,
        progress: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Delete stacks with the unchanged CDK CLI. It uses the templates that `deploy` kept, else runs the
        app."""
        command, kept = ["destroy", *(stacks or ["--all"]), "--force"], self._kept(context, app)
        if (kept / "manifest.json").exists():
            return self._cdk(command, progress, "--app", str(kept))
        with tempfile.TemporaryDirectory() as assembly:
            return self._cdk(command, progress, *self._synthesis(context, app, Path(assembly)))

    def _bootstrap(self, progress: Callable[[str], None]) -> None:
        if any(stack["name"] == "CDKToolkit" for stack in self.status()["stacks"]):
            return
        self._cdk(["bootstrap", f"aws://{ACCOUNT}/{self.region}"], progress)

    def _kept(self, context: Mapping[str, str] | None, app: str | None) -> Path:
        """Return the folder with the templates of the last deployment of an app with this context."""
        given = json.dumps([app, sorted((context or {}).items())])
        return self.home / "assemblies" / hashlib.sha256(given.encode()).hexdigest()[:16]

    def _keep(self, assembly: Path, kept: Path) -> None:
        """Delete `kept`, and if synthesis succeeded, fill it with the templates of the assembly."""
        shutil.rmtree(kept, ignore_errors=True)
        if (assembly / "manifest.json").exists():
            kept.mkdir(parents=True)
            for file in assembly.glob("*.json"):
                shutil.copy(file, kept)

    def _synthesis(self, context: Mapping[str, str] | None, app: str | None, assembly: Path) -> list[str]:
        """Return the CLI options that run the app."""
        layers.layer()
        app = f"{shlex.quote(str(envs.environment('app')))} app.py" if app is None else app
        options = [f"--context={key}={value}" for key, value in (context or {}).items()]
        # The CLI strips a quote from each end of the command, even if the two belong to different paths
        return [*options, "--app", f"exec {app}" if app.startswith("'") else app, "--output", str(assembly)]

    def _cdk(self, command: list[str], progress: Callable[[str], None], *given: str) -> None:
        program, node = envs.cdk(), envs.node()
        options = ["--ci", "--no-color", "--no-notices", "--no-version-reporting", *given]
        with (
            tempfile.TemporaryDirectory() as empty,
            subprocess.Popen(
                [str(program), *command, *options],
                cwd=envs.ROOT if given else empty,
                # The CDK CLI would prefer the user's profile to these keys
                env={name: value for name, value in os.environ.items() if name != "AWS_PROFILE"}
                | self.env()
                | {
                    "PATH": f"{node}{os.pathsep}{os.environ['PATH']}",
                    "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "20",
                    # Validation takes most of the synthesis time. Deployments to AWS validate.
                    "CDK_VALIDATION": os.environ.get("CDK_VALIDATION", "false"),
                },
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            ) as process,
        ):
            lines = []
            assert process.stdout is not None  # noqa: S101 - narrows the type
            for line in process.stdout:
                lines.append(line.rstrip())
                progress(lines[-1])
        if process.returncode:
            said = "\n".join(lines[-TAIL_LINES:])
            raise CloudError(f"cdk {command[0]} failed:\n{said}")

    # Internals ------------------------------------------------------------------------------------

    @property
    def _file(self) -> Path:
        return self.home / "server.json"

    def _last(self) -> dict[str, Any]:
        with contextlib.suppress(OSError, ValueError):
            return json.loads((self.home / "cloud.json").read_text())
        return {}

    def _launch(self, python: Path, snowflake: Path) -> None:
        last = self._last()
        port = free_port(self._port or last.get("port", 0))
        if self._port and port != self._port:
            raise CloudError(
                f"Port {self._port} of 127.0.0.1 is in use by another program:"
                " stop that program, or choose another port with --port"
            )
        settled = {"port": port, "region": self._region or last.get("region") or REGION}
        (self.home / "cloud.json").write_text(json.dumps(settled))
        self._file.unlink(missing_ok=True)
        options = ["--home", str(self.home), "--port", str(port), "--region", settled["region"]]
        options += ["--snowflake", str(snowflake)]
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                [str(python), "-m", "local.emulator.server", *options],
                cwd=envs.ROOT,
                env=os.environ | {"GROUNDPLAN_HOME": str(envs.home())},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._file.exists():
            if process.poll() is not None:
                raise CloudError(f"The local cloud ended while it started:\n{self._tail()}")
            if time.monotonic() > deadline:
                self._end(process.pid, signal.SIGKILL)
                raise CloudError(f"The local cloud did not start in {START_SECONDS} s:\n{self._tail()}")
            time.sleep(0.02)

    def _pid(self) -> int | None:
        """Return the server's process ID if the server of this home answers, else None."""
        try:
            pid = json.loads(self._file.read_text())["pid"]
            return pid if self.status()["pid"] == pid else None
        except (OSError, ValueError, CloudError):
            return None

    def _end(self, pid: int, number: int) -> None:
        """Send the signal `number`, and wait until the server's process group has no running process.

        A server that has not ended after `STOP_SECONDS` is killed."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        until = time.monotonic() + STOP_SECONDS
        while alive(pid):
            if time.monotonic() > until:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            time.sleep(0.02)

    def _ask(self, what: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        url, method = f"{self.endpoint_url}/_groundplan/{what}", "GET" if data is None else "POST"
        headers = {}
        with contextlib.suppress(FileNotFoundError):  # a cloud of an older version has no key and needs none
            headers = dict(keys.signed(keys.read(self.home), method, url, data or b""))
        request = urllib.request.Request(url, data, headers)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise CloudError(json.load(error).get("error", str(error))) from error
        except OSError as error:
            raise CloudError(f"No cloud answers at {self.endpoint_url}: {error}") from error

    def _tail(self) -> str:
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:])
        return ""
