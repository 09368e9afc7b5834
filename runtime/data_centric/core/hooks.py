"""Pre- and post-annotation functions, with the requests and responses of SageMaker Ground Truth.

The default functions are here too: one shows the item unchanged, the other consolidates by the Dawid-Skene
model.

https://docs.aws.amazon.com/sagemaker/latest/dg/sms-custom-templates-step3-lambda-requirements.html
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from data_centric.core import intake, manifests, reviews
from data_centric.core.answers import Answer
from data_centric.core.consensus import dawid_skene
from data_centric.core.manifests import METADATA, REFERENCE, TEXT, TYPES, Entry, Label
from data_centric.core.places import Places
from data_centric.core.runs import RunSettings
from data_centric.core.tasks import TaskRow

VERSION = "2018-10-16"
AT_ONCE = 5_000
"""Maximum number of items in a post-annotation request, in addition to the gold questions. With this number,
the response stays below Lambda's limit of 6 MB."""
ELEMENTS = {REFERENCE: "crowd-image-classifier", TEXT: "crowd-classifier"}
"""For each source field of a manifest, the Ground Truth HTML element whose name is the key of an answer."""


class HookError(Exception):
    """A pre- or post-annotation function failed, or its response is invalid."""


# Before labeling


def pre_request(job: str, entry: Entry) -> dict[str, Any]:
    """Return the pre-annotation request for a manifest entry.

    :param job: ARN of the labeling job, or of the state machine's execution
    """
    return {"version": VERSION, "labelingJobArn": job, "dataObject": dict(entry.fields)}


