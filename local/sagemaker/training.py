"""Training jobs: the operations, and the work behind them.

A job is one thread here and one process group for each instance (`instances.py`). Its record in the store is
what Describe answers; the thread moves it from status to status by `_advance`, which is also where the
state-change events come from. What is done for the job in S3 and CloudWatch is done under its own role.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local import faults
from local.images.store import Image
from local.sagemaker import artifacts, metrics, quotas, tags, warm_pools
from local.sagemaker.api import ApiError, Context, invalid, now, operation, page
from local.sagemaker.instances import Instance, NoAddressError, clean, pull, reserve, share_of_cores
from local.sagemaker.logs import LogWriter
from local.sagemaker.platform import Platform
from local.sagemaker.quotas import setting
from local.sagemaker.records import named, refuse_unbuilt
from local.sagemaker.store import Record, Store

KIND = "training-job"
LOG_GROUP = "/aws/sagemaker/TrainingJobs"
LONGEST_REASON = 1_024
DEFAULT_MAX_RUNTIME = 86_400  # seconds, as the service's
TICK = 0.1  # seconds between two looks at the instances

logger = logging.getLogger(__name__)


# The operations


@operation("CreateTrainingJob", named(KIND, "TrainingJobName"), roles=("RoleArn",))
def create_training_job(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    rate = setting(context.platform, "create_training_job_per_second")
    quotas.throttle(
        context, "CreateTrainingJob", rate, setting(context.platform, "create_training_job_burst")
    )
    if faults.take(context.platform, "fault_throttle_training_jobs"):
        raise ApiError("ThrottlingException", "Rate exceeded", 400)
    _check(params)
    name, arn = params["TrainingJobName"], context.arn(KIND, params["TrainingJobName"])
    image = pull_image(context, params["AlgorithmSpecification"]["TrainingImage"], params["RoleArn"])
    groups, moment = _groups(params["ResourceConfig"]), now()
    record = {key: value for key, value in params.items() if key != "Tags"} | {
        "TrainingJobArn": arn,
        "TrainingJobStatus": "InProgress",
        "SecondaryStatus": "Starting",
        "SecondaryStatusTransitions": [_transition("Starting", moment)],
        "StoppingCondition": {"MaxRuntimeInSeconds": DEFAULT_MAX_RUNTIME}
        | params.get("StoppingCondition", {}),
        "CreationTime": moment,
        "LastModifiedTime": moment,
    }
    for flag in ("NetworkIsolation", "InterContainerTrafficEncryption", "ManagedSpotTraining"):
        record.setdefault(f"Enable{flag}", False)
    record |= warm_pools.begin(record)
    job = Job(context, name, image, groups)
    with context.store.store.exclusive():
        _check_quotas(context, groups)
        if not context.store.add(KIND, name, record):
            raise ApiError(
                "ResourceInUse",
                "Training job names must be unique within an AWS account and region, and a training job with "
                f"this name already exists ({arn})",
            )
        try:
            tags.attach(context, arn, params.get("Tags"))
        except ApiError:
            context.store.remove(KIND, name)
            raise
        context.store.store.live[job.key] = job
    _publish(context, record)
    job.start()
    return {"TrainingJobArn": arn}


@operation("DescribeTrainingJob", named(KIND, "TrainingJobName"))
def describe_training_job(context: Context, params: dict[str, Any]) -> Record:
    return warm_pools.current(_find(context, params))


@operation("UpdateTrainingJob", named(KIND, "TrainingJobName"))
def update_training_job(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    unbuilt = ("ProfilerConfig", "ProfilerRuleConfigurations", "RemoteDebugConfig")
    refuse_unbuilt("UpdateTrainingJob", params, *unbuilt)
    record = _find(context, params)
    if "ResourceConfig" in params:
        seconds = params["ResourceConfig"]["KeepAlivePeriodInSeconds"]
        context.store.change(KIND, params["TrainingJobName"], lambda found: warm_pools.keep(found, seconds))
    return {"TrainingJobArn": record["TrainingJobArn"]}


@operation("ListTrainingJobs")
def list_training_jobs(context: Context, params: dict[str, Any]) -> dict[str, Any]:
    refuse_unbuilt("ListTrainingJobs", params, "TrainingPlanArnEquals")
    jobs, wanted = [warm_pools.current(job) for job in context.store.all(KIND)], "WarmPoolStatusEquals"
    if wanted in params:
        jobs = [job for job in jobs if job.get("WarmPoolStatus", {}).get("Status") == params[wanted]]
    return page(params, jobs, "TrainingJobSummaries")


@operation("StopTrainingJob", named(KIND, "TrainingJobName"))
def stop_training_job(context: Context, params: dict[str, Any]) -> None:
    record = _find(context, params)
    if record["TrainingJobStatus"] == "Stopping":
        return
    name = params["TrainingJobName"]
    if not _advance(context, name, "Stopping", "Stopping"):
        status = _find(context, params)["TrainingJobStatus"]
        raise invalid(f"The request was rejected because the training job is in status {status}.")
    job = context.store.store.live.get(_key(context, name))
    if job:
        job.stopping.set()


def _find(context: Context, params: dict[str, Any]) -> Record:
    record = context.store.get(KIND, params["TrainingJobName"])
    if record is None:
        raise invalid("Requested resource not found.")
    return record


def _check(params: dict[str, Any]) -> None:
    """Raises ApiError for what the service's model allows but the service, or this cloud, does not."""
    unbuilt = ("DebugRuleConfigurations", "ProfilerRuleConfigurations", "ServerlessJobConfig")
    refuse_unbuilt("CreateTrainingJob", params, *unbuilt, "ModelPackageConfig", "MlflowConfig")
    algorithm = params.get("AlgorithmSpecification")
    if not algorithm or not params.get("ResourceConfig"):
        raise invalid("AlgorithmSpecification and ResourceConfig are required.")
    refuse_unbuilt("CreateTrainingJob", algorithm, "AlgorithmName")
    if not algorithm.get("TrainingImage"):
        raise invalid("AlgorithmSpecification needs a TrainingImage.")
    try:
        metrics.check(algorithm.get("MetricDefinitions", []))
        artifacts.split(params["OutputDataConfig"]["S3OutputPath"])
        if checkpoints := params.get("CheckpointConfig"):
            artifacts.split(checkpoints["S3Uri"])
            if not checkpoints.get("LocalPath", "/opt/ml/checkpoints").startswith("/opt/ml/"):
                raise ValueError("CheckpointConfig.LocalPath must be below /opt/ml in the local cloud")
    except ValueError as error:
        raise invalid(str(error)) from None
    limits = params.get("StoppingCondition", {})
    if params.get("EnableManagedSpotTraining"):
        if limits.get("MaxWaitTimeInSeconds", 0) < limits.get("MaxRuntimeInSeconds", DEFAULT_MAX_RUNTIME):
            raise invalid("MaxWaitTimeInSeconds must be present and not less than MaxRuntimeInSeconds.")
    elif "MaxWaitTimeInSeconds" in limits:
        raise invalid("MaxWaitTimeInSeconds is only for jobs with EnableManagedSpotTraining.")
    groups = _groups(params["ResourceConfig"])
    warm_pools.check(params)
    names = [channel["ChannelName"] for channel in params.get("InputDataConfig", [])]
    if len(set(names)) < len(names):
        raise invalid(f"Channel names must be unique: {', '.join(names)}")
    for channel in params.get("InputDataConfig", []):
        _check_channel(channel, algorithm["TrainingInputMode"], {group.name for group in groups})


