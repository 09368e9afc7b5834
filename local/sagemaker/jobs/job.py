"""A running job, in its own thread."""

from __future__ import annotations

import abc
import contextlib
import logging
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from local.sagemaker import artifacts, quotas
from local.sagemaker.api import ApiError, Context
from local.sagemaker.jobs.kinds import JobKind
from local.sagemaker.jobs.status import advance, key_of
from local.sagemaker.logs import LogWriter
from local.sagemaker.quotas import setting
from local.sagemaker.store import Record

LONGEST_REASON = 1_024
TICK = 0.1  # seconds between two checks of running work

logger = logging.getLogger(__name__)


class JobError(Exception):
    """The job failed. The message becomes the job's FailureReason."""


@dataclass
class Outcome:
    """How a job ends."""

    status: str
    members: dict[str, Any] = field(default_factory=dict)
    """Members to set on the job's record."""
    secondary: str = ""
    """Secondary status of a training job; empty: the same as the status."""


class Job(abc.ABC):
    """A running job, from its creation to its final status.

    Subclasses do the work in `work`. Calls to S3 and CloudWatch are made with the role of the job.
    """

    kind: ClassVar[JobKind]

    def __init__(self, context: Context, name: str, instances: Counter[str]):
        """:param instances: number of the job's instances by type"""
        self.context, self.platform, self.name = context, context.platform, name
        self.instances = instances
        self.key = key_of(context, self.kind, name)
        self.record: Record = {}
        self.stopping = threading.Event()
        """Set when the Stop operation is called for this job."""
        self.abandoned = threading.Event()
        """Set when the local cloud shuts down."""
        self._clients: dict[str, Any] = {}
        self.thread = threading.Thread(target=self._run, name=f"{self.kind.words} {name}", daemon=True)

    def admitted(self, record: Record) -> None:  # noqa: B027 - optional
        """Called under the store's lock, immediately after the job was stored."""

    def start(self) -> None:
        self.thread.start()

    @abc.abstractmethod
    def work(self) -> Outcome:
        """Run the job and return its outcome. Raises JobError and TransferError."""

    def finish(self, outcome: Outcome) -> None:
        """Write the final status into the record."""
        advance(self.context, self.kind, self.name, outcome.status, **outcome.members)

    @property
    def role(self) -> str:
        return self.record["RoleArn"]

    def client(self, service: str) -> Any:
        if service not in self._clients:
            self._clients[service] = self.platform.client(
                service, self.context.account, self.context.region, self.role, "SageMaker"
            )
        return self._clients[service]

    def setting(self, name: str) -> Any:
        """Return a setting by its name without the kind: `stop_grace` reads `training_stop_grace`."""
        return setting(self.platform, f"{self.kind.folder}_{name}")

    def stopped(self) -> bool:
        return self.stopping.is_set() or self.abandoned.is_set()

    @contextlib.contextmanager
    def logs(self) -> Iterator[LogWriter]:
        """Yield a writer to the job's log group. It is flushed when the block ends."""
        writer = LogWriter(lambda: self.client("logs"), self.kind.log_group, self.setting("log_interval"))
        try:
            yield writer
        finally:
            writer.close()

    def _run(self) -> None:
        outcome = Outcome("Failed")
        try:
            self.record = self.context.store.get(self.kind.records, self.name) or {}
            outcome = self.work()
        except (JobError, artifacts.TransferError) as error:
            outcome.members["FailureReason"] = str(error)
        except ApiError as error:  # the job's role can no longer be assumed
            outcome.members["FailureReason"] = f"ClientError: {error.message}"
        except Exception as error:
            logger.exception("Could not run the %s %s", self.kind.words, self.name)
            outcome.members["FailureReason"] = f"InternalServerError: the local cloud failed: {error!r}"
        if self.abandoned.is_set() and outcome.status != "Completed":
            outcome = Outcome("Failed", {"FailureReason": self.kind.abandoned})
        if "FailureReason" in outcome.members:
            outcome.members["FailureReason"] = outcome.members["FailureReason"][:LONGEST_REASON]
        # Release the instances before the final status is visible, so that callers can start the next job
        with self.context.store.store.exclusive():
            self.context.store.store.live.pop(self.key, None)
        self.finish(outcome)


# Quotas of instances


def running(context: Context, kind: JobKind) -> list[Any]:
    """Return the running jobs of this kind in the account and Region."""
    place = (kind.records, context.account, context.region)
    return [job for key, job in context.store.store.live.items() if key[:3] == place]


def check_size(context: Context, kind: JobKind, asked: Counter[str]) -> None:
    """Raise ApiError if a job has more instances than a single job may have."""
    most = setting(context.platform, f"{kind.folder}_instances_per_job")
    if asked.total() > most:
        quota = f"Maximum number of instances per {kind.words}"
        raise quotas.limit_exceeded(quota, most, 0, asked.total())


def check_usage(context: Context, name: str, usage: str, asked: Counter[str], used: Counter[str]) -> None:
    """Raise ApiError if the requested instances and those in use exceed the quota of an instance type.

    :param name: setting with the quota, which applies to each instance type separately
    :param usage: AWS's name of the quota, without the instance type: `training job usage`
    :param asked: requested instances by type
    :param used: instances in use by type
    """
    most = setting(context.platform, name)
    for instance_type, count in asked.items():
        if used[instance_type] + count > most:
            quota = f"{instance_type} for {usage}"
            raise quotas.limit_exceeded(quota, most, used[instance_type], count)


def check_quotas(context: Context, kind: JobKind, asked: Counter[str]) -> None:
    """Raise ApiError if a job with these instances exceeds a quota of its kind."""
    used: Counter[str] = sum((job.instances for job in running(context, kind)), Counter())
    check_size(context, kind, asked)
    check_usage(context, f"{kind.folder}_instances", f"{kind.words} usage", asked, used)
