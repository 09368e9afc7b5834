"""A running training job: attempts, input, checkpoints and output."""

from __future__ import annotations

import contextlib
import logging
import math
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from local import faults
from local.images.store import Image
from local.sagemaker import artifacts, metrics, warm_pools
from local.sagemaker.api import Context
from local.sagemaker.checkpoints import Checkpoints
from local.sagemaker.instances import OPT_ML
from local.sagemaker.jobs.containers import ContainerJob, Group, Host
from local.sagemaker.jobs.job import JobError, Outcome
from local.sagemaker.jobs.kinds import TRAINING
from local.sagemaker.logs import LogWriter
from local.sagemaker.store import Record
from local.sagemaker.training.record import KIND, advance, output_location

OBJECTIVE = "_tuning_objective_metric"
"""Hyperparameter that passes the name of the tuning job's objective metric to the container."""

logger = logging.getLogger(__name__)

_NO_CAPACITY = (
    "CapacityError: Unable to provision requested ML compute capacity. "
    "Please retry using a different ML instance type or after some time."
)
_INTERNAL_ERROR = "InternalServerError: We encountered an internal error.  Please try again."


class TrainingJob(ContainerJob):
    """A running training job, from Starting to its final status."""

    kind = TRAINING
    message = "output/failure"
    config = "input/config"
    folders = OPT_ML

    def __init__(self, context: Context, name: str, image: Image, groups: list[Group], spot: bool = False):
        super().__init__(context, name, image, groups)
        self.spot = spot
        self._created = time.monotonic()
        self._warm = False  # whether it uses the instances of a warm pool
        self._spent = 0.0  # training time of earlier attempts, in seconds
        self._metrics = metrics.Metrics([])

    def admitted(self, record: Record) -> None:
        self._warm = warm_pools.take(self.context, KIND, record)

    def finish(self, outcome: Outcome) -> None:
        secondary = outcome.secondary or outcome.status
        advance(self.context, self.name, outcome.status, secondary, **outcome.members)

    def objective(self) -> list[float]:
        """Return the values of the tuning job's objective so far; none without a tuning job."""
        return self._metrics.values(self.record.get("HyperParameters", {}).get(OBJECTIVE, ""))

    def _next(self, secondary: str, **members: Any) -> None:
        advance(self.context, self.name, None, secondary, **members)

    def work(self) -> Outcome:
        """Run the job; a spot job may take several attempts."""
        while True:
            end = self._attempt()
            if end is not None:
                return end
            # The instances were reclaimed. The next attempt resumes from the checkpoints, if there are any
            self._next("Interrupted")
            if self.stopped():
                return Outcome("Stopped")
            self._next("Starting")

    def _attempt(self) -> Outcome | None:
        """Run the job once, on new instances. Return None if they were reclaimed.

        All local files are removed. Raises JobError and TransferError.
        """
        with contextlib.ExitStack() as stack:
            hosts = self._launch(stack)
            self._next("Downloading")
            self._download(hosts)
            checkpoints = self._checkpoints(hosts)
            if checkpoints:
                stack.callback(checkpoints.end)
            if self.stopped():
                return Outcome("Stopped")
            found = metrics.Metrics(self.record["AlgorithmSpecification"].get("MetricDefinitions", []))
            self._metrics = found
            started = time.monotonic()
            self._next("Training")
            with self._telemetry(found) as logs:
                try:
                    self._start_containers(hosts, logs, found)
                    failure, secondary = self._wait(hosts, started, checkpoints)
                finally:
                    for host in hosts:  # all containers have ended when the log writer is closed
                        host.instance.stop(0)
            self._spent += time.monotonic() - started
            members: dict[str, Any] = {
                "FinalMetricDataList": found.final() or None,
                "_Objective": self.objective() or None,
            }
            if self.abandoned.is_set():
                return Outcome("Failed", members)
            if secondary == "Interrupted":
                if checkpoints:
                    checkpoints.close()
                return None
            self._next("Uploading", **members)
            try:
                if checkpoints:
                    checkpoints.close()
                members |= self._upload(hosts, secondary)
            except artifacts.TransferError:
                if not failure:  # otherwise report the container's failure reason
                    raise
            if failure:
                return Outcome("Failed", members | {"FailureReason": failure})
            return Outcome("Completed" if secondary == "Completed" else "Stopped", members, secondary)

    def _launch(self, stack: contextlib.ExitStack) -> list[Host]:
        if faults.take(self.platform, "fault_no_capacity"):
            raise JobError(_NO_CAPACITY)
        if not self._warm:
            self.stopping.wait(self.setting("launch"))
        hosts = self.launch(stack)
        names = {
            group.name: [host.instance.name for host in hosts if host.group is group] for group in self.groups
        }
        for host in hosts:
            self._configure(host, names)
        return hosts

    def _configure(self, host: Host, names: dict[str, list[str]]) -> None:
        mode = self.record["AlgorithmSpecification"]["TrainingInputMode"]
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
            "hyperparameters": self.record.get("HyperParameters", {}),
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
        self.configure(host, files)

    def _channels(self, host: Host) -> list[dict[str, Any]]:
        return [
            channel
            for channel in self.record.get("InputDataConfig", [])
            if host.group.name
            in channel["DataSource"]["S3DataSource"].get("InstanceGroupNames", [host.group.name])
        ]

    def _download(self, hosts: list[Host]) -> None:
        for channel in self.record.get("InputDataConfig", []):
            folders = [
                host.instance.opt_ml / "input" / "data" / channel["ChannelName"]
                for host in hosts
                if channel in self._channels(host)
            ]
            if not folders:
                continue
            artifacts.fetch_channel(
                self.client("s3"),
                channel["DataSource"]["S3DataSource"],
                folders,
                self.record["RoleArn"],
                self.stopped,
            )

    def _checkpoints(self, hosts: list[Host]) -> Checkpoints | None:
        config = self.record.get("CheckpointConfig")
        if not config:
            return None
        folders = [host.instance.path(config.get("LocalPath", "/opt/ml/checkpoints")) for host in hosts]
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        interval = self.setting("checkpoint_interval")
        roots = [host.instance.opt_ml for host in hosts]
        checkpoints = Checkpoints(self.client("s3"), config["S3Uri"], folders, interval, roots)
        checkpoints.restore()
        return checkpoints

    @contextlib.contextmanager
    def _telemetry(self, found: metrics.Metrics) -> Iterator[LogWriter]:
        """Yield the log writer; deliver log lines and metrics in the background until the block ends."""
        interval, ended = self.setting("log_interval"), threading.Event()

        def send() -> None:
            more = True
            while more:
                more = not ended.wait(interval)
                try:
                    found.send(self.client("cloudwatch"), self.name)
                except Exception as error:  # as with logs, a job without the permission has no metrics
                    logger.warning("Could not send the metrics of training job %s: %s", self.name, error)
                    return

        sender = threading.Thread(target=send, name=f"metrics {self.name}", daemon=True)
        sender.start()
        try:
            with self.logs() as logs:
                yield logs
        finally:
            ended.set()
            sender.join()

    def _start_containers(self, hosts: list[Host], logs: LogWriter, found: metrics.Metrics) -> None:
        algorithm, record = self.record["AlgorithmSpecification"], self.record
        entrypoint = algorithm.get("ContainerEntrypoint")
        args = algorithm.get("ContainerArguments", [] if entrypoint else ["train"])
        environment = record.get("Environment", {}) | {
            "TRAINING_JOB_NAME": self.name,
            "TRAINING_JOB_ARN": record["TrainingJobArn"],
        }

        def on_line(host: Host, line: str) -> None:
            logs.write(host.stream, line)
            found.read(line)

        isolated = record["EnableNetworkIsolation"]
        self.run_containers(hosts, (entrypoint, args), environment, isolated, on_line)

    def _wait(self, hosts: list[Host], started: float, checkpoints: Checkpoints | None) -> tuple[str, str]:
        """Wait for all containers; return the failure reason, or "", and the secondary status."""
        conditions = self.record["StoppingCondition"]
        limits = {
            "MaxWaitTimeExceeded": self._created + conditions.get("MaxWaitTimeInSeconds", math.inf),
            "MaxRuntimeExceeded": started + conditions["MaxRuntimeInSeconds"] - self._spent,
        }
        strikes = started + faults.value(self.platform, "fault_training_after")

        def look() -> str:
            if checkpoints and checkpoints.error:
                raise checkpoints.error
            return "Interrupted" if time.monotonic() > strikes and self._interrupted() else ""

        if checkpoints:
            checkpoints.start()
        return self.wait(hosts, limits, look)

    def _interrupted(self) -> bool:
        """Apply injected faults; return whether the instances are reclaimed. Raises JobError."""
        if self.spot and faults.take(self.platform, "fault_interrupt_training_jobs"):
            return True
        if faults.take(self.platform, "fault_fail_training_jobs"):
            raise JobError(_INTERNAL_ERROR)  # files that were not uploaded yet are lost
        if faults.take(self.platform, "fault_stop_training_jobs"):
            advance(self.context, self.name, "Stopping", "Stopping")
            self.stopping.set()
        return False

    def _upload(self, hosts: list[Host], secondary: str) -> dict[str, Any]:
        """Upload the output; upload the model unless the job failed."""
        config = self.record["OutputDataConfig"]
        place = output_location(self.record)
        compress = config.get("CompressionType", "GZIP") == "GZIP"
        members: dict[str, Any] = {}
        with tempfile.TemporaryDirectory(dir=hosts[0].instance.opt_ml) as scratch:
            for name, part in (("model", "model"), ("output", "output/data")):
                folders = [host.instance.path(f"/opt/ml/{part}") for host in hosts]
                files = artifacts.merged([each for each in folders if not _replaced(each)])
                # A completed job always has a model archive, even if it is empty
                if (name == "model" and secondary == "Failed") or not (
                    files or (name == "model" and secondary == "Completed")
                ):
                    continue
                target, key = f"{place}/{name}", config.get("KmsKeyId", "")
                address = artifacts.store_output(
                    self.client("s3"), files, target, compress, key, Path(scratch)
                )
                if name == "model":
                    members["ModelArtifacts"] = {"S3ModelArtifacts": address}
        return members


def _replaced(folder: Path) -> bool:
    """Return whether the container replaced the folder or its parent by a link, which is not followed."""
    return any(each.is_symlink() for each in (folder, folder.parent))
