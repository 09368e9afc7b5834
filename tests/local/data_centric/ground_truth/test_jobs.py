"""Labeling jobs with simulated labelers, data_centric's annotation functions, and enforced policies."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from data_centric.core import manifests
from local.sagemaker.labeling.job import SIMULATED
from tests.support.data_centric.labeling_jobs import CLASSES, Labeling
from tests.support.deployments import Machine, task
from tests.support.deployments import role as service_role
from tests.support.jobs import caller, listen, role
from tests.support.waiting import until

NOBODY = {"TotalLabeled": 0, "HumanLabeled": 0, "MachineLabeled": 0, "FailedNonRetryableError": 0}


def test_construct_labels_pictures_that_data_centric_reads(labeling: Labeling) -> None:
    # given pictures, one of which the jobs' role may not read
    lines = labeling.pictures(12)
    other = labeling.put("training/hidden.png", b"hidden")
    manifest = labeling.manifest([*lines, {"source-ref": other, "animal": 2}])
    # when the construct's state machine labels them
    done = labeling.executed({"manifest": manifest, "attribute": "animal"})
    # then the execution's output names the job and the labeled manifest
    assert done["status"] == "SUCCEEDED", done
    output = json.loads(done["output"])
    assert (output["labeled"], output["failed"], output["unlabeled"]) == (12, 1, 0)
    # and most labels are right, in a manifest that data_centric's code reads
    body = labeling.get(output["manifest"])
    entries = [each for each in manifests.parse(body) if each.source != other]
    found = manifests.labels_of(entries, "animal", CLASSES)
    right = [found[each.item].class_name == each.fields["true-class"] for each in entries]
    assert sum(right) >= 10
    assert {each.job for each in found.values()} == {output["job"]}
    # and the line of the failed picture has the reason
    failed = json.loads(body.splitlines()[-1])
    assert f"Cannot read {other} (line 13)" in failed["animal-metadata"]["failure-reason"]
    assert "animal" not in failed
    # and the first log line says that the labels are simulated
    said = labeling.logged(output["job"])
    assert said[0] == SIMULATED
    assert "simulated by the local cloud" in said[0]
    assert "no new customers since 31 July 2026" in said[0]
    # and the job has the construct's tags
    tags = labeling.described(output["job"])["Tags"]
    assert tags == [{"Key": "team", "Value": "a"}]


def test_job_leaves_answers_and_requests_where_ground_truth_does(labeling: Labeling) -> None:
    # given texts, labelers who are never wrong, and a listener on the event bus
    labeling.cloud.configure(labeling_accuracy=1)
    heard = listen(labeling.cloud, "Ground Truth Labeling")
    texts = [{"source": f"text {n}", "true-class": CLASSES[n % 3], "kept": n} for n in range(4)]
    asked = labeling.request(labeling.manifest(texts), MaxConcurrentTaskCount=3)
    name = asked["LabelingJobName"]
    # when a job labels the texts in two batches
    job = labeling.labeled(asked)
    # then each text has its true class as its label, and keeps its fields
    assert job["LabelingJobStatus"] == "Completed", job
    assert job["LabelCounters"] == NOBODY | {"TotalLabeled": 4, "HumanLabeled": 4, "Unlabeled": 0}
    lines = labeling.output(job)
    assert [line["animal-metadata"]["class-name"] for line in lines] == ["cat", "dog", "owl", "cat"]
    assert [line["kept"] for line in lines] == [0, 1, 2, 3]
    assert lines[1]["animal-metadata"]["job-name"] == name
    # and the requests and answers have the S3 keys and the JSON members that AWS documents
    folder = f"labels/{name}/annotations"
    requests = labeling.keys(f"{folder}/consolidated-annotation/consolidation-request/")
    assert [key.split("/")[-2] for key in requests] == ["iteration-1", "iteration-2"]
    assert len(labeling.keys(f"{folder}/consolidated-annotation/consolidation-response/")) == 2
    first = json.loads(labeling.get(f"s3://{labeling.bucket}/{requests[0]}"))[0]
    assert (first["datasetObjectId"], first["dataObject"]) == ("0", {"content": "text 0"})
    workers = {each["workerId"] for each in first["annotations"]}
    assert len(workers) == 3
    assert all(each.startswith(f"private.{labeling.cloud.region}.") for each in workers)
    # and the content of an answer has the name of the template's form element as its key
    content = json.loads(first["annotations"][0]["annotationData"]["content"])
    assert content == {"animal": {"label": "cat"}}
    (response,) = labeling.keys(f"{folder}/worker-response/iteration-2/3/")
    answers = json.loads(labeling.get(f"s3://{labeling.bucket}/{response}"))["answers"]
    assert [each["answerContent"] for each in answers] == [{"animal": {"label": "cat"}}] * 3
    # and the event bus got an event of the job's end
    until(
        lambda: heard() and heard()[-1]["detail"]["LabelingJobStatus"] == "Completed",
        "the event of the job's end",
    )
    # and the job is listed
    sagemaker = labeling.client("sagemaker")
    (listed,) = sagemaker.list_labeling_jobs(NameContains=name)["LabelingJobSummaryList"]
    assert listed["PreHumanTaskLambdaArn"] == labeling.out["Pre"]
    assert listed["LabelCounters"] == job["LabelCounters"]


def test_objects_without_a_true_class_are_answered_at_random(labeling: Labeling) -> None:
    texts = [{"source": f"text {n}"} for n in range(30)]
    asked = labeling.request(
        labeling.manifest(texts), PreHumanTaskLambdaArn=None, AnnotationConsolidationConfig=None
    )
    chosen = {
        answer["answerContent"]["animal"]["label"]
        for line in labeling.output(labeling.labeled(asked))
        for answer in json.loads(labeling.get(line["animal-metadata"]["worker-response-ref"]))["answers"]
    }
    assert chosen == set(CLASSES)


def test_job_without_a_post_annotation_function_refers_to_the_answers(labeling: Labeling) -> None:
    asked = labeling.request(labeling.manifest([{"source": "x"}]), AnnotationConsolidationConfig=None)
    (line,) = labeling.output(labeling.labeled(asked))
    assert line["animal"] == {}
    answers = json.loads(labeling.get(line["animal-metadata"]["worker-response-ref"]))["answers"]
    assert len(answers) == 3


@pytest.mark.parametrize(
    ("conditions", "labeled"),
    [({"MaxHumanLabeledObjectCount": 2}, 2), ({"MaxPercentageOfInputDatasetLabeled": 50}, 3)],
)
def test_stopping_condition_stops_the_job(labeling: Labeling, conditions: Any, labeled: int) -> None:
    texts = [{"source": f"text {n}"} for n in range(6)]
    job = labeling.labeled(labeling.request(labeling.manifest(texts)) | {"StoppingConditions": conditions})
    counted = job["LabelCounters"]
    assert (job["LabelingJobStatus"], counted["TotalLabeled"], counted["Unlabeled"]) == (
        "Stopped",
        labeled,
        6 - labeled,
    )
    assert sum("animal" in line for line in labeling.output(job)) == labeled


def test_stopped_job_keeps_its_labels(labeling: Labeling) -> None:
    # given a job with slow labelers
    labeling.cloud.configure(labeling_answer=0.2)
    asked = labeling.request(labeling.manifest([{"source": f"text {n}"} for n in range(500)]))
    asked["HumanTaskConfig"]["MaxConcurrentTaskCount"] = 2
    name, sagemaker = asked["LabelingJobName"], labeling.client("sagemaker")
    sagemaker.create_labeling_job(**asked)
    until(lambda: labeling.described(name)["LabelCounters"]["TotalLabeled"], "the first labels")
    # when the job is stopped, twice
    for _ in range(2):
        sagemaker.stop_labeling_job(LabelingJobName=name)
    # then its output manifest has all lines, some of them with labels
    job = labeling.ended(name)
    assert job["LabelingJobStatus"] == "Stopped"
    lines = labeling.output(job)
    assert len(lines) == 500
    assert 0 < sum("animal" in line for line in lines) == job["LabelCounters"]["TotalLabeled"] < 500
    with pytest.raises(ClientError, match="is in status Stopped"):
        sagemaker.stop_labeling_job(LabelingJobName=name)


@pytest.mark.parametrize(
    ("lines", "changes", "reason"),
    [
        ([{"source": "x"}, "{not json"], {}, r"inputs/job-\d+.manifest is invalid: line 2 must be JSON"),
        ([{"source": "x", "true-class": "cow"}], {}, "line 1 must have one of the classes cat, dog, owl"),
        (
            [{"source": "x", "source-ref": "s3://b/k"}],
            {},
            "line 1 must have either source-ref or source, got both",
        ),
        (
            [{"source": "x"}],
            {"PreHumanTaskLambdaArn": "arn:aws:lambda:eu-west-1:000000000000:function:none"},
            "The pre-annotation function arn:.*:function:none cannot be invoked for line 1: .*AccessDenied",
        ),
    ],
)
def test_failed_job_names_the_line_or_the_function(
    labeling: Labeling, lines: list[Any], changes: dict[str, Any], reason: str
) -> None:
    job = labeling.labeled(labeling.request(labeling.manifest(lines), **changes))
    assert job["LabelingJobStatus"] == "Failed"
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(job["FailureReason"])
    assert labeling.logged(job["LabelingJobName"])[-1] == job["FailureReason"]


def test_failing_function_fails_the_job_with_its_error(labeling: Labeling) -> None:
    # given the post-annotation function as the pre-annotation function
    asked = labeling.request(labeling.manifest([{"source": "x"}]), PreHumanTaskLambdaArn=labeling.out["Post"])
    job = labeling.labeled(asked)
    assert job["LabelingJobStatus"] == "Failed"
    said = f"The pre-annotation function {labeling.out['Post']} failed for line 1: KeyError"
    assert said in job["FailureReason"]


PICKY = """
def handler(event, context):
    found = event["dataObject"]
    if "fails" in found:
        raise RuntimeError("cannot show " + found["source"])
    return {"taskInput": {}, "isHumanAnnotationRequired": found.get("wanted", True)}
