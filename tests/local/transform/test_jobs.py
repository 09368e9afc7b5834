"""Transform jobs as a caller of SageMaker sees them: a real container, real S3, real logs."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.hosting import alive
from tests.support.jobs import listen
from tests.support.processes import processes
from tests.support.transform_jobs import Transforms
from tests.support.waiting import until

SEE = "See job logs for more information"


def test_lines_are_sent_concurrently_and_answered_in_order(bench: Transforms) -> None:
    # given lines of which the first three are answered only when all three requests are in progress, and a
    # listener on the event bus
    heard = listen(bench.cloud, "Transform")
    uri = bench.input(one_csv="meet 3 a\nmeet 3 b\nmeet 3 c\nd\ne", sub__two_csv="f\n")
    # when a job may send three requests at a time
    job = bench.run(
        uri,
        ModelName=bench.model("the model", Environment={"COLOUR": "blue", "COLOUR2": "of the model"}),
        MaxConcurrentTransforms=3,
        MaxPayloadInMB=2,
        Environment={"COLOUR": "red"},
        input={"ContentType": "text/csv"},
        output={"Accept": "application/json"},
        Tags=[{"Key": "team", "Value": "a"}],
    )
    name = job["TransformJobName"]
    # then the job completes, and its description has the times and the service's defaults
    assert job["TransformJobStatus"] == "Completed", job.get("FailureReason")
    assert job["CreationTime"] <= job["TransformStartTime"] < job["TransformEndTime"]
    assert job["TransformInput"]["CompressionType"] == "None"
    # and there is an output object for each input object, with the answers in the order of the lines
    found = bench.answers(job)
    bodies = {key: [each["body"] for each in answers] for key, answers in found.items()}
    assert bodies == {
        "one.csv.out": ["meet 3 a\n", "meet 3 b\n", "meet 3 c\n", "d\n", "e"],
        "sub/two.csv.out": ["f\n"],
    }
    # and the container got the documented variables, and never more requests at a time than the maximum
    everything = [each for answers in found.values() for each in answers]
    assert max(each["peak"] for each in everything) == 3
    first = everything[0]
    assert (first["type"], first["accept"], first["model"]) == ("text/csv", "application/json", "the model")
    assert first["environment"] == {
        "SAGEMAKER_BATCH": "true",
        "SAGEMAKER_BATCH_STRATEGY": "SINGLE_RECORD",
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": "2",
        "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": "3",
        "COLOUR": "red",
        "COLOUR2": "of the model",
    }
    assert bench.data_log(job) == ["MaxConcurrentTransforms=3, MaxPayloadInMB=2, BatchStrategy=SINGLE_RECORD"]
    # and the event bus got an event of each status of the job
    until(
        lambda: "Completed" in [each["detail"]["TransformJobStatus"] for each in heard()],
        "the event of the job's end",
    )
    details = [each["detail"] for each in heard()]
    assert [each["TransformJobStatus"] for each in details] == ["InProgress", "Completed"]
    assert details[1]["TransformEndTime"] == round(job["TransformEndTime"].timestamp() * 1000)
    assert (details[1]["ModelName"], details[1]["Tags"]) == (job["ModelName"], {"team": "a"})
    assert heard()[0]["resources"] == [job["TransformJobArn"]]
    # and the job is listed, and no other job can have its name
    listed = bench.sagemaker.list_transform_jobs(NameContains=name)["TransformJobSummaries"]
    assert [each["TransformJobStatus"] for each in listed] == ["Completed"]
    with pytest.raises(ClientError, match="ResourceInUse"):
        bench.start(uri, TransformJobName=name)


def test_whole_objects_of_a_manifest_are_one_request_each(bench: Transforms) -> None:
    # given a manifest that lists two compressed objects and an uncompressed one, and an object that is not
    # listed
    compressed = {"a_txt": gzip.compress(b"one\ntwo\n"), "b_txt": gzip.compress(b"three")}
    uri = bench.input(**compressed, c_txt="no gzip", d_txt="not listed")
    bench.put("list.manifest", json.dumps([{"prefix": uri}, "a.txt", "b.txt", "c.txt"]).encode())
    # when a job decompresses the objects, does not split them, and concatenates the responses
    job = bench.run(
        f"s3://{bench.bucket}/list.manifest",
        data_type="ManifestFile",
        input={"SplitType": "None", "CompressionType": "Gzip"},
        output={"AssembleWith": "None"},
    )
    # then each object is one request, and the object that cannot be decompressed fails the job
    assert job["FailureReason"] == f"ClientError: {SEE}"
    assert "c.txt: Unable to decompress the data" in bench.data_log(job)[1]
    found = {name: json.loads(body)["body"] for name, body in bench.outputs(job).items()}
    assert found == {"a.txt.out": "one\ntwo\n", "b.txt.out": "three"}


def test_multi_record_fills_payloads_up_to_the_limit(bench: Transforms) -> None:
    # given lines of 400,000 bytes, of which two fit into a megabyte
    line = "x" * 399_999 + "\n"
    uri = bench.input(lines_csv=line * 5, large_csv="y" * 1_048_577)
    # when a request has as many lines as fit
    job = bench.run(uri, BatchStrategy="MultiRecord", MaxPayloadInMB=1)
    # then there are two requests of two lines and one request of one line, and the object with a line of more
    # than a megabyte fails
    assert (job["TransformJobStatus"], job["FailureReason"]) == ("Failed", f"ClientError: {SEE}")
    sizes = {name: [each["body"] for each in answers] for name, answers in bench.answers(job).items()}
    assert sizes == {"lines.csv.out": [800_000, 800_000, 400_000]}
    key = uri.removeprefix("s3://")
    assert f"{key}large.csv: Too much data for max payload size" in bench.data_log(job)


@pytest.mark.parametrize(
    ("status", "reason", "lines"),
    [
        (500, "AlgorithmError", ["Bad HTTP status received from algorithm: 500"]),
        (415, "ClientError", ["ClientError: 415"]),
    ],
)
def test_object_with_a_failed_record_has_no_output(
    bench: Transforms, status: int, reason: str, lines: list[str]
) -> None:
    # given three objects, of which the second has a record that the container cannot process
    uri = bench.input(a_csv="1\n", b_csv=f"2\nfail {status}\n3\n", c_csv="4\n")
    job = bench.run(uri, ModelClientConfig={"InvocationsMaxRetries": 1})
    # then the job fails with a line in its log, and the other objects have their output
    assert (job["TransformJobStatus"], job["FailureReason"]) == ("Failed", f"{reason}: {SEE}")
    assert sorted(bench.outputs(job)) == ["a.csv.out", "c.csv.out"]
    key = uri.removeprefix("s3://")
    expected = [f"{key}b.csv: {line}" for line in [*lines, "", "Message:", "The record is bad.", "Really."]]
    assert bench.data_log(job)[1:] == expected


def test_server_errors_are_retried_up_to_the_requested_maximum(bench: Transforms) -> None:
    # given a record that the container processes at the third attempt, a job with three attempts, and a job
    # with two attempts
    uri = bench.input(a_csv="flaky 2\n")
    enough = bench.start(uri, ModelClientConfig={"InvocationsMaxRetries": 2})
    few = bench.start(uri, ModelClientConfig={"InvocationsMaxRetries": 1})
    job = bench.ended(enough)
    assert job["TransformJobStatus"] == "Completed", job.get("FailureReason")
    assert [each["attempts"] for each in bench.answers(job)["a.csv.out"]] == [3]
    assert bench.ended(few)["FailureReason"] == f"AlgorithmError: {SEE}"


@pytest.mark.parametrize(
    ("word", "problem"),
    [
        ("wait", "Model server did not respond to /invocations request within 1 seconds"),
        ("die", "Unable to get response from algorithm"),
    ],
)
def test_container_that_does_not_answer_fails_the_job(bench: Transforms, word: str, problem: str) -> None:
    config = {"InvocationsTimeoutInSeconds": 1, "InvocationsMaxRetries": 0}
    uri = bench.input(a_csv=f"{word}\n")
    job = bench.run(uri, ModelClientConfig=config)
    assert (job["TransformJobStatus"], job["FailureReason"]) == ("Failed", f"AlgorithmError: {SEE}")
    assert bench.data_log(job)[1:] == [f"{uri.removeprefix('s3://')}a.csv: {problem}"]


def test_container_that_ends_at_once_fails_the_job(bench: Transforms) -> None:
    job = bench.run(bench.input(a_csv="1"), ModelName=bench.model(Environment={"EXIT": "3"}))
    assert job["TransformJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("ClientError: Model container failed to respond to ping")
    assert "exit code 3" in job["FailureReason"]
    assert "TransformStartTime" not in job


def test_two_instances_share_the_objects(bench: Transforms) -> None:
    uri = bench.input(**{f"part{number}_csv": str(number) for number in range(4)})
    job = bench.run(uri, resources={"InstanceCount": 2})
    assert job["TransformJobStatus"] == "Completed", job.get("FailureReason")
    found = {name: each["instance"] for name, (each,) in bench.answers(job).items()}
    assert sorted(found) == [f"part{number}.csv.out" for number in range(4)]
    assert found["part0.csv.out"] == found["part2.csv.out"] != found["part1.csv.out"]
    assert found["part1.csv.out"] == found["part3.csv.out"]
    assert not [instance for instance in set(found.values()) if alive(instance)]


def test_execution_parameters_apply_unless_the_request_overrides(bench: Transforms) -> None:
    # given a container whose execution parameters set two concurrent requests, and many records in a request
    said = {"MaxConcurrentTransforms": 2, "BatchStrategy": "MULTI_RECORD", "MaxPayloadInMB": 4}
    model = bench.model(Environment={"PARAMETERS": json.dumps(said)})
    params = bench.request(bench.input(a_csv="1\n2\n"), ModelName=model, MaxPayloadInMB=3)
    del params["BatchStrategy"]
    bench.sagemaker.create_transform_job(**params)
    job = bench.ended(params["TransformJobName"])
    # then the container's values apply to parameters that the job's request does not set
    assert job["TransformJobStatus"] == "Completed", job.get("FailureReason")
    (answer,) = bench.answers(job)["a.csv.out"]
    assert answer["body"] == "1\n2\n"
    log = bench.data_log(job)
    assert log == ["MaxConcurrentTransforms=2, MaxPayloadInMB=3, BatchStrategy=MULTI_RECORD"]
    # and the container gets no environment variable for a parameter that the job's request does not set
    assert "SAGEMAKER_BATCH_STRATEGY" not in answer["environment"]


def busy(name: str) -> list[int]:
    """Return the ids of a job's processes, whose environment variable COLOUR is `name`."""
    return processes("COLOUR", name)


