"""A running transform job: its containers, its input objects and its output."""

from __future__ import annotations

import gzip
import http.client
import shutil
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import Any

from local.sagemaker import artifacts
from local.sagemaker.api import Context
from local.sagemaker.instances import new_folder
from local.sagemaker.jobs.job import TICK, Job, JobError, Outcome
from local.sagemaker.jobs.kinds import TRANSFORM
from local.sagemaker.jobs.status import start_clock
from local.sagemaker.logs import LogWriter
from local.sagemaker.reply import Reply
from local.sagemaker.serving_container import ServingError
from local.sagemaker.store import Record
from local.sagemaker.transform.container import BatchContainer, Limits, environment
from local.sagemaker.transform.payloads import PayloadError, assembled, payloads, records

INVOCATION_SECONDS = 600
"""Default of InvocationsTimeoutInSeconds."""
RETRIES = 3
"""Default of InvocationsMaxRetries."""
_BAD_GZIP = (OSError, EOFError, zlib.error)


class InputObject:
    """An object of the input, and the responses to its payloads so far."""

    def __init__(self, bucket: str, key: str, path: PurePosixPath):
        self.bucket, self.key, self.path = bucket, key, path
        self.answers: dict[int, bytes] = {}
        self.failure = ""
        """ClientError or AlgorithmError if the object has failed, otherwise empty."""


Payload = tuple[InputObject, int, bytes]


class PayloadQueue:
    """Thread-safe queue of payloads, in order."""

    def __init__(self, source: Iterator[Payload]):
        self._source, self._lock = source, threading.Lock()

    def take(self) -> Payload | None:
        """Return the next payload, or None after the last one. Raises TransferError."""
        with self._lock:
            return next(self._source, None)