def _check_channel(channel: dict[str, Any], job_mode: str, groups: set[str]) -> None:
    name, source = channel["ChannelName"], channel["DataSource"]
    refuse_unbuilt("CreateTrainingJob", source, *(kind for kind in source if kind != "S3DataSource"))
    data = source.get("S3DataSource")
    if not data:
        raise invalid(f"Channel {name} needs an S3DataSource.")
    if channel.get("InputMode", job_mode) == "Pipe":
        raise _unbuilt_value(f"channel {name} in Pipe mode")
    if data["S3DataType"] not in ("S3Prefix", "ManifestFile"):
        raise _unbuilt_value(f"S3DataType {data['S3DataType']} (channel {name})")
    if channel.get("CompressionType", "None") != "None":
        raise invalid(f"Channel {name}: CompressionType is used only in Pipe input mode.")
    if channel.get("RecordWrapperType", "None") != "None":
        raise invalid(f"Channel {name}: RecordWrapperType is used only in Pipe input mode.")
    if "ShuffleConfig" in channel:
        raise _unbuilt_value(f"ShuffleConfig (channel {name})")
    if unknown := set(data.get("InstanceGroupNames", [])) - groups:
        raise invalid(
            f"Channel {name} names instance groups that are not there: {', '.join(sorted(unknown))}"
        )
    try:
        artifacts.split(data["S3Uri"])
    except ValueError as error:
        raise invalid(f"Channel {name}: {error}") from None


