"""Every path through the deployed workflow definition, with scripted responses of SageMaker."""

from __future__ import annotations

import json

import pytest

from groundplan.states.flow import THROTTLES
from groundplan.workflow import LOOK_SECONDS
from tests.support.workflow import ENDPOINT, KEY, SageMaker, arguments, run, workflow
from tests.synth.machine import Run, TaskError

DEFINITION = workflow().definition()
THROTTLED = TaskError(
    "SageMaker.AmazonSageMakerException",
    "Rate exceeded (Service: AmazonSageMaker; Status Code: 400; Error Code: ThrottlingException)",
)


def verbs(run: Run) -> list[str]:
    return [action.removesuffix(".sync").rpartition(":")[2] for action, _ in run.calls]


def test_first_model_is_deployed_without_a_comparison():
    sagemaker = SageMaker(serving=None)
    done = run(sagemaker)
    assert verbs(done).count("createTrainingJob") == 1
    assert done.output == {
        "training_job": arguments(done, "createTrainingJob")[0]["TrainingJobName"],
        "model_data": arguments(done, "createModel")[0]["PrimaryContainer"]["ModelDataUrl"],
        "hosts": 2,
        "validation_rmse": 0.45,
        "candidate_rmse": None,
        "champion_rmse": None,
        "model_package_arn": "arn:package/1",
        "deployed": True,
        "reason": None,
        "endpoint": ENDPOINT,
    }
    assert sagemaker.packages == {"arn:package/1": "Approved"}
    assert "createEndpoint" in verbs(done)
    assert "updateEndpoint" not in verbs(done)


def test_better_model_replaces_the_one_in_service():
    sagemaker = SageMaker(serving="InService", candidate=0.40, champion=0.50)
    done = run(sagemaker)
    training, evaluation = arguments(done, "createTrainingJob")
    channels = {
        c["ChannelName"]: c["DataSource"]["S3DataSource"]["S3Uri"] for c in evaluation["InputDataConfig"]
    }
    assert channels == {
        "candidate": f"s3://bucket/training/{training['TrainingJobName']}/model.tar.gz",
        "champion": "s3://bucket/training/old/model.tar.gz",
    }
    assert evaluation["HyperParameters"]["mode"] == "evaluate"
    assert evaluation["ResourceConfig"]["InstanceCount"] == 1
    assert "InputDataConfig" not in training  # AWS refuses an empty list
    assert (done.output["candidate_rmse"], done.output["champion_rmse"]) == (0.40, 0.50)
    assert done.output["deployed"] is True
    assert "updateEndpoint" in verbs(done)
    assert sagemaker.packages == {"arn:package/1": "Approved"}


@pytest.mark.parametrize(
    ("candidate", "champion", "minimum", "higher", "deployed"),
    [
        (0.50, 0.50, 0.0, False, False),
        (0.60, 0.50, 0.0, False, False),
        (0.4999, 0.50, 0.0, False, True),
        (0.495, 0.50, 0.02, False, False),
        (0.489, 0.50, 0.02, False, True),
        (0.91, 0.90, 0.0, True, True),
        (0.91, 0.90, 0.02, True, False),
        (0.89, 0.90, 0.0, True, False),
    ],
)
def test_only_a_model_that_is_better_by_enough_is_deployed(candidate, champion, minimum, higher, deployed):
    sagemaker = SageMaker(serving="InService", candidate=candidate, champion=champion)
    done = run(sagemaker, metric={"minimum_improvement": minimum, "higher_is_better": higher})
    assert done.error is None
    assert done.output["deployed"] is deployed
    assert sagemaker.packages == {"arn:package/1": "Approved" if deployed else "Rejected"}
    assert ("updateEndpoint" in verbs(done)) is deployed


