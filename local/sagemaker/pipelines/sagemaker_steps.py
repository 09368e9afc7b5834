"""Steps that call SageMaker: training, processing and transform jobs, models and model packages."""

from __future__ import annotations

import uuid
from typing import Any

from local.sagemaker import registry
from local.sagemaker.api import service_model
from local.sagemaker.pipelines import state, step_types
from local.sagemaker.pipelines.attempts import Ended, StepAttempt, StepError, StepRun, with_iso_times
from local.sagemaker.pipelines.retries import exception_of_job


class _RequestAttempt(StepAttempt):
    """A step whose arguments are the request of an operation."""

    def __init__(self, run: StepRun):
        super().__init__(run)
        self.type = step_types.TYPES[run.step.type]

    def _describe(self, **which: str) -> dict[str, Any]:
        operation = str(self.type.describe)
        answer = self.run.call(operation, which)
        return with_iso_times(service_model().operation_model(operation).output_shape, answer)

    def _new_name(self, member: str) -> str:
        """Return a name for the resource that the step creates, after storing it in the step's record.

        :param member: argument of the step that can contain a prefix for the name
        """
        prefix = self.run.step.arguments.get(member)
        name = state.job_name(
            state.execution_id(self.run.execution),
            self.run.step.name,
            str(self.run.values(prefix)) if prefix else None,
        )
        self.run.save(_Name=name)
        return name


class JobAttempt(_RequestAttempt):
    """A training, processing or transform job."""

    def __init__(self, run: StepRun):
        super().__init__(run)
        self.kind = step_types.JOBS[run.step.type]

    def begin(self) -> Ended | None:
        return self._create(self._new_name(f"{self.kind}Name"))

    def resume(self) -> Ended | None:
        name = self.run.record.get("_Name")
        if name is None:
            return self.begin()
        try:
            return self.poll()
        except StepError as error:
            if error.properties or self.type.metadata in self.run.record.get("Metadata", {}):
                raise
            return self._create(name)  # the last server ended before it created the job

    def _create(self, name: str) -> None:
        arguments = self.run.values(self.run.step.arguments, **{f"{self.kind}Name": name})
        answer = self.run.call(f"Create{self.kind}", arguments | {f"{self.kind}Name": name})
        self._created(answer)

    def _created(self, answer: dict[str, Any]) -> None:
        self.run.add_metadata({self.type.metadata: {"Arn": answer[f"{self.kind}Arn"]}})

    def poll(self) -> Ended | None:
        record = self.run.record
        job = self._describe(**{f"{self.kind}Name": record["_Name"]})
        if self.type.metadata not in record.get("Metadata", {}):
            self._created(job)
        status = job[f"{self.kind}Status"]
        if status == "Failed":
            reason = job.get("FailureReason", "")
            raise StepError(f"ClientError: {reason}", exception_of_job(reason), job)
        if status in ("Completed", "Stopped"):
            return Ended(job, status="Succeeded" if status == "Completed" else "Stopped")
        return None

    def stop(self) -> None:
        self.run.call(f"Stop{self.kind}", {f"{self.kind}Name": self.run.record["_Name"]})


class ModelAttempt(_RequestAttempt):
    """A model. It is created immediately."""

    def begin(self) -> Ended:
        name = self._new_name("ModelName")
        self.run.call("CreateModel", self.run.values(self.run.step.arguments) | {"ModelName": name})
        return self._ended(name)

    def resume(self) -> Ended:
        name = self.run.record.get("_Name")
        if name and self.run.context.store.get("model", name):
            return self._ended(name)
        return self.begin()

    def _ended(self, name: str) -> Ended:
        model = self._describe(ModelName=name)
        return Ended(model, {self.type.metadata: {"Arn": model["ModelArn"]}})


class RegisterModelAttempt(_RequestAttempt):
    """A model package. It is created immediately, with its group if that does not exist."""

    def begin(self) -> Ended:
        request = {
            "MetadataProperties": {"GeneratedBy": self.run.execution["PipelineExecutionArn"]},
        } | self.run.values(self.run.step.arguments)
        token = self.run.record.get("_ClientToken") or str(uuid.uuid4())
        self.run.save(_ClientToken=token)
        group = request.get("ModelPackageGroupName", "")
        if group and ":" not in group and self.run.context.store.get(registry.GROUP, group) is None:
            self.run.call("CreateModelPackageGroup", {"ModelPackageGroupName": group})
        arn = self.run.call("CreateModelPackage", request | {"ClientToken": token})["ModelPackageArn"]
        return Ended(self._describe(ModelPackageName=arn), {self.type.metadata: {"Arn": arn}})