def _unbuilt_value(what: str) -> ApiError:
    return ApiError(
        "NotImplementedByLocalCloud",
        f"sagemaker:CreateTrainingJob with {what} is not built in the local cloud",
        501,
    )


def pull_image(context: Context, uri: str, role: str) -> Image:
    """The image, if the job's role may pull it. Raises the `ValidationException` a caller of Create gets."""
    try:
        return pull(context.platform, context.account, context.region, uri, role)
    except ApiError as error:
        raise invalid(
            f"Cannot pull the training image {uri}. Please check that it is in the registry and that the "
            f"role {role} can be assumed by SageMaker and has permission to pull it: {error.message}"
        ) from None


@dataclass(frozen=True)
class Group:
    """Instances of one type. A job without groups is one group, which the service calls as below."""

    name: str
    instance_type: str
    count: int


def _groups(resources: dict[str, Any]) -> list[Group]:
    if given := resources.get("InstanceGroups"):
        if "InstanceType" in resources or "InstanceCount" in resources:
            raise invalid("ResourceConfig has either InstanceGroups, or InstanceType and InstanceCount.")
        groups = [Group(g["InstanceGroupName"], g["InstanceType"], g["InstanceCount"]) for g in given]
    else:
        if "InstanceType" not in resources or "InstanceCount" not in resources:
            raise invalid("ResourceConfig needs InstanceType and InstanceCount.")
        groups = [Group("homogeneousCluster", resources["InstanceType"], resources["InstanceCount"])]
    if sum(group.count for group in groups) < 1:
        raise invalid("ResourceConfig needs at least one instance.")
    return groups