class TransformJob(Job):
    """A running transform job.

    As on AWS, if an object fails, the job fails, and only the other objects get an output. A stopped job has
    no output. Requests without a response or with a server error are retried; other errors are not.
    """

    kind = TRANSFORM

    def __init__(self, context: Context, name: str, model: Record, instances: Counter[str]):
        """:param model: record with ExecutionRoleArn and Container"""
        super().__init__(context, name, instances)
        self._model = model

    @property
    def role(self) -> str:
        return self._model["ExecutionRoleArn"]

    def work(self) -> Outcome:
        scratch = new_folder(self.platform, self.kind.folder)
        scratch.mkdir(parents=True)
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, scratch, ignore_errors=True)
            source = self.record["TransformInput"]["DataSource"]["S3DataSource"]
            found = artifacts.listed(self.client("s3"), source, self.role)
            objects = [InputObject(*each) for each in found]
            with self.logs() as logs:
                if not self._transform(objects, scratch, logs):
                    return Outcome("Stopped")
            self._upload([each for each in objects if not each.failure], scratch)
            failures = {each.failure for each in objects if each.failure}
            if failures:
                worst = "AlgorithmError" if "AlgorithmError" in failures else "ClientError"
                return Outcome("Failed", {"FailureReason": f"{worst}: See job logs for more information"})
            return Outcome("Completed")

    def _transform(self, objects: list[InputObject], scratch: Path, logs: LogWriter) -> bool:
        """Send all objects to the containers. Return False if the job was stopped.

        Raises JobError if a container does not start, and TransferError if an object cannot be read.
        """
        count = self.record["TransformResources"]["InstanceCount"]
        container = dict(self._model["Container"])
        container["Environment"] = container["Environment"] | environment(self.record)
        spec = self._model | {"Container": container, "InitialInstanceCount": count}
        containers = [BatchContainer(self.context, spec, logs, self.name) for _ in range(count)]
        try:
            with ThreadPoolExecutor(max_workers=count) as pool:
                starts = [pool.submit(each.start) for each in containers]
                if not self._watch(starts, containers):
                    return False
            start_clock(self.context, self.kind, self.name)
            limits = Limits.of(self.record, containers[0].parameters())
            with ThreadPoolExecutor(max_workers=count * limits.concurrent) as pool:
                work = []
                for index, each in enumerate(containers):
                    # Distribute objects among the instances. All payloads of an object go to one instance
                    queue = PayloadQueue(self._payloads(objects[index::count], limits, scratch, each, logs))
                    self._log(logs, each, str(limits))
                    work += [pool.submit(self._send, queue, each, logs) for _ in range(limits.concurrent)]
                return self._watch(work, containers) and all(each.result() for each in work)
        except ServingError as error:
            raise JobError(f"ClientError: {error}") from error
        finally:
            for each in containers:
                each.stop()

    def _watch(self, work: Sequence[Future[Any]], containers: Sequence[BatchContainer]) -> bool:
        """Wait for all futures. Return False if the job was stopped. Raises the futures' errors.

        After a stop or an error, the containers are stopped first."""
        waiting = set(work)
        try:
            while waiting and not self.stopped():
                done, waiting = wait(waiting, TICK, FIRST_EXCEPTION)
                for each in done:
                    each.result()
            return not waiting
        finally:
            if waiting:
                for each in containers:
                    each.stop()

    def _payloads(
        self,
        objects: Sequence[InputObject],
        limits: Limits,
        scratch: Path,
        container: BatchContainer,
        logs: LogWriter,
    ) -> Iterator[Payload]:
        """Yield the payloads of an instance's objects. Objects are downloaded one by one, when needed."""
        given = self.record["TransformInput"]
        file = scratch / container.id
        for each in objects:
            artifacts.fetch_object(self.client("s3"), each.bucket, each.key, file, self.role)
            try:
                with gzip.open(file) if given["CompressionType"] == "Gzip" else file.open("rb") as stream:
                    parts = payloads(records(stream, given["SplitType"]), limits.strategy, limits.bytes)
                    for index, part in enumerate(parts):
                        if each.failure:
                            break  # skip the rest of a failed object
                        yield each, index, part
            except PayloadError as error:
                self._fail(logs, container, each, "ClientError", str(error))
            except _BAD_GZIP as error:
                self._fail(logs, container, each, "ClientError", f"Unable to decompress the data: {error}")

    def _send(self, queue: PayloadQueue, container: BatchContainer, logs: LogWriter) -> bool:
        """Send payloads until none is left. Return False if the job is stopped first."""
        while not self.stopped():
            payload = queue.take()
            if payload is None:
                return True
            each, index, body = payload
            if each.failure:
                continue
            reply, problem = self._ask(container, body)
            if reply is not None and 200 <= reply.status < 300:
                each.answers[index] = reply.body
            elif not self.stopped():  # else the container was stopped with the job
                client = reply is not None and 400 <= reply.status < 500
                kind = "ClientError" if client else "AlgorithmError"
                message = reply.body.decode(errors="replace") if reply is not None else ""
                self._fail(logs, container, each, kind, problem, message)
        return False

    def _ask(self, container: BatchContainer, body: bytes) -> tuple[Reply | None, str]:
        """Send one request, with retries. Return the last response, or None, and the error message."""
        config = self.record.get("ModelClientConfig", {})
        seconds = config.get("InvocationsTimeoutInSeconds", INVOCATION_SECONDS)
        types = {
            "Content-Type": self.record["TransformInput"].get("ContentType"),
            "Accept": self.record["TransformOutput"].get("Accept"),
        }
        headers = {name: value for name, value in types.items() if value}
        reply, problem, pause = None, "", self.setting("retry")
        for attempt in range(config.get("InvocationsMaxRetries", RETRIES) + 1):
            if attempt:
                self.stopping.wait(pause)
                pause *= 2
            if self.stopped():
                break
            reply = None
            try:
                reply = container.ask(headers, body, timeout=seconds)
            except TimeoutError:
                problem = f"Model server did not respond to /invocations request within {seconds} seconds"
            except (OSError, http.client.HTTPException):
                problem = "Unable to get response from algorithm"
                if not container.running:
                    break
            if reply is not None and reply.status < 500:
                problem = f"ClientError: {reply.status}"
                break
            if reply is not None:
                problem = f"Bad HTTP status received from algorithm: {reply.status}"
        return reply, problem

    def _fail(
        self,
        logs: LogWriter,
        container: BatchContainer,
        each: InputObject,
        kind: str,
        problem: str,
        message: str = "",
    ) -> None:
        each.failure = each.failure or kind
        each.answers.clear()
        name = f"{each.bucket}/{each.key}"
        self._log(logs, container, f"{name}: {problem}")
        for line in ["", "Message:", *message.splitlines()] if message else ():
            self._log(logs, container, f"{name}: {line}")

    def _log(self, logs: LogWriter, container: BatchContainer, text: str) -> None:
        """Write a line that comes from SageMaker itself to the stream `data-log`, which is separate from the
        container's stream."""
        clock = time.time()
        moment = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(clock))}.{int(clock % 1 * 1000):03d}"
        logs.write(f"{container.stream}/data-log", f"{moment}:[sagemaker logs]: {text}")

    def _upload(self, objects: Sequence[InputObject], scratch: Path) -> None:
        """Upload the output of the objects. Raises TransferError."""
        config = self.record["TransformOutput"]
        files: dict[str, Path] = {}
        for each in objects:
            name = f"{each.path}.out"
            file = files[name] = scratch / "out" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            answers = [each.answers[index] for index in sorted(each.answers)]
            file.write_bytes(assembled(answers, config.get("AssembleWith", "None")))
        place, key = config["S3OutputPath"].rstrip("/"), config.get("KmsKeyId", "")
        artifacts.store_output(self.client("s3"), files, place, False, key, scratch)
