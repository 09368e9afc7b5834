"""A running labeling job: annotation functions, simulated labelers, and Ground Truth's output files.

https://docs.aws.amazon.com/sagemaker/latest/dg/sms-data-output.html
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from local.sagemaker.api import Context
from local.sagemaker.artifacts import TransferError
from local.sagemaker.jobs.job import Job, JobError, Outcome
from local.sagemaker.jobs.kinds import LABELING
from local.sagemaker.jobs.status import change, put, start_clock
from local.sagemaker.labeling.files import JobFiles
from local.sagemaker.labeling.functions import AnnotationFunction, contents, needs_labelers
from local.sagemaker.labeling.labelers import Crowd, response
from local.sagemaker.labeling.manifest import REFERENCE, DataObject, categories, output_line, parse
from local.sagemaker.labeling.template import answered, elements
from local.sagemaker.labeling.validation import functions
from local.sagemaker.store import Record

SIMULATED = (
    "The labelers of this job are simulated by the local cloud;"
    " Ground Truth has taken no new customers since 31 July 2026."
)
"""First line of each job's log."""
TYPE = "groundtruth/custom"
"""`type` in the metadata of a job with a custom template and custom functions."""


def counters(total: int, labeled: int = 0, failed: int = 0) -> dict[str, int]:
    """Return `LabelCounters` for `total` objects."""
    return {
        "TotalLabeled": labeled,
        "HumanLabeled": labeled,
        "MachineLabeled": 0,
        "FailedNonRetryableError": failed,
        "Unlabeled": total - labeled - failed,
    }


@dataclass
class Work:
    """The objects of a job, and the results so far."""

    objects: list[DataObject]
    crowd: Crowd
    elements: Mapping[str, str]
    """Names of the template's classification elements, by the element's HTML tag"""
    pre: AnnotationFunction | None
    post: AnnotationFunction | None
    labeled: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Fields to add to an object's line, by the object's ID"""
    failed: dict[str, str] = field(default_factory=dict)
    """Failure reasons by the object's ID"""

    @property
    def counters(self) -> dict[str, int]:
        return counters(len(self.objects), len(self.labeled), len(self.failed))


