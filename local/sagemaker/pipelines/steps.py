"""Lambda, callback, condition and fail steps, and the class for each type of step."""

from __future__ import annotations

import json
import threading
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, ReadTimeoutError

from local.sagemaker.api import ApiError
from local.sagemaker.pipelines import conditions
from local.sagemaker.pipelines.attempts import LOST, Ended, StepAttempt, StepError, StepRun
from local.sagemaker.pipelines.definition import is_of
from local.sagemaker.pipelines.expressions import STRING, as_text
from local.sagemaker.pipelines.retries import SERVICE_FAULT, exception_of
from local.sagemaker.pipelines.sagemaker_steps import JobAttempt, ModelAttempt, RegisterModelAttempt
from local.sagemaker.pipelines.state import random_letters
from local.sagemaker.quotas import setting


def _refused(what: str, error: ClientError | BotoCoreError) -> StepError:
    """Return the error for a failed request to another service."""
    if not isinstance(error, ClientError):
        return StepError(f"InternalServerError: Failed to invoke {what}. {error}", SERVICE_FAULT)
    given = error.response.get("Error", {})
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 400)
    exception = exception_of(ApiError(given.get("Code", ""), "", status))
    details = f"Error Details: {given.get('Message', error)}"
    return StepError(f"ClientError: Failed to invoke {what}. {details}", exception)


def listed(outputs: dict[str, Any]) -> list[dict[str, str]]:
    """Return output parameters in the format of a step's metadata."""
    return [{"Name": name, "Value": as_text(value)} for name, value in outputs.items()]


class LambdaAttempt(StepAttempt):
    """A Lambda function, invoked once. It cannot be stopped. If the server ends, its response is lost."""

    stoppable = False

    def __init__(self, run: StepRun):
        super().__init__(run)
        self._arn = run.step.body["FunctionArn"]
        self._done = threading.Event()
        self._ended: Ended | None = None
        self._error: StepError | None = None

    def begin(self) -> None:
        arguments = self.run.values(self.run.step.arguments)
        limit = setting(self.run.context.platform, "pipeline_lambda_timeout")
        client = self.run.client("lambda", limit)
        self.run.add_metadata({"Lambda": {"Arn": self._arn}})
        name = f"Lambda step {self.run.step.name}"
        given = (client, json.dumps(arguments), limit)
        threading.Thread(target=self._invoke, args=given, name=name, daemon=True).start()

    def resume(self) -> None:
        raise StepError(LOST)

    def _invoke(self, client: Any, payload: str, limit: float) -> None:
        try:
            answer = client.invoke(FunctionName=self._arn, Payload=payload)
            self._ended = self._answered(answer.get("FunctionError"), json.loads(answer["Payload"].read()))
        except ReadTimeoutError:
            message = f"ClientError: Lambda function {self._arn} did not end within {limit:g} seconds."
            self._error = StepError(message, timed_out=True)
        except (ClientError, BotoCoreError) as error:
            self._error = _refused("lambda:InvokeFunction", error)
        except StepError as error:
            self._error = error
        except Exception as error:
            self._error = StepError(f"InternalServerError: the local cloud failed: {error!r}")
        self._done.set()
        self.run.wake()

    def _answered(self, failed: str | None, answer: Any) -> Ended:
        if failed:
            said = answer if isinstance(answer, dict) else {}
            details = f"{said.get('errorType', failed)}: {said.get('errorMessage', answer)}"
            raise StepError(f"ClientError: Lambda function {self._arn} failed. Error Details: {details}")
        outputs = {}
        for name, kind in self.run.step.outputs.items():
            if not isinstance(answer, dict) or name not in answer:
                problem = f"has no output parameter '{name}'"
                raise StepError(f"ClientError: The response of Lambda function {self._arn} {problem}.")
            value = as_text(answer[name]) if kind == STRING else answer[name]
            if not is_of(value, kind):
                problem = f"has the output parameter '{name}' with {value!r}, which is not of type {kind}"
                raise StepError(f"ClientError: The response of Lambda function {self._arn} {problem}.")
            outputs[name] = value
        metadata = {"Arn": self._arn} | ({"OutputParameters": listed(outputs)} if outputs else {})
        return Ended({"OutputParameters": outputs}, {"Lambda": metadata})

    def poll(self) -> Ended | None:
        if not self._done.is_set():
            return None
        if self._error:
            raise self._error
        return self._ended


class CallbackAttempt(StepAttempt):
    """A message to an SQS queue, and the wait for the callback."""

    def begin(self) -> None:
        token = self.run.record.get("_Token") or random_letters(10)
        self.run.save(_Token=token)
        queue = {"CallbackToken": token, "SqsQueueUrl": self._url}
        self.run.add_metadata({"Callback": queue})
        self._send(token, "Executing")
        self.run.save(_Sent=True)

    def resume(self) -> Ended | None:
        return self.poll() if self.run.record.get("_Sent") else self.begin()

    @property
    def _url(self) -> str:
        return self.run.step.body["SqsQueueUrl"]

    def _send(self, token: str, status: str) -> None:
        message = {
            "token": token,
            "pipelineExecutionArn": self.run.execution["PipelineExecutionArn"],
            "arguments": self.run.values(self.run.step.arguments),
            "status": status,
        }
        try:
            self.run.client("sqs").send_message(QueueUrl=self._url, MessageBody=json.dumps(message))
        except (ClientError, BotoCoreError) as error:
            raise _refused("sqs:SendMessage", error) from error

    def poll(self) -> Ended | None:
        record = self.run.record
        answer = record.get("_Answer")
        if answer is None:
            return None
        if "FailureReason" in answer:
            raise StepError(f"ClientError: {answer['FailureReason']}")
        outputs = answer["OutputParameters"]
        metadata = record["Metadata"]["Callback"]
        if outputs:
            metadata |= {"OutputParameters": listed(outputs)}
        return Ended({"OutputParameters": outputs}, {"Callback": metadata})

    def stop(self) -> None:
        """Send a message with the status Stopping. The step ends at the callback."""
        self._send(self.run.record["_Token"], "Stopping")


class ConditionAttempt(StepAttempt):
    """Conditions that are evaluated immediately. The outcome is true if all are true."""

    def begin(self) -> Ended:
        given = self.run.step.arguments["Conditions"]
        outcome = self.run.evaluated(
            lambda evaluator: all(conditions.holds(each, evaluator) for each in given)
        )
        return Ended({"Outcome": outcome}, {"Condition": {"Outcome": str(outcome)}})


class FailAttempt(StepAttempt):
    """The failure of the execution, with a message from the definition."""

    def begin(self) -> None:
        message = as_text(self.run.values(self.run.step.arguments.get("ErrorMessage", "")))
        self.run.add_metadata({"Fail": {"ErrorMessage": message}})
        raise StepError(message)


ATTEMPTS: dict[str, type[StepAttempt]] = {
    "Training": JobAttempt,
    "Processing": JobAttempt,
    "Transform": JobAttempt,
    "Model": ModelAttempt,
    "RegisterModel": RegisterModelAttempt,
    "Lambda": LambdaAttempt,
    "Callback": CallbackAttempt,
    "Condition": ConditionAttempt,
    "Fail": FailAttempt,
}
"""Class of the attempts of each type of step."""