def _by_type(groups: list[Group]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for group in groups:
        counts[group.instance_type] += group.count
    return counts


def _check_quotas(context: Context, groups: list[Group]) -> None:
    asked, used = _by_type(groups), Counter()
    most = setting(context.platform, "training_instances_per_job")
    if asked.total() > most:
        raise quotas.limit_exceeded("Maximum number of instances per training job", most, 0, asked.total())
    for key, job in context.store.store.live.items():
        if key[:3] == (KIND, context.account, context.region):
            used += _by_type(job.groups)
    most = setting(context.platform, "training_instances")
    for kind, count in asked.items():
        if used[kind] + count > most:
            raise quotas.limit_exceeded(f"{kind} for training job usage", most, used[kind], count)


# The record's way from status to status

_MESSAGES = {
    "Starting": "Launching requested ML instances",
    "Downloading": "Downloading input data",
    "Training": "Training image download completed. Training in progress.",
    "Uploading": "Uploading generated training model",
    "Stopping": "Stopping the training job",
    "Stopped": "Training job stopped",
    "MaxRuntimeExceeded": "Training job stopped because it exceeded MaxRuntimeInSeconds",
    "MaxWaitTimeExceeded": "Training job stopped because it exceeded MaxWaitTimeInSeconds",
    "Interrupted": "The training job was interrupted: its spot capacity was taken back",
    "Completed": "Training job completed",
    "Failed": "Training job failed",
}
_ENDED = ("Completed", "Failed", "Stopped")


def _transition(secondary: str, moment: float) -> dict[str, Any]:
    return {"Status": secondary, "StartTime": moment, "StatusMessage": _MESSAGES[secondary]}


def _advance(context: Context, name: str, status: str | None, secondary: str, **members: Any) -> bool:
    """Move a job on and tell the bus; False, with nothing changed, where it has ended before.

    `status` None keeps the job's status: one that is stopping goes on to upload, but to nothing else.
    `members` are set on the record; None leaves one out.
    """
    changed = False

    def edit(record: Record) -> None:
        nonlocal changed
        going_on = ("Starting", "Downloading", "Training", "Interrupted")
        stopping = record["TrainingJobStatus"] == "Stopping" and secondary in going_on
        if record["TrainingJobStatus"] in _ENDED or (status is None and stopping):
            return
        changed, moment, transitions = True, now(), record["SecondaryStatusTransitions"]
        if transitions[-1]["Status"] != secondary:
            transitions[-1]["EndTime"] = moment
            transitions.append(_transition(secondary, moment))
        record["TrainingJobStatus"] = status or record["TrainingJobStatus"]
        record["SecondaryStatus"], record["LastModifiedTime"] = secondary, moment
        record.update({key: value for key, value in members.items() if value is not None})
        if secondary == "Downloading":
            record.setdefault("TrainingStartTime", moment)
            record["_Since"] = moment
        if status in _ENDED or secondary == "Interrupted":  # waiting for capacity is no training
            record["_Spent"] = record.get("_Spent", 0.0) + moment - record.pop("_Since", moment)
        if status in _ENDED:
            transitions[-1]["EndTime"] = record["TrainingEndTime"] = moment
            price = setting(context.platform, "training_spot_price")
            price = price if record["EnableManagedSpotTraining"] else 1
            record["TrainingTimeInSeconds"] = math.ceil(record["_Spent"])
            record["BillableTimeInSeconds"] = math.ceil(record["_Spent"] * price)
            warm_pools.leave(context, KIND, record)

    record = context.store.change(KIND, name, edit)
    if changed and record is not None:
        _publish(context, record)
    return changed


_EVENT_MEMBERS = (
    "TrainingJobName", "TrainingJobArn", "TrainingJobStatus", "SecondaryStatus", "FailureReason",
    "HyperParameters", "AlgorithmSpecification", "RoleArn", "InputDataConfig", "OutputDataConfig",
    "ResourceConfig", "VpcConfig", "StoppingCondition", "ModelArtifacts", "FinalMetricDataList",
)  # fmt: skip
_EVENT_TIMES = ("CreationTime", "TrainingStartTime", "TrainingEndTime", "LastModifiedTime")


def _publish(context: Context, record: Record) -> None:
    detail = {name: record[name] for name in _EVENT_MEMBERS if name in record}
    detail |= {name: round(record[name] * 1000) for name in _EVENT_TIMES if name in record}
    detail["SecondaryStatusTransitions"] = [
        {key: round(value * 1000) if key.endswith("Time") else value for key, value in transition.items()}
        for transition in record["SecondaryStatusTransitions"]
    ]
    arn = record["TrainingJobArn"]
    detail["Tags"] = {tag["Key"]: tag["Value"] for tag in tags.attached(context.store, arn)}
    try:
        context.platform.publish(
            context.account, context.region, "SageMaker Training Job State Change", detail, arn
        )
    except Exception:  # a bus that is down does not end a job
        logger.exception("The state change of %s was not published", arn)


# The work


_NO_CAPACITY = (
    "CapacityError: Unable to provision requested ML compute capacity. "
    "Please retry using a different ML instance type or after some time."
)
_INTERNAL_ERROR = "InternalServerError: We encountered an internal error.  Please try again."


class JobError(Exception):
    """The job fails, with this reason."""


@dataclass
class Host:
    """One instance of a job."""

    instance: Instance
    group: Group
    stream: str
    """Its log stream; numbered as the service does, so that they sort."""


class Job:
    """One training job at work, from Starting to its end, in a thread of its own."""

    def __init__(self, context: Context, name: str, image: Image, groups: list[Group]):
        self._context, self._platform = context, context.platform
        self._name, self._image, self.groups = name, image, groups
        self.key = _key(context, name)
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
            status, secondary, members = "Failed", "Failed", {"FailureReason": _ABANDONED}
        if "FailureReason" in members:
            members["FailureReason"] = members["FailureReason"][:LONGEST_REASON]
        # The instances are free before a caller sees the end and starts the next job.
        with self._context.store.store.exclusive():
            self._context.store.store.live.pop(self.key, None)
        _advance(self._context, self._name, status, secondary, **members)

    def _work(self) -> tuple[str, str, dict[str, Any]]:
        """Do the job; returns its status, its secondary status and what its record gets. On spot capacity it
        may take several attempts. Raises JobError and TransferError."""
        while True:
            end = self._attempt()
            if end is not None:
                return end
            # Its instances were taken back. The next ones go on from its checkpoints, if it keeps any.
            _advance(self._context, self._name, None, "Interrupted")
            if self._stopped():
                return "Stopped", "Stopped", {}
            _advance(self._context, self._name, None, "Starting")

    def _attempt(self) -> tuple[str, str, dict[str, Any]] | None:
        """The job from its instances to its end, None where they were taken back. Nothing of it is left on
        this machine. Raises JobError and TransferError."""
        with contextlib.ExitStack() as stack:
            hosts = self._launch_instances(stack)
            _advance(self._context, self._name, None, "Downloading")
            self._download(hosts)
            checkpoints = self._checkpoints(hosts)
            if checkpoints:
                stack.callback(checkpoints.end)
            if self._stopped():
                return "Stopped", "Stopped", {}
            found = metrics.Metrics(self._record["AlgorithmSpecification"].get("MetricDefinitions", []))
            started = time.monotonic()
            _advance(self._context, self._name, None, "Training")
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
            _advance(self._context, self._name, None, "Uploading", **members)
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
        if not warm_pools.take(self._context, KIND, self._record):
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
        for number, (address, group) in enumerate(zip(addresses, groups, strict=True), start=1):
            instance = Instance(self._platform, "training", address)
            stack.callback(instance.close)
            hosts.append(Host(instance, group, f"{self._name}/algo-{number}-{moment}"))
        names = {
            group.name: [host.instance.host.name for host in hosts if host.group is group]
            for group in self.groups
        }
        for host in hosts:
            self._configure(host, names)
        return hosts

    def _configure(self, host: Host, names: dict[str, list[str]]) -> None:
        """Write what the container reads below `/opt/ml/input/config`."""
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
                "current_host": host.instance.host.name,
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
        checkpoints = artifacts.Checkpoints(self._client("s3"), config["S3Uri"], folders, interval)
        checkpoints.restore()
        return checkpoints

    @contextlib.contextmanager
    def _telemetry(self, found: metrics.Metrics) -> Any:
        """Where lines go while the containers run; what is left is delivered at the end. Metrics go along."""
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
        for host in hosts:

            def on_line(line: str, stream: str = host.stream) -> None:
                logs.write(stream, line)
                found.read(line)

            try:
                host.instance.start(self._image, args, environment, on_line, entrypoint)
            except OSError as error:
                raise JobError(
                    "ClientError: CannotStartContainerError. Please make sure the container can be run with "
                    f"'docker run <image> {' '.join(args)}': {error}"
                ) from None

    def _wait(
        self, hosts: list[Host], started: float, checkpoints: artifacts.Checkpoints | None
    ) -> tuple[str, str]:
        """Until every container has ended. Returns the failure's reason, "" if none, and how the job ends."""
        limits, began = self._record["StoppingCondition"], self._record["CreationTime"]
        deadline = started + limits["MaxRuntimeInSeconds"] - self._spent
        last_moment = began + limits.get("MaxWaitTimeInSeconds", math.inf)
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
                return _ABANDONED, "Failed"
            if checkpoints and checkpoints.error:
                raise checkpoints.error
            over = "MaxRuntimeExceeded" if time.monotonic() > deadline else ""
            over = over or ("MaxWaitTimeExceeded" if time.time() > last_moment else "")
            if over or self.stopping.is_set():
                self._terminate(hosts)
                return "", over or "Stopped"
            if time.monotonic() > strikes and self._interrupted():
                self._terminate(hosts)
                return "", "Interrupted"
            self.stopping.wait(TICK)

    def _interrupted(self) -> bool:
        """Let a fault strike; True where the instances are taken back. Raises JobError."""
        spot = self._record["EnableManagedSpotTraining"]
        if spot and faults.take(self._platform, "fault_interrupt_training_jobs"):
            return True
        if faults.take(self._platform, "fault_fail_training_jobs"):
            raise JobError(_INTERNAL_ERROR)  # with the instances goes what was not copied yet
        if faults.take(self._platform, "fault_stop_training_jobs"):
            _advance(self._context, self._name, "Stopping", "Stopping")
            self.stopping.set()
        return False

    def _terminate(self, hosts: list[Host]) -> None:
        """SIGTERM to all, which gives them time to save what they have; SIGKILL to who has not ended then."""
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
        """Store the output, and the model but of a job that failed: half a model must not pass for one."""
        config = self._record["OutputDataConfig"]
        place = f"{config['S3OutputPath'].rstrip('/')}/{self._name}/output"
        compress = config.get("CompressionType", "GZIP") == "GZIP"
        members: dict[str, Any] = {}
        with tempfile.TemporaryDirectory(dir=hosts[0].instance.opt_ml) as scratch:
            for name, part in (("model", "model"), ("output", "output/data")):
                files = artifacts.merged([host.instance.opt_ml / part for host in hosts])
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


def _reason(hosts: list[Host]) -> str:
    """Why the first container that failed did: what it wrote, cut, and its exit code."""
    failed = [host.instance for host in hosts if host.instance.wait(0)]
    first = min(failed, key=lambda instance: instance.ended_at or 0)
    said = ""
    with contextlib.suppress(OSError):
        said = (first.opt_ml / "output" / "failure").read_text(errors="replace").strip()
    ending = f", exit code: {first.wait(0)}"
    return f"AlgorithmError: {said}"[: LONGEST_REASON - len(ending)] + ending


def _key(context: Context, name: str) -> tuple[str, ...]:
    return KIND, context.account, context.region, name


# The cloud's own start and end

_ABANDONED = "InternalServerError: The local cloud ended while the training job ran."


def recover(platform: Platform, store: Store) -> list[str]:
    """At the start of a server: what the last one left at work has failed. Returns the jobs' ARNs.

    Their process groups are dead, so that nothing can go on; a caller starts them again, from their
    checkpoints where they keep any.
    """
    clean(platform, "training")
    lost = []
    for account, region in store.scopes():
        context = Context(platform, store.scoped(account, region))
        for record in context.store.all(KIND):
            name = record["TrainingJobName"]
            if _key(context, name) in store.live or record["TrainingJobStatus"] in _ENDED:
                continue
            if _advance(context, name, "Failed", "Failed", FailureReason=_ABANDONED):
                lost.append(record["TrainingJobArn"])
    return lost


def shutdown(store: Store, timeout: float = 10.0) -> None:
    """At the end of a server: end every job at once, with its record saying so and its files removed."""
    with store.exclusive():
        jobs = [job for job in store.live.values() if isinstance(job, Job)]
    for job in jobs:
        job.abandoned.set()
    until = time.monotonic() + timeout
    for job in jobs:
        job.thread.join(max(0.0, until - time.monotonic()))
