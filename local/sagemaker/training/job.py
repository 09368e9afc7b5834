"""A running training job: one thread, and one container for each instance (`instances.py`).

Calls to S3 and CloudWatch are made with the role of the job.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local import faults
from local.images.store import Image
from local.sagemaker import artifacts, beneath, metrics
from local.sagemaker.api import Context
from local.sagemaker.instances import Instance, NoAddressError, reserve, share_of_cores
from local.sagemaker.logs import LogWriter
from local.sagemaker.quotas import setting
from local.sagemaker.training.record import KIND, Group, advance, key_of, output_location

logger = logging.getLogger(__name__)

LOG_GROUP = "/aws/sagemaker/TrainingJobs"
LONGEST_REASON = 1_024
TICK = 0.1  # seconds between two looks at the instances
_NO_CAPACITY = (
    "CapacityError: Unable to provision requested ML compute capacity. "
    "Please retry using a different ML instance type or after some time."
)
_INTERNAL_ERROR = "InternalServerError: We encountered an internal error.  Please try again."


class JobError(Exception):
    """The job fails; the text is its FailureReason."""


@dataclass
class Host:
    """One instance of a job."""

    instance: Instance
    group: Group
    stream: str
    """Its log stream; numbered as the service does, so that they sort."""


class Job:
    """A running training job, from Starting to its final status, in a thread of its own."""

    def __init__(self, context: Context, name: str, image: Image, groups: list[Group], spot: bool = False):
        self._context, self._platform = context, context.platform
        self._name, self._image, self.groups, self.spot = name, image, groups, spot
        self._created = time.monotonic()
        self.warm = False
        """A warm pool's instances are its own."""
        self.key = key_of(context, name)
        self.stopping = threading.Event()
        """StopTrainingJob was called."""
        self.abandoned = threading.Event()
        """The cloud itself ends."""
        self._spent = 0.0  # seconds that earlier attempts trained
        self._clients: dict[str, Any] = {}
        self.thread = threading.Thread(target=self._run, name=f"training job {name}", daemon=True)

    def start(self) -> None:
        self.thread.start()

    def _client(self, service: str) -> Any:
        if service not in self._clients:
            self._clients[service] = self._platform.client(
                service, self._context.account, self._context.region, self._record["RoleArn"], "SageMaker"
            )
        return self._clients[service]

    def _stopped(self) -> bool:
        return self.stopping.is_set() or self.abandoned.is_set()

    def _run(self) -> None:
        status, secondary, members = "Failed", "Failed", {}
        try:
            self._record = self._context.store.get(KIND, self._name) or {}
            status, secondary, members = self._work()
        except (JobError, artifacts.TransferError) as error:
            members = {"FailureReason": str(error)}
        except Exception as error:
            logger.exception("Training job %s", self._name)
            members = {"FailureReason": f"InternalServerError: the local cloud failed: {error!r}"}
        if self.abandoned.is_set() and status != "Completed":
            status, secondary, members = "Failed", "Failed", {"FailureReason": ABANDONED}
        if "FailureReason" in members:
            members["FailureReason"] = members["FailureReason"][:LONGEST_REASON]
        # The instances are free before a caller sees the end and starts the next job.
        with self._context.store.store.exclusive():
            self._context.store.store.live.pop(self.key, None)
        advance(self._context, self._name, status, secondary, **members)

    def _work(self) -> tuple[str, str, dict[str, Any]]:
        """Run the job; return its status, secondary status and members for its record.

        A spot job may take several attempts. Raises JobError and TransferError.
        """
        while True:
            end = self._attempt()
            if end is not None:
                return end
            # Its instances were taken back. The next ones go on from its checkpoints, if it keeps any.
            advance(self._context, self._name, None, "Interrupted")
            if self._stopped():
                return "Stopped", "Stopped", {}
            advance(self._context, self._name, None, "Starting")

    def _attempt(self) -> tuple[str, str, dict[str, Any]] | None:
        """Run the job once, on new instances; return None if they were reclaimed. All local files are
        removed.

        Raises JobError and TransferError.
        """
        with contextlib.ExitStack() as stack:
            hosts = self._launch_instances(stack)
            advance(self._context, self._name, None, "Downloading")
            self._download(hosts)
            checkpoints = self._checkpoints(hosts)
            if checkpoints:
                stack.callback(checkpoints.end)
            if self._stopped():
                return "Stopped", "Stopped", {}
            found = metrics.Metrics(self._record["AlgorithmSpecification"].get("MetricDefinitions", []))
            started = time.monotonic()
            advance(self._context, self._name, None, "Training")
            failure, secondary = "", "Completed"
            with self._telemetry(found) as logs:
                try:
                    self._start_containers(hosts, logs, found)
                    failure, secondary = self._wait(hosts, started, checkpoints)
                finally:
                    for host in hosts:  # all have ended, and their last lines are on their way
                        host.instance.stop(0)
            self._spent += time.monotonic() - started
            members: dict[str, Any] = {"FinalMetricDataList": found.final() or None}
            if self.abandoned.is_set():
                return "Failed", "Failed", members
            if secondary == "Interrupted":
                if checkpoints:
                    checkpoints.close()
                return None
            advance(self._context, self._name, None, "Uploading", **members)
            try:
                if checkpoints:
                    checkpoints.close()
                members |= self._upload(hosts, secondary)
            except artifacts.TransferError:
                if not failure:  # else the container's reason is the one to know
                    raise
            if failure:
                return "Failed", "Failed", members | {"FailureReason": failure}
            return ("Completed" if secondary == "Completed" else "Stopped"), secondary, members

    def _launch_instances(self, stack: contextlib.ExitStack) -> list[Host]:
        groups = [group for group in self.groups for _ in range(group.count)]
        if faults.take(self._platform, "fault_no_capacity"):
            raise JobError(_NO_CAPACITY)
        if not self.warm:
            self.stopping.wait(setting(self._platform, "training_launch"))
        try:
            addresses = reserve(len(groups))
        except NoAddressError as error:
            raise JobError(f"CapacityError: {error}") from None
        for address in addresses:
            stack.callback(address.release)
        addresses.sort(
            key=lambda address: address.name
        )  # the first host is the first however they are sorted
        moment, hosts = int(time.time()), []
        peers = {f"algo-{number}": address.name for number, address in enumerate(addresses, start=1)}
        for number, (address, group) in enumerate(zip(addresses, groups, strict=True), start=1):
            try:
                instance = Instance(self._platform, "training", address, f"algo-{number}", peers)
            except OSError as error:
                raise JobError(f"InternalServerError: the local cloud has no instance: {error}") from None
            stack.callback(instance.close)
            hosts.append(Host(instance, group, f"{self._name}/algo-{number}-{moment}"))
        names = {
            group.name: [host.instance.name for host in hosts if host.group is group] for group in self.groups
        }
        for host in hosts:
            self._configure(host, names)
        return hosts

    def _configure(self, host: Host, names: dict[str, list[str]]) -> None:
        """Write the files below `/opt/ml/input/config`."""
        mode = self._record["AlgorithmSpecification"]["TrainingInputMode"]
        channels = {
            channel["ChannelName"]: {
                "TrainingInputMode": channel.get("InputMode", mode),
                "S3DistributionType": channel["DataSource"]["S3DataSource"].get(
                    "S3DataDistributionType", "FullyReplicated"
                ),
                "RecordWrapperType": "None",
            }
            | ({"ContentType": channel["ContentType"]} if "ContentType" in channel else {})
            for channel in self._channels(host)
        }
        files = {
            "hyperparameters": self._record.get("HyperParameters", {}),
            "inputdataconfig": channels,
            "resourceconfig": {
                "current_host": host.instance.name,
                "current_instance_type": host.group.instance_type,
                "current_group_name": host.group.name,
                "hosts": sorted(name for group in names.values() for name in group),
                "instance_groups": [
                    {
                        "instance_group_name": group.name,
                        "instance_type": group.instance_type,
                        "hosts": names[group.name],
                    }
                    for group in self.groups
                ],
                "network_interface_name": "lo",
            },
        }
        for name, document in files.items():
            (host.instance.opt_ml / "input" / "config" / f"{name}.json").write_text(json.dumps(document))

    def _channels(self, host: Host) -> list[dict[str, Any]]:
        return [
            channel
            for channel in self._record.get("InputDataConfig", [])
            if host.group.name
            in channel["DataSource"]["S3DataSource"].get("InstanceGroupNames", [host.group.name])
        ]

    def _download(self, hosts: list[Host]) -> None:
        for channel in self._record.get("InputDataConfig", []):
            folders = [
                host.instance.opt_ml / "input" / "data" / channel["ChannelName"]
                for host in hosts
                if channel in self._channels(host)
            ]
            if not folders:
                continue
            artifacts.fetch_channel(
                self._client("s3"),
                channel["DataSource"]["S3DataSource"],
                folders,
                self._record["RoleArn"],
                self._stopped,
            )

    def _checkpoints(self, hosts: list[Host]) -> artifacts.Checkpoints | None:
        config = self._record.get("CheckpointConfig")
        if not config:
            return None
        folders = [host.instance.path(config.get("LocalPath", "/opt/ml/checkpoints")) for host in hosts]
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        interval = setting(self._platform, "training_checkpoint_interval")
        roots = [host.instance.opt_ml for host in hosts]
        checkpoints = artifacts.Checkpoints(self._client("s3"), config["S3Uri"], folders, interval, roots)
        checkpoints.restore()
        return checkpoints

    @contextlib.contextmanager
    def _telemetry(self, found: metrics.Metrics) -> Any:
        """Yield the log writer; deliver log lines and metrics in the background until the block ends."""
        interval, ended = setting(self._platform, "training_log_interval"), threading.Event()
        logs = LogWriter(lambda: self._client("logs"), LOG_GROUP, interval)

        def send() -> None:
            more = True
            while more:
                more = not ended.wait(interval)
                try:
                    found.send(self._client("cloudwatch"), self._name)
                except Exception as error:  # as with logs: a role that may not, does without
                    logger.warning("No metrics of training job %s: %s", self._name, error)
                    return

        sender = threading.Thread(target=send, name=f"metrics {self._name}", daemon=True)
        sender.start()
        try:
            yield logs
        finally:
            ended.set()
            logs.close()
            sender.join()

    def _start_containers(self, hosts: list[Host], logs: LogWriter, found: metrics.Metrics) -> None:
        algorithm, record = self._record["AlgorithmSpecification"], self._record
        environment = share_of_cores(len(hosts)) | record.get("Environment", {})
        environment |= {
            "TRAINING_JOB_NAME": self._name,
            "TRAINING_JOB_ARN": record["TrainingJobArn"],
            "AWS_REGION": self._context.region,
        }
        if not record[
            "EnableNetworkIsolation"
        ]:  # an isolated container reaches no AWS and gets no credentials
            environment |= self._platform.credentials(
                self._context.account, self._context.region, record["RoleArn"], "SageMaker"
            )
        entrypoint = algorithm.get("ContainerEntrypoint")
        args = algorithm.get("ContainerArguments", [] if entrypoint else ["train"])
        first = hosts[0].instance
        for host in hosts:
            network = "machine"
            if record["EnableNetworkIsolation"]:  # its hosts still reach each other
                network = "own" if host.instance is first else first

            def on_line(line: str, stream: str = host.stream) -> None:
                logs.write(stream, line)
                found.read(line)

            try:
                host.instance.start(self._image, args, environment, on_line, entrypoint, network=network)
            except OSError as error:
                raise JobError(
                    "ClientError: CannotStartContainerError. Please make sure the container can be run with "
                    f"'docker run <image> {' '.join(args)}': {error}"
                ) from None

    def _wait(
        self, hosts: list[Host], started: float, checkpoints: artifacts.Checkpoints | None
    ) -> tuple[str, str]:
        """Wait for all containers; return the failure reason, or "", and the secondary status."""
        limits = self._record["StoppingCondition"]
        deadline = started + limits["MaxRuntimeInSeconds"] - self._spent
        last_moment = self._created + limits.get("MaxWaitTimeInSeconds", math.inf)
        ends, first = min((last_moment, "MaxWaitTimeExceeded"), (deadline, "MaxRuntimeExceeded"))
        strikes = started + faults.value(self._platform, "fault_training_after")
        if checkpoints:
            checkpoints.start()
        while True:
            codes = {host.stream: host.instance.wait(0) for host in hosts}
            if any(codes.values()):  # one that failed ends the job
                return _reason(hosts), "Failed"
            if all(code == 0 for code in codes.values()):
                return "", "Completed"
            if self.abandoned.is_set():
                return ABANDONED, "Failed"
            if checkpoints and checkpoints.error:
                raise checkpoints.error
            over = first if time.monotonic() > ends else ""
            if over or self.stopping.is_set():
                self._terminate(hosts)
                return "", over or "Stopped"
            if time.monotonic() > strikes and self._interrupted():
                self._terminate(hosts)
                return "", "Interrupted"
            self.stopping.wait(TICK)

    def _interrupted(self) -> bool:
        """Apply injected faults; return whether the instances are reclaimed. Raises JobError."""
        spot = self._record["EnableManagedSpotTraining"]
        if spot and faults.take(self._platform, "fault_interrupt_training_jobs"):
            return True
        if faults.take(self._platform, "fault_fail_training_jobs"):
            raise JobError(_INTERNAL_ERROR)  # with the instances goes what was not copied yet
        if faults.take(self._platform, "fault_stop_training_jobs"):
            advance(self._context, self._name, "Stopping", "Stopping")
            self.stopping.set()
        return False

    def _terminate(self, hosts: list[Host]) -> None:
        """Send SIGTERM to all containers, and SIGKILL to those that still run after the grace period."""
        for host in hosts:
            host.instance.terminate()
        until = time.monotonic() + setting(self._platform, "training_stop_grace")
        while time.monotonic() < until and not self.abandoned.is_set():
            if not any(host.instance.running for host in hosts):
                return
            time.sleep(TICK)
        for host in hosts:
            host.instance.stop(0)

    def _upload(self, hosts: list[Host], secondary: str) -> dict[str, Any]:
        """Upload the output; upload the model unless the job failed."""
        config = self._record["OutputDataConfig"]
        place = output_location(self._record)
        compress = config.get("CompressionType", "GZIP") == "GZIP"
        members: dict[str, Any] = {}
        with tempfile.TemporaryDirectory(dir=hosts[0].instance.opt_ml) as scratch:
            for name, part in (("model", "model"), ("output", "output/data")):
                folders = [host.instance.path(f"/opt/ml/{part}") for host in hosts]
                files = artifacts.merged([each for each in folders if not _replaced(each)])
                # A job that completed has a model, if an empty one.
                if (name == "model" and secondary == "Failed") or not (
                    files or (name == "model" and secondary == "Completed")
                ):
                    continue
                target, key = f"{place}/{name}", config.get("KmsKeyId", "")
                address = artifacts.store_output(
                    self._client("s3"), files, target, compress, key, Path(scratch)
                )
                if name == "model":
                    members["ModelArtifacts"] = {"S3ModelArtifacts": address}
        return members


def _replaced(folder: Path) -> bool:
    """Return whether the container replaced the folder or its parent by a symbolic link, which is not
    followed."""
    return any(each.is_symlink() for each in (folder, folder.parent))


def _reason(hosts: list[Host]) -> str:
    """Return the FailureReason of the first container that failed: its failure file, truncated, and exit
    code."""
    failed = [host.instance for host in hosts if host.instance.wait(0)]
    first = min(failed, key=lambda instance: instance.ended_at or 0)
    said = ""
    failure = first.path("/opt/ml/output/failure")
    with contextlib.suppress(OSError), beneath.held(first.opt_ml, failure) as file:
        said = file.read_text(errors="replace").strip()
    ending = f", exit code: {first.wait(0)}"
    return f"AlgorithmError: {said}"[: LONGEST_REASON - len(ending)] + ending


ABANDONED = "InternalServerError: The local cloud ended while the training job ran."