"""
"""A pre-annotation function that fails for lines with the key `fails`, and reports that lines whose `wanted`
is false need no labels."""


def picky(labeling: Labeling, lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Label lines, one at a time, with `PICKY` as the pre-annotation function; return the job."""
    grants = [(f"{service}:*", "*") for service in ("s3", "lambda", "logs")]
    own = service_role(labeling.client, "sagemaker.amazonaws.com", *grants)
    task = {"PreHumanTaskLambdaArn": labeling.function(PICKY), "MaxConcurrentTaskCount": 1}
    return labeling.labeled(labeling.request(labeling.manifest(lines), **task) | {"RoleArn": own})


def test_object_without_need_of_labelers_stays_unlabeled(labeling: Labeling) -> None:
    job = picky(labeling, [{"source": "a"}, {"source": "b", "wanted": False}, {"source": "c"}])
    assert job["LabelingJobStatus"] == "Completed"
    assert (job["LabelCounters"]["TotalLabeled"], job["LabelCounters"]["Unlabeled"]) == (2, 1)
    assert ["animal" in line for line in labeling.output(job)] == [True, False, True]


def test_failed_job_keeps_the_labels_of_earlier_batches(labeling: Labeling) -> None:
    # given a pre-annotation function that fails for the second line
    job = picky(labeling, [{"source": "a"}, {"source": "b", "fails": True}])
    # then the job fails with the function's error, and the first line is labeled
    assert job["LabelingJobStatus"] == "Failed"
    assert job["FailureReason"].endswith("failed for line 2: RuntimeError: cannot show b")
    assert job["LabelCounters"]["TotalLabeled"] == 1
    place = f"s3://{labeling.bucket}/labels/{job['LabelingJobName']}/manifests/output/output.manifest"
    assert ["animal" in json.loads(line) for line in labeling.get(place).splitlines()] == [True, False]