def started(bench: Transforms, **members: Any) -> str:
    """Start a job whose first object completes and whose second one does not end."""
    name = f"{bench.name}-waits"
    uri = bench.input(a_csv="1\n", b_csv="wait\n")
    job = bench.start(uri, Environment={"COLOUR": name}, **members)
    until(lambda: "TransformStartTime" in bench.job(job) and busy(name), "the start of the job")
    return job


def test_stopped_job_stores_nothing_and_leaves_no_process(bench: Transforms) -> None:
    # given a job that waits for an answer
    name = started(bench)
    # when the job is stopped, then it ends without output
    bench.sagemaker.stop_transform_job(TransformJobName=name)
    job = bench.ended(name)
    assert (job["TransformJobStatus"], bench.outputs(job)) == ("Stopped", {})
    assert not busy(f"{bench.name}-waits")
    # and the stopped job cannot be stopped again
    with pytest.raises(ClientError, match=r"ValidationException.*transform job is in status Stopped"):
        bench.sagemaker.stop_transform_job(TransformJobName=name)


def test_job_that_runs_when_the_cloud_stops_has_failed(bench: Transforms) -> None:
    # given a job that waits for an answer
    name = started(bench)
    # when the cloud is stopped, then no process of the job is left
    bench.cloud.stop()
    assert not busy(f"{bench.name}-waits")
    assert list((bench.cloud.home / "instances").glob("transform/*")) == []
    # and when the cloud is restarted, the job has failed with a reason
    bench.cloud.start()
    job = bench.job(name)
    assert job["TransformJobStatus"] == "Failed"
    assert job["FailureReason"].endswith("The local cloud ended while the transform job ran.")
