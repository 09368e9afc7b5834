"""A running processing job: its configuration, input, output and exit message."""

from __future__ import annotations

import codecs
import contextlib
import time
from typing import Any

from local.sagemaker import artifacts
from local.sagemaker.jobs.containers import LONGEST_MESSAGE, ContainerJob, Host, said_by
from local.sagemaker.jobs.job import JobError, Outcome
from local.sagemaker.jobs.kinds import PROCESSING
from local.sagemaker.jobs.status import start_clock
from local.sagemaker.logs import LogWriter
from local.sagemaker.uploads import FolderUpload

LONGEST_EXIT_MESSAGE = 1_024
"""Maximum length in bytes of UTF-8."""


class ProcessingJob(ContainerJob):
    """A running processing job.

    The contract with the container is
    https://docs.aws.amazon.com/sagemaker/latest/dg/build-your-own-processing-container.html
    """

    kind = PROCESSING
    message = "output/message"
    config = "config"
    folders = (config, "processing", "output")

    def work(self) -> Outcome:
        with contextlib.ExitStack() as stack:
            hosts = self.launch(stack)
            start_clock(self.context, self.kind, self.name)
            names = sorted(host.instance.name for host in hosts)
            for host in hosts:
                resources = {"current_host": host.instance.name, "hosts": names}
                files = {"processingjobconfig": self._described(), "resourceconfig": resources}
                self.configure(host, files)
            self._download(hosts)
            continuous, at_end = self._uploads(hosts, "Continuous"), self._uploads(hosts, "EndOfJob")
            for upload in continuous:
                stack.callback(upload.end)
            if self.stopped():
                return Outcome("Stopped")
            with self.logs() as logs:
                try:
                    self._start_containers(hosts, logs)
                    failure, ending = self._wait(hosts, continuous)
                finally:
                    for host in hosts:
                        host.instance.stop(0)
            if self.abandoned.is_set():
                return Outcome("Failed")
            members = {"ExitMessage": self._exit_message(hosts) or None}
            for upload in [*continuous, *(at_end if ending == "Completed" else ())]:
                try:
                    upload.close()
                except artifacts.TransferError as error:
                    failure = failure or str(error)  # keep the first reason
            if failure:
                return Outcome("Failed", members | {"FailureReason": failure})
            return Outcome("Completed" if ending == "Completed" else "Stopped", members)

    def _described(self) -> dict[str, Any]:
        """Return the content of `processingjobconfig.json`."""
        record = self.record
        inputs = [
            each | {"S3Input": each["S3Input"] | {"S3DownloadMode": "StartOfJob"}}
            for each in record.get("ProcessingInputs", [])
        ]
        cluster = {"VolumeKmsKeyId": None} | record["ProcessingResources"]["ClusterConfig"]
        return {
            "ProcessingJobArn": record["ProcessingJobArn"],
            "ProcessingJobName": self.name,
            "AppSpecification": {"ContainerEntrypoint": None, "ContainerArguments": None}
            | record["AppSpecification"],
            "Environment": record.get("Environment", {}),
            "ProcessingInputs": inputs,
            "ProcessingOutputConfig": {"Outputs": [], "KmsKeyId": None}
            | record.get("ProcessingOutputConfig", {}),
            "ProcessingResources": {"ClusterConfig": cluster},
            "RoleArn": self.role,
            "StoppingCondition": record["StoppingCondition"],
        }

    def _download(self, hosts: list[Host]) -> None:
        for each in self.record.get("ProcessingInputs", []):
            source = each["S3Input"]
            if not each.get("AppManaged"):  # else the container downloads it
                folders = [host.instance.path(source["LocalPath"]) for host in hosts]
                artifacts.fetch_channel(self.client("s3"), source, folders, self.role, self.stopped)

    def _uploads(self, hosts: list[Host], mode: str) -> list[FolderUpload]:
        """Return the uploads of the outputs with this S3UploadMode, and create their folders."""
        config = self.record.get("ProcessingOutputConfig", {})
        key = config.get("KmsKeyId")
        extra = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key} if key else {}
        interval, roots = self.setting("upload_interval"), [host.instance.opt_ml for host in hosts]
        uploads = []
        for each in config.get("Outputs", []):
            output = each["S3Output"]
            if each.get("AppManaged") or output["S3UploadMode"] != mode:
                continue
            folders = [host.instance.path(output["LocalPath"]) for host in hosts]
            for folder in folders:
                folder.mkdir(parents=True, exist_ok=True)
            uploads.append(FolderUpload(self.client("s3"), output["S3Uri"], folders, interval, roots, extra))
        return uploads

    def _start_containers(self, hosts: list[Host], logs: LogWriter) -> None:
        application = self.record["AppSpecification"]
        command = (application.get("ContainerEntrypoint"), application.get("ContainerArguments", []))
        isolated = self.record.get("NetworkConfig", {}).get("EnableNetworkIsolation", False)

        def on_line(host: Host, line: str) -> None:
            logs.write(host.stream, line)

        self.run_containers(hosts, command, self.record.get("Environment", {}), isolated, on_line)

    def _wait(self, hosts: list[Host], continuous: list[FolderUpload]) -> tuple[str, str]:
        """Wait for all containers. Return the failure reason, or "", and how the job ended."""

        def look() -> str:
            for upload in continuous:
                if upload.error:
                    raise upload.error
            return ""

        for upload in continuous:
            upload.start()
        seconds = self.record["StoppingCondition"]["MaxRuntimeInSeconds"]
        try:
            return self.wait(hosts, {"MaxRuntimeExceeded": time.monotonic() + seconds}, look)
        except artifacts.TransferError as error:
            return str(error), "Failed"

    def _exit_message(self, hosts: list[Host]) -> str:
        """Return the concatenated messages of all containers, truncated. Raises JobError if not UTF-8."""
        text = ""
        for host in hosts:
            said = said_by(host.instance, self.message)
            try:
                text += codecs.utf_8_decode(said, "strict", len(said) < LONGEST_MESSAGE)[0]
            except UnicodeDecodeError:
                raise JobError(
                    f"ClientError: The exit message in /opt/ml/{self.message} must be UTF-8 encoded text"
                ) from None
        return text.encode()[:LONGEST_EXIT_MESSAGE].decode(errors="ignore")