def test_execution_overrides_settings():
    given = {"table": "OTHER", "hosts": 5, "hyperparameters": {"eta": 0.1, "rounds": 10, "record_rows": True}}
    done = run(SageMaker(), given)
    job = arguments(done, "createTrainingJob")[0]
    assert job["ResourceConfig"]["InstanceCount"] == 5
    assert job["HyperParameters"] == {
        "table": "OTHER",
        "target": "VALUE",
        "eta": "0.1",
        "rounds": "10",
        "record_rows": "true",
        "secret": "warehouse_credentials",
        "mode": "train",
    }
    assert done.output["hosts"] == 5


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([], "the input must be an object"),
        ({"tabel": "X"}, "unknown field tabel, must be one of table, target, hosts, hyperparameters"),
        ({"table": ""}, "table must not be empty"),
        ({"target": 7}, "target must be a text"),
        ({"hosts": 0}, "hosts must be a whole number from 1 to 64"),
        ({"hosts": 65}, "hosts must be a whole number from 1 to 64"),
        ({"hosts": 1.5}, "hosts must be a whole number from 1 to 64"),
        ({"hosts": "2"}, "hosts must be a whole number from 1 to 64"),
        ({"hyperparameters": "eta=1"}, "hyperparameters must be an object"),
        ({"hyperparameters": {"secret": "x"}}, "unknown hyperparameter secret, must be one of eta, rounds"),
        ({"hyperparameters": {"mode": "x"}}, "unknown hyperparameter mode, must be one of eta, rounds"),
        ({"hyperparameters": {"eta": [1]}}, "hyperparameter eta must be a text, a number, true or false"),
        ({"hyperparameters": {"eta": None}}, "hyperparameter eta must be a text, a number, true or false"),
        ({"deploy_if_incomparable": "yes"}, "deploy_if_incomparable must be true or false"),
        ({"version": 0}, "version must be a whole number from 1"),
        ({"version": "3"}, "version must be a whole number from 1"),
        ({"version": 3, "hosts": 2}, "version must be the only field"),
        ({"hosts": 0, "table": ""}, "table must not be empty; hosts must be a whole number from 1 to 64"),
    ],
)  # fmt: skip
def test_a_wrong_input_is_refused_before_anything_starts(given, says):
    done = run(SageMaker(), given)
    assert done.error == "AcceptFailed"
    assert done.cause
    assert done.cause.startswith(f"Accept: {says}")
    assert done.calls == []


@pytest.mark.parametrize(
    ("given", "deployed", "status", "reason"),
    [
        ({}, False, "PendingManualApproval", "other rules"),
        ({"deploy_if_incomparable": False}, False, "PendingManualApproval", "other rules"),
        ({"deploy_if_incomparable": True}, True, "Approved", None),
    ],
)
def test_incomparable_model_is_registered_and_deployed_on_request(given, deployed, status, reason):
    # given an evaluation without a metric for the champion
    sagemaker = SageMaker(serving="InService")
    del sagemaker.figures["champion"]
    sagemaker.figures["comparable"] = 0.0
    done = run(sagemaker, given, metric={"incomparable": "other rules"})
    assert done.error is None
    assert (done.output["deployed"], done.output["reason"]) == (deployed, reason)
    assert (done.output["candidate_rmse"], done.output["champion_rmse"]) == (0.40, None)
    assert sagemaker.packages == {"arn:package/1": status}
    assert ("updateEndpoint" in verbs(done)) is deployed


def test_worse_model_is_not_deployed_when_incomparable_ones_are():
    done = run(SageMaker(serving="InService", candidate=0.6), {"deploy_if_incomparable": True})
    assert (done.output["deployed"], done.output["reason"]) == (False, "Not better than the model in service")


@pytest.mark.parametrize("now", [{"EndpointConfigName": "another"}, {"EndpointStatus": "Updating"}])
def test_model_deployed_during_the_comparison_is_not_replaced(now):
    # given another execution that deploys a model while this execution evaluates
    sagemaker = SageMaker(serving="InService")
    create = sagemaker.createTrainingJob

    def during(a):
        if a["TrainingJobName"].endswith("-evaluate"):
            assert sagemaker.endpoint
            sagemaker.endpoint |= now
        return create(a)

    sagemaker.createTrainingJob = during
    done = run(sagemaker)
    assert done.error == "DeployFailed"
    there = {"EndpointStatus": "InService", "EndpointConfigName": "old"} | now
    assert done.cause == (
        f"Deploy: endpoint {ENDPOINT} is {there['EndpointStatus']} with configuration"
        f" {there['EndpointConfigName']}, and the new model was compared with that of old:"
        " another execution changed it, start again"
    )
    assert "updateEndpoint" not in verbs(done)
    assert sagemaker.packages == {"arn:package/1": "Rejected"}


@pytest.mark.parametrize(
    "given", [{}, {"hyperparameters": {}}, {"hyperparameters": {"eta": "0.2"}}, {"hosts": 64}]
)
def test_input_without_optional_fields_is_accepted(given):
    assert run(SageMaker(), given).error is None


VERSION = "arn:package/3"