class LabelingJob(Job):
    """A running labeling job. It reads, writes and calls functions with its role."""

    kind = LABELING

    def __init__(self, context: Context, name: str):
        super().__init__(context, name, Counter())

    def work(self) -> Outcome:
        start_clock(self.context, self.kind, self.name)
        with self.logs() as logs:

            def log(line: str) -> None:
                logs.write(self.name, line)

            log(SIMULATED)
            try:
                outcome = self._label(log)
            except (JobError, TransferError) as error:
                log(str(error))
                raise
            log(outcome.members.get("FailureReason", f"The job is {outcome.status}."))
            return outcome

    def _label(self, log: Callable[[str], None]) -> Outcome:
        work = self._prepared()
        self._begin(work)
        total, crowd = len(work.objects), work.crowd
        limit, size = self._limit(total), self._task["MaxConcurrentTaskCount"]
        log(
            f"{total} objects, {min(self._labels, crowd.count)} labels each by {crowd.count} simulated"
            f" labelers. If a line has the field {crowd.truth_field!r}, a label is right with probability"
            f" {crowd.accuracy:g}; otherwise it is random."
        )
        try:
            for iteration, start in enumerate(range(0, limit, size), start=1):
                if self.stopped():
                    break
                self._label_batch(work, work.objects[start : min(start + size, limit)], iteration)
                self._update(LabelCounters=work.counters)
                log(f"{len(work.labeled)} of {total} objects are labeled, {len(work.failed)} failed.")
        finally:  # labels are written even if the job fails or is stopped
            self._write_output(work)
        members = {
            "LabelCounters": work.counters,
            "LabelingJobOutput": {"OutputDatasetS3Uri": self._output},
        }
        if self.stopping.is_set():
            return Outcome("Stopped", members)
        if work.failed and not work.labeled:
            reason = f"ClientError: No object was labeled. {next(iter(work.failed.values()))}"
            return Outcome("Failed", members | {"FailureReason": reason})
        return Outcome("Completed" if limit == total else "Stopped", members)

    # Request

    @property
    def _task(self) -> Record:
        return self.record["HumanTaskConfig"]

    @property
    def _labels(self) -> int:
        return self._task["NumberOfHumanWorkersPerDataObject"]

    @property
    def _attribute(self) -> str:
        return self.record["LabelAttributeName"]

    @property
    def _folder(self) -> str:
        return f"{self.record['OutputConfig']['S3OutputPath'].rstrip('/')}/{self.name}"

    @property
    def _output(self) -> str:
        return f"{self._folder}/manifests/output/output.manifest"

    @property
    def _files(self) -> JobFiles:
        return JobFiles(self.client("s3"), self.role, self.record["OutputConfig"].get("KmsKeyId", ""))

    def _limit(self, total: int) -> int:
        """Return the number of objects to label: `total`, or fewer if a stopping condition limits it."""
        conditions = self.record.get("StoppingConditions", {})
        share = total * conditions.get("MaxPercentageOfInputDatasetLabeled", 100) // 100
        return min(share, conditions.get("MaxHumanLabeledObjectCount", total))

    def _prepared(self) -> Work:
        """Read the files of the request. Raises JobError and TransferError."""
        files, arns = self._files, functions(self._task)
        manifest = self.record["InputConfig"]["DataSource"]["S3DataSource"]["ManifestS3Uri"]
        objects = files.read("input manifest", manifest, parse)
        config = self.record["LabelCategoryConfigS3Uri"]
        classes = files.read("label category configuration", config, categories)
        template = self._task["UiConfig"]["UiTemplateS3Uri"]
        names = files.read("worker task template", template, elements)
        try:
            crowd = Crowd(
                job=self.record[LABELING.arn],
                region=self.context.region,
                classes=classes,
                count=int(self.setting("labelers")),
                accuracy=self.setting("accuracy"),
                truth_field=self.setting("truth_field"),
            )
            crowd.check(objects)
        except ValueError as error:
            raise JobError(f"ClientError: Simulated labelers cannot label {manifest}: {error}") from None
        pre = self._function("pre-annotation", arns.get("PreHumanTaskLambdaArn"))
        post = self._function("post-annotation", arns.get("AnnotationConsolidationLambdaArn"))
        return Work(objects, crowd, names, pre, post)

    def _function(self, kind: str, arn: str | None) -> AnnotationFunction | None:
        if not arn:
            return None
        place, limit = (self.context.account, self.context.region), self.setting("lambda_timeout")
        client = self.platform.client("lambda", *place, self.role, "SageMaker", limit)
        return AnnotationFunction(kind, arn, client)

    # Status

    def _begin(self, work: Work) -> None:
        def edit(record: Record, moment: float) -> bool:
            if record[LABELING.status] != "Initializing":  # it is already stopping
                return False
            put(record, LABELING, "InProgress", moment, {"LabelCounters": work.counters})
            return True

        change(self.context, LABELING, self.name, edit)

    def _update(self, **members: Any) -> None:
        self.context.store.change(LABELING.records, self.name, lambda record: record | members)

    # Batches

    def _label_batch(self, work: Work, batch: list[DataObject], iteration: int) -> None:
        """Have labelers label the objects, and consolidate the answers. Raises JobError and TransferError."""
        folder, stamp = f"iteration-{iteration}", datetime.now(UTC).strftime("%Y-%m-%d_%H:%M:%S")
        payload, responses = [], {}
        for each in batch:
            if self.stopped():
                break
            if not self._wanted(work, each) or not self._readable(work, each):
                continue
            self.stopping.wait(self.setting("answer"))
            element = answered(work.elements, each.field)
            answers = work.crowd.annotations(each, self._labels, element)
            payload.append({"datasetObjectId": each.id, "dataObject": each.shown, "annotations": answers})
            uri = f"{self._folder}/annotations/worker-response/{folder}/{each.id}/{stamp}.json"
            responses[each.id] = self._files.write(uri, json.dumps(response(answers)).encode())
        if work.post and payload:
            self._consolidate(work, work.post, payload, f"{folder}/{stamp}.json")
        else:
            for id, uri in responses.items():
                metadata = self._metadata() | {"worker-response-ref": uri}
                work.labeled[id] = output_line({self._attribute: {}}, self._attribute, metadata)

    def _wanted(self, work: Work, found: DataObject) -> bool:
        """Return whether the pre-annotation function asks for labels of an object. Raises JobError."""
        if not work.pre:
            return True
        about = f"line {found.line}"
        request = {"labelingJobArn": self.record[LABELING.arn], "dataObject": dict(found.fields)}
        return needs_labelers(work.pre, work.pre.call(request, about), about)

    def _readable(self, work: Work, found: DataObject) -> bool:
        """Return whether the role can read the object's file. If it cannot, the object fails."""
        problem = self._files.problem(found.source) if found.field == REFERENCE else ""
        if problem:
            work.failed[found.id] = f"ClientError: Cannot read {found.source} (line {found.line}): {problem}"
        return not problem

    def _consolidate(
        self, work: Work, post: AnnotationFunction, payload: list[dict[str, Any]], file: str
    ) -> None:
        """Have the post-annotation function consolidate answers. Raises JobError and TransferError."""
        folder = f"{self._folder}/annotations/consolidated-annotation"
        uri = self._files.write(f"{folder}/consolidation-request/{file}", json.dumps(payload).encode())
        request = {
            "labelingJobArn": self.record[LABELING.arn],
            "labelCategories": list(work.crowd.classes),
            "labelAttributeName": self._attribute,
            "roleArn": self.role,
            "payload": {"s3Uri": uri},
        }
        said = post.call(request, uri)
        found = contents(post, said, uri)
        self._files.write(f"{folder}/consolidation-response/{file}", json.dumps(said).encode())
        for each in payload:
            id = each["datasetObjectId"]
            if self._attribute in found.get(id, {}):
                work.labeled[id] = output_line(found[id], self._attribute, self._metadata())
            else:
                work.failed[id] = str(post.error(f"returned no {self._attribute}", f"the object {id}"))

    # Output

    def _metadata(self) -> dict[str, Any]:
        """Return the metadata that the service adds to a label."""
        created = datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
        return {"type": TYPE, "job-name": self.name, "human-annotated": "yes", "creation-date": created}

    def _write_output(self, work: Work) -> None:
        """Write the output manifest. An object without a label keeps its line, with a failure reason if any.

        Raises TransferError.
        """
        lines = []
        for each in work.objects:
            added = work.labeled.get(each.id, {})
            if each.id in work.failed:
                metadata = self._metadata() | {"failure-reason": work.failed[each.id]}
                added = output_line({}, self._attribute, metadata)
            # A label of an earlier job is replaced, also if the new line has only a failure reason
            earlier = self._attribute if added else None
            kept = {name: value for name, value in each.fields.items() if name != earlier}
            lines.append(kept | added)
        body = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        self._files.write(self._output, body.encode())