def test_role_of_the_job_needs_each_of_its_grants(labeling: Labeling) -> None:
    # given a role that may not write to S3
    own = role(labeling.cloud, "write")
    asked = labeling.request(labeling.manifest([{"source": "x"}]), PreHumanTaskLambdaArn=None)
    job = labeling.labeled(asked | {"RoleArn": own})
    assert job["LabelingJobStatus"] == "Failed"
    assert '"s3:PutObject" permission' in job["FailureReason"]


def test_caller_needs_to_pass_the_role(labeling: Labeling) -> None:
    create = {"Action": "sagemaker:CreateLabelingJob", "Resource": "*"}
    asked = labeling.request(labeling.manifest([{"source": "x"}]))
    with pytest.raises(ClientError, match="not authorized to perform: iam:PassRole"):
        caller(labeling.cloud, create).create_labeling_job(**asked)


def test_existing_or_unknown_name_is_refused(labeling: Labeling) -> None:
    asked = labeling.request(labeling.manifest([{"source": "x"}]))
    labeling.labeled(asked)
    upper = asked | {"LabelingJobName": asked["LabelingJobName"].upper()}
    sagemaker = labeling.client("sagemaker")
    with pytest.raises(ClientError, match=r"\(ResourceInUse\).*must be unique"):
        sagemaker.create_labeling_job(**upper)
    with pytest.raises(ClientError, match=r"\(ResourceNotFound\)"):
        sagemaker.describe_labeling_job(LabelingJobName="nobody")


def test_state_machine_waits_for_a_job_with_sync(labeling: Labeling) -> None:
    # given a state machine with a grant on all managed rules of .sync integrations
    asked = labeling.request(labeling.manifest([{"source": "x", "true-class": "owl"}]))
    rule = f"arn:aws:events:{labeling.cloud.region}:000000000000:rule/"
    grants = [("sagemaker:*", "*"), ("iam:PassRole", "*"), ("events:*", f"{rule}StepFunctionsGetEvents*")]
    state = task("sagemaker:createLabelingJob.sync", asked, Output="{% $states.result %}")
    # when the state machine runs
    done = Machine(labeling.client, state, *grants).run()
    # then its result is the job's description
    assert done["status"] == "SUCCEEDED", done
    assert json.loads(done["output"])["LabelCounters"]["TotalLabeled"] == 1


def test_restarted_cloud_fails_its_labeling_job(labeling: Labeling) -> None:
    # given a running job
    labeling.cloud.configure(labeling_answer=30)
    asked = labeling.request(labeling.manifest([{"source": f"text {n}"} for n in range(9)]))
    labeling.client("sagemaker").create_labeling_job(**asked)
    name = asked["LabelingJobName"]
    until(lambda: labeling.described(name)["LabelingJobStatus"] == "InProgress", "the start of the job")
    # when the cloud crashes and starts again
    labeling.cloud.kill()
    labeling.cloud.start()
    # then the job has failed with the reason
    job = labeling.described(name)
    assert (job["LabelingJobStatus"], "local cloud ended" in job["FailureReason"]) == ("Failed", True)