@pytest.mark.parametrize(("serving", "verb"), [("InService", "updateEndpoint"), (None, "createEndpoint")])
def test_earlier_version_is_deployed_without_training(serving, verb):
    # given a registry with an approved version 3; when an execution requests version 3
    done = run(SageMaker(serving=serving), {"version": 3})
    # then the image and the model of version 3 are deployed, without training, comparison or registration
    (model,) = arguments(done, "createModel")
    assert model["PrimaryContainer"] == {
        "Image": "image:old",
        "ModelDataUrl": "s3://bucket/training/3/model.tar.gz",
        "Environment": {},
    }
    assert verb in verbs(done)
    assert not {"createTrainingJob", "createModelPackage"} & set(verbs(done))
    assert (done.output["model_package_arn"], done.output["deployed"]) == (VERSION, True)
    assert done.output["training_job"] is None


@pytest.mark.parametrize("registered", [{}, {"A": "1"}, {"STOP": "/other", "A": "1"}])
def test_earlier_version_gets_the_endpoints_variables(registered):
    # given an earlier version whose model package has no environment variables, other variables than the
    # endpoint, or another value of the endpoint's variable
    sagemaker = SageMaker(serving="InService")
    sagemaker.variables = registered
    # when this version is deployed to an endpoint that has variables
    done = run(sagemaker, {"version": 3}, endpoint={"environment": {"STOP": "/trading"}})
    # then the endpoint's variables are added to those of the package, and override them
    (model,) = arguments(done, "createModel")
    assert model["PrimaryContainer"]["Environment"] == registered | {"STOP": "/trading"}


@pytest.mark.parametrize("approval", ["Rejected", "PendingManualApproval"])
def test_version_that_is_not_approved_is_refused(approval):
    sagemaker = SageMaker(serving="InService")
    sagemaker.packages[VERSION] = approval
    done = run(sagemaker, {"version": 3})
    assert (done.error, done.cause) == (
        "FindVersionFailed",
        f"FindVersion: version 3 is {approval}, approve it first",
    )
    assert verbs(done) == ["describeModelPackage"]


def test_version_that_fails_to_deploy_stays_approved():
    sagemaker = SageMaker(serving="InService")
    sagemaker.statuses = [{"EndpointStatus": "InService", "EndpointConfigName": "old"}]
    done = run(sagemaker, {"version": 3})
    assert done.error == "DeployFailed"
    assert sagemaker.packages.get(VERSION, "Approved") == "Approved"


def test_jobs_read_their_channels():
    changes = {"channels": {"prices": "inputs/prices"}, "isolated": True}
    done = run(SageMaker(serving="InService"), training=changes)
    training, evaluation = arguments(done, "createTrainingJob")
    for job, others in ((training, []), (evaluation, ["candidate", "champion"])):
        found = {
            channel["ChannelName"]: channel["DataSource"]["S3DataSource"]["S3Uri"]
            for channel in job["InputDataConfig"]
        }
        assert list(found) == [*others, "prices"]
        assert found["prices"] == "s3://bucket/inputs/prices"
        assert job["EnableNetworkIsolation"] is True


def test_serving_image_may_differ_from_the_training_image():
    class Server:
        image_uri = "server:1"
        repository = None

    done = run(SageMaker(), endpoint={"image": Server(), "environment": {"LEVEL": "1"}})
    (model,), (package,) = arguments(done, "createModel"), arguments(done, "createModelPackage")
    serving = {"Image": "server:1", "Environment": {"LEVEL": "1"}}
    job = arguments(done, "createTrainingJob")[0]["TrainingJobName"]
    assert model["PrimaryContainer"].items() >= serving.items()
    assert package["InferenceSpecification"]["Containers"][0].items() >= serving.items()
    assert job in model["PrimaryContainer"]["ModelDataUrl"]


def test_names_are_those_of_the_execution_and_short_enough():
    first, again = run(SageMaker(serving="InService")), run(SageMaker(serving="InService"))
    other = Run(DEFINITION, {}, SageMaker(serving="InService"), name="run-2")
    names = [given["TrainingJobName"] for given in arguments(first, "createTrainingJob")]
    assert names == [given["TrainingJobName"] for given in arguments(again, "createTrainingJob")]
    assert names != [given["TrainingJobName"] for given in arguments(other, "createTrainingJob")]
    longest = run(SageMaker(serving="InService"), endpoint={"name": "e" * 40})
    assert len(arguments(longest, "createTrainingJob")[1]["TrainingJobName"]) <= 63


