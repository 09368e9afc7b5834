"""SageMaker's pipelines without a cloud: jobs, queues and functions that behave as a test plans."""

from __future__ import annotations

import functools
import io
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError, ReadTimeoutError

from local.sagemaker import api, pipelines
from local.sagemaker.api import ApiError, Context, Operation, invalid, now
from local.sagemaker.store import Record, Store
from tests.support.pipelines import ROLE
from tests.support.waiting import until

ACCOUNT, REGION = "000000000000", "eu-west-1"
ENDED = ("Succeeded", "Failed", "Stopped", "CompletedWithFailures")
KINDS = {"TrainingJob": "training-job", "ProcessingJob": "processing-job", "TransformJob": "transform-job"}
"""Kinds of jobs: the name in operations, and in ARNs."""


class PipelineWorld:
    """SageMaker's operations in one account, called by the account's owner. The object also replaces the
    platform on which the local cloud's SageMaker runs.

    `plan` lists the outcomes of the successive jobs of a step, by the step's name: `Completed`, `Stopped`,
    `InProgress` (until `end_job`), a FailureReason, or the ApiError that refuses the request. Without a plan,
    jobs complete.
    """

    def __init__(self, folder: Path):
        self.settings: dict[str, Any] = {"pipeline_poll": 0.01}
        self.folder, self.store = folder, Store(folder / "records.sqlite")
        self.store._db.execute("PRAGMA synchronous=OFF")  # records need not survive a crash
        self.plan: dict[str, list[Any]] = {}
        self.asked: list[dict[str, Any]] = []
        """Requests that create jobs"""
        self.results: dict[str, dict[str, Any]] = {}
        """Additional members in the descriptions of a kind of jobs, such as `TrainingJob`"""
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.messages: list[dict[str, Any]] = []
        """Messages in the queue of callbacks"""
        self.functions: dict[str, Callable[[Any], Any]] = {}
        self.objects: dict[str, bytes] = {}

    # Methods of the platform

    def authorize(self, *asked: Any) -> None: ...

    def credentials(self, account: str, region: str, role: str, session: str) -> dict[str, str]:
        return {"AWS_ACCESS_KEY_ID": f"key of {role}"}

    def publish(self, account: str, region: str, kind: str, detail: dict[str, Any], *resources: str) -> None:
        self.events.append((kind, detail))

    def manifest_type(self, uri: str) -> str | None: ...

    def client(self, service: str, *where: Any) -> Any:
        return self

    # This object is also the client of SQS, S3 and Lambda, with the following methods

    def send_message(self, QueueUrl: str, MessageBody: str) -> None:
        self.messages.append(json.loads(MessageBody))

    def get_object(self, Bucket: str, Key: str) -> dict[str, Any]:
        if f"s3://{Bucket}/{Key}" not in self.objects:
            raise ClientError({"Error": {"Code": "NoSuchKey", "Message": "no such key"}}, "GetObject")
        return {"Body": io.BytesIO(self.objects[f"s3://{Bucket}/{Key}"])}

    def invoke(self, FunctionName: str, Payload: str) -> dict[str, Any]:
        try:
            answer, failed = self.functions[FunctionName](json.loads(Payload)), None
        except TimeoutError:
            raise ReadTimeoutError(endpoint_url="lambda") from None
        except RuntimeError as error:
            answer, failed = {"errorType": "RuntimeError", "errorMessage": str(error)}, "Unhandled"
        return {"Payload": io.BytesIO(json.dumps(answer).encode()), "FunctionError": failed}

    # Jobs

    def jobs(self) -> dict[str, Operation]:
        """Operations of jobs, with the planned outcomes."""
        return {
            f"{verb}{kind}": Operation(functools.partial(do, kind), None, ())
            for kind in KINDS
            for verb, do in {"Create": self._create, "Describe": self._describe, "Stop": self._stop}.items()
        }

    def _create(self, kind: str, context: Context, params: dict[str, Any]) -> dict[str, Any]:
        name = params[f"{kind}Name"]
        step = name.split("-")[2]
        planned = self.plan[step].pop(0) if self.plan.get(step) else "Completed"
        if isinstance(planned, ApiError):
            self.asked.append(params)
            raise planned
        job = params | {f"{kind}Arn": context.arn(KINDS[kind], name), "CreationTime": now(), "_Kind": kind}
        job |= self.results.get(kind, {})
        assert context.store.add("fake-job", name, job | _ending(kind, planned))
        self.asked.append(params)  # appended last, because tests end a job as soon as this list has it
        return {f"{kind}Arn": job[f"{kind}Arn"]}

    def _describe(self, kind: str, context: Context, params: dict[str, Any]) -> Record:
        job = context.store.get("fake-job", params[f"{kind}Name"])
        if job is None:
            raise invalid("Requested resource not found.")
        return job

    def _stop(self, kind: str, context: Context, params: dict[str, Any]) -> None:
        self.end_job(params[f"{kind}Name"], "Stopped")

    def end_job(self, name: str, planned: str) -> None:
        self.scope.change("fake-job", name, lambda job: job | _ending(job["_Kind"], planned))

    # Helpers for tests

    @property
    def scope(self) -> Any:
        return self.store.scoped(ACCOUNT, REGION)

    def call(self, operation: str, **params: Any) -> dict[str, Any]:
        context = Context(self, self.scope)  # type: ignore[arg-type]
        return api.call(context, operation, api.with_tokens(operation, params))

    def create(self, text: str, name: str = "p", **members: Any) -> str:
        return self.call(
            "CreatePipeline", PipelineName=name, RoleArn=ROLE, PipelineDefinition=text, **members
        )["PipelineArn"]

    def start(self, text: str | None = None, name: str = "p", **members: Any) -> str:
        if text is not None:
            self.create(text, name)
        return self.call("StartPipelineExecution", PipelineName=name, **members)["PipelineExecutionArn"]

    def describe(self, arn: str) -> dict[str, Any]:
        return self.call("DescribePipelineExecution", PipelineExecutionArn=arn)

    def steps(self, arn: str) -> dict[str, dict[str, Any]]:
        """Return the steps of an execution by name, in the order of their start."""
        answer = self.call(
            "ListPipelineExecutionSteps", PipelineExecutionArn=arn, SortOrder="Ascending", MaxResults=100
        )
        return {step["StepName"]: step for step in answer["PipelineExecutionSteps"]}

    def statuses(self, arn: str) -> dict[str, str]:
        return {name: step["StepStatus"] for name, step in self.steps(arn).items()}

    def waits_for_retry(self, arn: str, step: str) -> bool:
        record = self.scope.get("pipeline-execution", arn.partition("pipeline/")[2])
        return bool(record["Steps"].get(step, {}).get("_Waiting"))

    def ended(self, arn: str) -> dict[str, Any]:
        """Wait until an execution has ended; return its description."""

        def look() -> dict[str, Any] | None:
            found = self.describe(arn)
            return found if found["PipelineExecutionStatus"] in ENDED else None

        return until(look, f"the end of {arn}", 20)

    def run(self, text: str, **members: Any) -> tuple[str, str]:
        """Run a new pipeline to its end; return the ARN and the status of its execution."""
        arn = self.start(text, **members)
        return arn, self.ended(arn)["PipelineExecutionStatus"]

    def restart(self) -> PipelineWorld:
        """Stop this server, and return another server with the same records. After `recover`, the new server
        continues the executions."""
        pipelines.shutdown(self.store)
        other = PipelineWorld(self.folder)
        other.plan, other.functions, other.objects = self.plan, self.functions, self.objects
        return other

    def recover(self) -> None:
        pipelines.recover(self, self.store)  # type: ignore[arg-type]

    def changes(self, step: str) -> list[str]:
        """Return the statuses of a step in its events."""
        return [detail["currentStepStatus"] for _, detail in self.events if detail.get("stepName") == step]


def _ending(kind: str, planned: str) -> dict[str, str]:
    """Return the members of a job's description that report its outcome."""
    if planned in ("Completed", "Stopped", "InProgress"):
        return {f"{kind}Status": planned}
    return {f"{kind}Status": "Failed", "FailureReason": planned}


def gate() -> tuple[threading.Event, Callable[[Any], Any]]:
    """Return an event, and a function that returns once the event is set."""
    opened = threading.Event()

    def wait(event: Any) -> Any:
        assert opened.wait(20)
        return {}

    return opened, wait