def task_input(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the default response to a pre-annotation request: the unchanged item."""
    found = request["dataObject"]
    shown = {"taskObject": found[REFERENCE if REFERENCE in found else TEXT]}
    review = {reviews.FIELD: found[reviews.FIELD]} if reviews.FIELD in found else {}
    return {"taskInput": shown | review, "isHumanAnnotationRequired": True}


def prepared(task: TaskRow, entry: Entry, response: Any, run: RunSettings, places: Places) -> TaskRow | None:
    """Return the task with the content of the response; None if no labeler is needed. Raises `HookError`."""
    try:
        return _prepared(task, entry, response, run, places)
    except ValueError as error:
        raise HookError(f"pre-annotation of line {entry.line}: {error}") from None


def _prepared(task: TaskRow, entry: Entry, response: Any, run: RunSettings, places: Places) -> TaskRow | None:
    if not isinstance(response, Mapping) or not isinstance(response.get("taskInput"), Mapping):
        raise ValueError(f"the response must have the object taskInput, got {str(response)[:200]}")
    needed = response.get("isHumanAnnotationRequired", True)
    if str(needed).lower() not in ("true", "false"):
        raise ValueError(f"isHumanAnnotationRequired must be true or false, got {needed!r}")
    if str(needed).lower() == "false":
        return None
    shown = response["taskInput"]
    source = shown.get("taskObject")
    if not isinstance(source, str) or not source.strip():
        raise ValueError(f"taskInput.taskObject must be a text that is not empty, got {source!r}")
    if len(json.dumps(shown, ensure_ascii=False).encode()) > manifests.LONGEST_LINE:
        raise ValueError(f"taskInput must have at most {manifests.LONGEST_LINE} bytes")
    seen = replace(entry, source=source, fields=shown)
    intake.check_entry(seen, run.kind == "review", places)
    review = reviews.read(shown[reviews.FIELD]).to_json() if run.kind == "review" else ""
    return replace(task, source=source, review=review)


# After labeling


def post_request(job: str, run: RunSettings, payload: str) -> dict[str, Any]:
    """Return the post-annotation request. `payload` is the S3 address of one of the stored `payloads`."""
    return {
        "version": VERSION,
        "labelingJobArn": job,
        "labelCategories": list(run.classes),
        "labelAttributeName": run.attribute,
        "payload": {"s3Uri": payload},
    }


def payloads(run: RunSettings, tasks: Iterable[TaskRow]) -> Iterator[list[dict[str, Any]]]:
    """Yield payloads: each has up to `AT_ONCE` answered items, and all answered gold questions.

    A gold question also has its true class, in `truth`.
    """
    answered = sorted((task for task in tasks if task.answers), key=lambda task: task.item)
    gold = [_annotated(run, task) for task in answered if task.gold]
    items = [_annotated(run, task) for task in answered if not task.gold]
    for start in range(0, len(items), AT_ONCE):
        yield items[start : start + AT_ONCE] + gold


def _annotated(run: RunSettings, task: TaskRow) -> dict[str, Any]:
    data = {"s3Uri": task.source} if task.source_field == REFERENCE else {"content": task.source}
    truth = {"truth": run.classes[task.truth]} if task.truth is not None else {}
    element = ELEMENTS[task.source_field]
    return {
        "datasetObjectId": task.item,
        "dataObject": data,
        **truth,
        "annotations": [
            {
                "workerId": labeler,
                "annotationData": {
                    "content": json.dumps(
                        {element: {"label": None if choice is None else run.classes[choice]}}
                    )
                },
            }
            for labeler, choice in sorted(task.answers.items())
        ],
    }


def consolidated(request: Mapping[str, Any], payload: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the default response to a post-annotation request.

    The response omits items that have only unsure answers. Raises `ValueError` for a request without
    `labelCategories`.
    """
    classes, attribute = request.get("labelCategories"), request["labelAttributeName"]
    if not classes:
        raise ValueError("labelCategories must be a list of classes, got none")
    places = {name: choice for choice, name in enumerate(classes)}
    answers = [
        Answer(each["datasetObjectId"], given["workerId"], places.get(_label_in(given)))
        for each in payload
        for given in each["annotations"]
    ]
    known = {each["datasetObjectId"]: places[each["truth"]] for each in payload if "truth" in each}
    found = dawid_skene(answers, len(classes), known).items
    return [
        {
            "datasetObjectId": each["datasetObjectId"],
            "consolidatedAnnotation": {
                "content": {
                    attribute: found[each["datasetObjectId"]].choice,
                    attribute + METADATA: {
                        "class-name": classes[found[each["datasetObjectId"]].choice],
                        "confidence": round(found[each["datasetObjectId"]].confidence, 4),
                    },
                }
            },
        }
        for each in payload
        if each["datasetObjectId"] in found and "truth" not in each
    ]


def _label_in(annotation: Mapping[str, Any]) -> str | None:
    """Return the class in an annotation's content: `{ELEMENT: {"label": CLASS}}` or `{"label": CLASS}`."""
    content = json.loads(annotation["annotationData"]["content"])
    for found in (content, *content.values()):
        if isinstance(found, Mapping) and isinstance(found.get("label"), str):
            return found["label"]
    return None


def labels(run: RunSettings, entries: Iterable[Entry], response: Any, created: datetime) -> dict[str, Label]:
    """Return the labels of a post-annotation response, by item. Raises `HookError`.

    :param created: creation date of the labels
    """
    if not isinstance(response, list):
        raise HookError(f"the post-annotation response must be a list, got {str(response)[:200]}")
    contents = dict[str, Any]()
    for each in response:
        try:
            contents[each["datasetObjectId"]] = each["consolidatedAnnotation"]["content"]
        except (KeyError, TypeError):
            raise HookError(
                "each item of the post-annotation response must have datasetObjectId and"
                " consolidatedAnnotation.content,"
                f" got {str(each)[:200]}"
            ) from None
    labeled = [
        replace(entry, fields=_with_metadata(run, entry, contents[entry.item], created))
        for entry in entries
        if entry.item in contents
    ]
    try:
        return manifests.labels_of(labeled, run.attribute, run.classes)
    except ValueError as error:
        raise HookError(f"post-annotation response: {error}") from None


def _with_metadata(run: RunSettings, entry: Entry, content: Any, created: datetime) -> dict[str, Any]:
    """Return the label with the metadata that Ground Truth adds."""
    if not isinstance(content, Mapping):
        raise HookError(f"the post-annotation content must be a JSON object, got {str(content)[:200]}")
    given = content.get(run.attribute + METADATA)
    own = {
        "type": TYPES[entry.source_field],
        "job-name": run.name,
        "human-annotated": "yes",
        "creation-date": created.isoformat(),
    }
    metadata = {run.attribute + METADATA: {**given, **own}} if isinstance(given, Mapping) else {}
    return {**{key: value for key, value in content.items() if key == run.attribute}, **metadata}