def test_failed_job_is_reported_with_its_own_reason():
    failed = {
        "TrainingJobName": "x-train",
        "TrainingJobStatus": "Failed",
        "FailureReason": "AlgorithmError: table HOUSES does not exist, exit code: 1",
    }
    sagemaker = SageMaker(serving="InService")
    sagemaker.fail = {"createTrainingJob": [TaskError("States.TaskFailed", json.dumps(failed))]}
    done = run(sagemaker)
    assert done.error == "TrainFailed"
    assert done.cause == "Train: AlgorithmError: table HOUSES does not exist, exit code: 1"
    assert verbs(done) == ["createTrainingJob"]  # no request changes the deployed model


def test_failed_job_whose_reason_mentions_throttling_is_not_retried():
    failed = {"TrainingJobName": "x", "FailureReason": "AlgorithmError: the warehouse throttled the query"}
    sagemaker = SageMaker()
    sagemaker.fail = {"createTrainingJob": [TaskError("States.TaskFailed", json.dumps(failed))]}
    done = run(sagemaker)
    assert done.cause == "Train: AlgorithmError: the warehouse throttled the query"
    assert len(done.calls) == 1


@pytest.mark.parametrize(
    ("error", "cause", "says"),
    [
        ("States.Timeout", "", "Train: no end after 7200 seconds"),
        (
            "States.TaskFailed",
            json.dumps(
                {
                    "TrainingJobName": "x",
                    "TrainingJobStatus": "Stopped",
                    "SecondaryStatus": "MaxRuntimeExceeded",
                }
            ),
            "Train: training job x ended as Stopped (MaxRuntimeExceeded)",
        ),
        (
            "SageMaker.ResourceLimitExceededException",
            "The account-level service limit is 0 Instances",
            "Train: SageMaker.ResourceLimitExceededException The account-level service limit is 0 Instances",
        ),
    ],
)
def test_unknown_task_error_fails_the_execution_without_a_retry(error, cause, says):
    sagemaker = SageMaker()
    sagemaker.fail = {"createTrainingJob": [TaskError(error, cause)]}
    done = run(sagemaker)
    assert (done.error, done.cause) == ("TrainFailed", says)
    assert len(done.calls) == 1


def test_job_without_the_metric_fails_and_names_it():
    sagemaker = SageMaker()
    del sagemaker.figures["validation"]
    done = run(sagemaker)
    assert done.error == "TrainFailed"
    assert done.cause
    assert "logged no validation:rmse" in done.cause


TASKS = [name for name, state in DEFINITION["States"].items() if state["Type"] == "Task"]
UNDOING = {"RemoveEndpoint", "Reject"}
AGAIN = {"Evaluate", "DescribeAgain", "LookAtEndpoint"}
"""Tasks with the same action as an earlier task."""


def _action(task: str) -> str:
    resource = DEFINITION["States"][task]["Resource"]
    return resource.removesuffix(".sync").rpartition(":")[2]


def _scene(task: str) -> SageMaker:
    """Return a scenario in which `task` is the first task of its action."""
    if task == "ClearEndpoint":
        return SageMaker(serving="Failed")
    if task == "NotCompared":
        sagemaker = SageMaker(serving="InService")
        sagemaker.figures["comparable"] = 0.0
        return sagemaker
    if task == "NotBetter":
        return SageMaker(serving="InService", candidate=0.9)
    return SageMaker(serving=None if task in ("CreateEndpoint", "Approve") else "InService")


def _asked(task: str) -> dict[str, int]:
    return {"version": 3} if task == "FindVersion" else {}


@pytest.mark.parametrize("task", [task for task in TASKS if task not in UNDOING | AGAIN])
def test_throttling_is_retried_for_every_call(task):
    sagemaker = _scene(task)
    sagemaker.fail = {_action(task): [THROTTLED, THROTTLED]}
    done = run(sagemaker, _asked(task))
    assert done.error is None
    assert done.visited.count(task) == 3
    first, second = done.waited[:2]
    assert 1 <= first <= 3
    assert 2 <= second <= 6


def test_throttling_is_retried_a_limited_number_of_times():
    sagemaker = SageMaker()
    sagemaker.fail = {"createTrainingJob": [THROTTLED] * 1000}
    done = run(sagemaker)
    assert done.error == "TrainFailed"
    assert done.cause
    assert "Rate exceeded" in done.cause
    assert len(done.waited) == THROTTLES
    assert sum(done.waited) < 1000


@pytest.mark.parametrize("task", [task for task in TASKS if task not in UNDOING | AGAIN])
def test_any_other_error_ends_the_execution_with_its_reason(task):
    sagemaker = _scene(task)
    sagemaker.fail = {_action(task): [TaskError("SageMaker.SageMakerException", "no such thing")]}
    done = run(sagemaker, _asked(task))
    assert (done.error, done.cause) == (
        f"{task}Failed",
        f"{task}: SageMaker.SageMakerException no such thing",
    )
    assert done.visited.count(task) == 1


def test_deployment_that_fails_leaves_the_old_model_serving():
    sagemaker = SageMaker(serving="InService")
    sagemaker.statuses = [
        {"EndpointStatus": "InService"},  # the champion is looked up
        {"EndpointStatus": "InService"},  # and looked up again before the update
        {"EndpointStatus": "Updating"},
        {"EndpointStatus": "InService", "EndpointConfigName": "old", "FailureReason": "/ping answered 500"},
    ]
    done = run(sagemaker)
    assert done.error == "DeployFailed"
    assert done.cause == (
        f"Deploy: endpoint {ENDPOINT} is InService and did not take the new model: /ping answered 500"
    )
    assert sagemaker.packages == {"arn:package/1": "Rejected"}
    assert "deleteEndpoint" not in verbs(done)


def test_first_deployment_that_fails_leaves_no_endpoint_behind():
    sagemaker = SageMaker(serving=None)
    sagemaker.statuses = [{"EndpointStatus": "Failed", "FailureReason": "the image has no serve"}]
    done = run(sagemaker)
    assert done.error == "DeployFailed"
    assert done.cause
    assert done.cause.endswith("the image has no serve")
    assert sagemaker.endpoint is None
    assert sagemaker.packages == {"arn:package/1": "Rejected"}


def test_deployment_that_does_not_end_fails_after_a_limit():
    sagemaker = SageMaker(serving="InService")
    sagemaker.statuses = [{"EndpointStatus": "InService"}] * 2 + [{"EndpointStatus": "Updating"}]
    done = run(sagemaker)
    assert done.error == "DeployFailed"
    assert done.cause
    assert "is Updating" in done.cause
    assert sum(done.waited) <= 60 + LOOK_SECONDS


def test_failed_endpoint_is_deleted_and_created_again():
    sagemaker = SageMaker(serving="Failed")
    done = run(sagemaker)
    assert done.output["deployed"] is True
    assert [verb for verb in verbs(done) if verb.endswith("Endpoint") and "describe" not in verb] == [
        "deleteEndpoint",
        "createEndpoint",
    ]


def test_execution_waits_a_limited_time_for_an_updating_endpoint():
    done = run(SageMaker(serving="Updating"))
    assert done.error == "FindEndpointFailed"
    assert done.cause == f"FindEndpoint: endpoint {ENDPOINT} is still Updating"
    assert "createModelPackage" not in verbs(done)


def test_deployed_model_stays_when_its_approval_fails():
    sagemaker = SageMaker(serving=None)
    sagemaker.fail = {"updateModelPackage": [TaskError("SageMaker.ConflictException", "busy")]}
    done = run(sagemaker)
    assert done.error == "ApproveFailed"
    assert sagemaker.endpoint is not None


def test_errors_of_the_rollback_do_not_hide_the_reason():
    sagemaker = SageMaker(serving=None)
    sagemaker.statuses = [{"EndpointStatus": "Failed", "FailureReason": "the image has no serve"}]
    sagemaker.fail = {"deleteEndpoint": [TaskError("X", "y")], "updateModelPackage": [TaskError("X", "y")]}
    done = run(sagemaker)
    assert done.cause
    assert done.cause.endswith("the image has no serve")


def test_jobs_use_the_given_vpc_and_key():
    network = {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
    done = run(SageMaker(serving="InService"), subnets=["subnet-1"], groups=["sg-1"], encrypted=True)
    for job in arguments(done, "createTrainingJob"):
        assert job["VpcConfig"] == network
        assert job["ResourceConfig"]["VolumeKmsKeyId"] == KEY
        assert job["OutputDataConfig"]["KmsKeyId"] == KEY
    assert "VpcConfig" not in arguments(done, "createModel")[0]  # a serverless endpoint cannot have a VPC
