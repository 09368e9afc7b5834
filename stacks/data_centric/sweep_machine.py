"""The state machine of a sweep.

    Accept -> Plan -> problems? -> estimate? -> Train: a job for each cell -> search? -> Compare -> Report
                                                                                  \\-> Search -^

A cell is a strategy at a fraction, with all seeds. With a search, a tuning job chooses the fractions of one
strategy, and only the control strategies, which every sweep has, are trained as cells. A failed job is
recorded, and other jobs continue; the execution fails only if no job completes. A failed search is reported
in the output. Names of jobs contain the execution's hash, so that a retry finds the job of the first call and
waits for it. A job that failed because AWS had no capacity is started again with another name, from the
checkpoints of its earlier start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aws_cdk import Duration

from groundplan import ArtifactBucket, ContainerImage, Network, SageMakerRole
from groundplan.instance_types import has_local_disks
from groundplan.states import EXECUTION_HASH, UNIQUE, Branch, Flow, Rule

LONGEST_SUFFIX = len("-") + UNIQUE + len("-000-0")
"""Length of the longest suffix that follows the state machine's name in a job's name."""
START_SECONDS = 3600
"""Maximum wait for a job's instances, in addition to its maximum runtime."""
FUNCTION_SECONDS = 900
ATTEMPTS = 4
"""Maximum number of starts of a job for which AWS has no capacity."""
WAITS = 10
"""Maximum number of retries of a start that was throttled or exceeded a quota, over about 4 hours. An
execution has at most 25,000 events, and each retry adds about 10."""
LONGEST_WAIT = 3600
LOOK_SECONDS, LONGEST_LOOK = 30, 1800
"""Shortest and longest pause between two polls of a job that an earlier call started. The pauses grow."""
MOST_SECONDS = 14 * 86_400
METRICS = (
    "train:loss",
    "train:accuracy",
    "validation:loss",
    "validation:accuracy",
    "training:seconds",
    "selection:seconds",
    "test:accuracy",
)
"""Metrics in the log of a job."""
INVOKE = "lambda:invoke"

_THROTTLED = "/throttl|rate exceeded|too many requests|ResourceLimitExceeded/i"
_NO_CAPACITY = "/^(CapacityError|InternalServerError)/"


@dataclass(frozen=True, kw_only=True)
class SweepJobs:
    """Settings of a sweep's training jobs.

    `at_once` is the maximum number of concurrent jobs, each on `hosts` instances. The account's quota for the
    instance type must allow `at_once` times `hosts` instances. In a VPC, the security groups must allow
    traffic between the hosts of a job.
    """

    image: ContainerImage
    role: SageMakerRole
    instance_type: str
    volume_gb: int
    max_runtime: Duration
    at_once: int
    hosts: int = 1
    network: Network | None = None

    @property
    def seconds(self) -> int:
        return int(self.max_runtime.to_seconds())


def volume_key(jobs: SweepJobs, bucket: ArtifactBucket) -> str | None:
    """Return the ARN of the key for the jobs' volumes; None if there is no key or SageMaker accepts none."""
    # SageMaker accepts no key for instances with local disks, which are always encrypted
    return bucket.key.key_arn if bucket.key and not has_local_disks(jobs.instance_type) else None


def sweep(
    jobs: SweepJobs,
    *,
    name: str,
    search: str,
    bucket: ArtifactBucket,
    plan: str,
    compare: str,
    tags: Mapping[str, str],
) -> dict[str, Any]:
    """Return the definition of the state machine.

    :param name: name of the state machine, and prefix of the jobs' names
    :param search: prefix of the names of tuning jobs, which have at most 32 characters
    :param plan: ARN of the function that plans a sweep; `compare`: of the function that compares its runs
    """
    flow = Flow()
    flow.settle(
        "Accept",
        {
            **Flow.UNFAILED,
            "at": "Accept",
            "given": "{% $states.input %}",
            "search": "",
            "unsearched": "",
            "search_waits": 0,
            "search_looks": 0,
            "run": f"{{% {EXECUTION_HASH} %}}",
        },
        "Plan",
    )
    flow.call(
        "Plan",
        INVOKE,
        {"FunctionName": plan, "Payload": {"input": "{% $given %}", "run": "{% $run %}"}},
        "IsPlanned",
        assign={"plan": "{% $states.result.Payload %}"},
        seconds=FUNCTION_SECONDS,
    )
    flow.states["Plan"]["Retry"] = [_again()]
    flow.choose(
        "IsPlanned",
        Rule(
            when="{% $count($plan.problems) > 0 %}",
            then="Failed",
            assign={"at": "Plan", "reason": "{% 'Plan: ' & $join($plan.problems, '; ') %}"},
        ),
        Rule(when="{% $plan.estimate_only %}", then="Estimate"),
        otherwise="Train",
    )
    flow.report("Estimate", "{% {'estimate': $plan.estimate} %}")
    flow.each(
        "Train",
        "{% $plan.cells %}",
        _cell(jobs, name=name, bucket=bucket, tags=tags),
        "IsSearch",
        at_once=jobs.at_once,
        assign={"outcomes": "{% $states.result %}"},
    )
    flow.choose("IsSearch", Rule(when="{% $exists($plan.search) %}", then="Search"), otherwise="Compare")
    _add_search(flow, _search(jobs, search=search, bucket=bucket, tags=tags), f"'{search}-' & $run")
    flow.call(
        "Compare",
        INVOKE,
        {
            "FunctionName": compare,
            "Payload": {
                "folder": "{% $plan.folder %}",
                "outcomes": "{% $outcomes %}",
                "search": "{% $search %}",
            },
        },
        "IsCompared",
        assign={"report": "{% $states.result.Payload %}"},
        seconds=FUNCTION_SECONDS,
    )
    flow.states["Compare"]["Retry"] = [_again()]
    flow.choose(
        "IsCompared",
        Rule(when="{% $report.completed > 0 %}", then="Report"),
        otherwise="Failed",
        assign={
            "at": "Train",
            "reason": "{% 'Train: no job completed, the first one: ' & $report.failed[0].reason %}",
        },
    )
    flow.report(
        "Report",
        "{% $merge([$report, {'estimate': $plan.estimate},"
        " $unsearched = '' ? {} : {'search_failed': $unsearched}]) %}",
    )
    return flow.definition("Accept", seconds=MOST_SECONDS)


def _add_search(flow: Flow, job: dict[str, Any], name: str) -> None:
    """Add the tuning job and its error handling. If it fails, the training jobs that have ended are compared.

    :param name: JSONata expression of the tuning job's name
    """
    flow.call(
        "Search",
        "sagemaker:createHyperParameterTuningJob.sync",
        job,
        "Compare",
        assign={"search": "{% $states.result.HyperParameterTuningJobName %}"},
        seconds=MOST_SECONDS - 1,
    )
    flow.states["Search"]["Catch"] = [
        {
            "ErrorEquals": ["SageMaker.ResourceInUseException"],  # an earlier call has started the tuning job
            "Assign": {"search": f"{{% {name} %}}"},
            "Output": {},
            "Next": "LookAtSearch",
        },
        {
            "ErrorEquals": ["States.ALL"],
            "Assign": {
                # the training jobs of a failed search are compared too
                "search": f"{{% $states.errorOutput.Error = 'States.TaskFailed' ? {name} : '' %}}",
                "unsearched": "{% $substring($states.errorOutput.Error & ' '"
                " & $string($states.errorOutput.Cause), 0, 500) %}",
            },
            "Output": {},
            "Next": "JudgeSearch",
        },
    ]
    flow.choose(
        "JudgeSearch",
        Rule(
            when=f"{{% $search = '' and $search_waits < {WAITS} and $contains($unsearched, {_THROTTLED}) %}}",
            then="WaitSearch",
            assign={"search_waits": "{% $search_waits + 1 %}", "unsearched": ""},
        ),
        otherwise="Compare",
    )
    flow.pause("WaitSearch", _pause("$search_waits"), "Search")
    flow.call(
        "LookAtSearch",
        "aws-sdk:sagemaker:describeHyperParameterTuningJob",
        {"HyperParameterTuningJobName": f"{{% {name} %}}"},
        "IsSearched",
        assign={
            "search_looks": "{% $search_looks + 1 %}",
            "status": "{% $states.result.HyperParameterTuningJobStatus %}",
        },
    )
    flow.choose(
        "IsSearched",
        Rule(when="{% $status in ['InProgress', 'Stopping'] %}", then="RestSearch"),
        Rule(when="{% $status = 'Completed' %}", then="Compare"),
        otherwise="Compare",
        assign={"unsearched": "{% 'the tuning job is ' & $status %}"},
    )
    flow.pause("RestSearch", _rest("$search_looks"), "LookAtSearch")


def _pause(waits: str) -> str:
    """Return the JSONata of the pause in seconds before the next retry, after `waits` retries."""
    # with jitter, so that jobs that were throttled together do not retry together
    return f"{{% $ceil($min([{LONGEST_WAIT}, $power(3, {waits})]) * (0.5 + 0.5 * $random())) %}}"


def _rest(looks: str) -> str:
    """Return the JSONata of the pause in seconds before the next poll of a job, after `looks` polls."""
    return f"{{% $min([{LONGEST_LOOK}, {LOOK_SECONDS} * {looks}]) %}}"


def _cell(jobs: SweepJobs, *, name: str, bucket: ArtifactBucket, tags: Mapping[str, str]) -> Branch:
    """Return the branch that trains one cell. Its output is an `Outcome`, even if the job fails."""
    branch = Branch("Begin")
    branch.settle(
        "Begin",
        {
            "cell": "{% $states.input %}",
            "attempt": 1,
            "waits": 0,
            "looks": 0,
            "error": "",
            "ended": {},
            "billed": 0,
        },
        "TrainCell",
    )
    job = f"'{name}-' & $run & '-' & $cell.id & '-' & $string($attempt)"
    branch.call(
        "TrainCell",
        "sagemaker:createTrainingJob.sync",
        _job(jobs, job, name=name, bucket=bucket, tags=tags),
        "EndCell",
        assign={"ended": f"{{% {_ended(job, '$states.result')} %}}"},
        seconds=jobs.seconds + START_SECONDS,
    )
    cause = (
        "($cause := $string($states.errorOutput.Cause);"
        " $job := $substring($cause, 0, 1) = '{' ? $parse($cause) : {};"
        " $exists($job.TrainingJobStatus) ? "
        + _ended(job, "$job")
        + f" : {{'job': {job}, 'status': 'Refused', 'billed_seconds': 0,"
        " 'reason': $substring($states.errorOutput.Error & ' ' & $cause, 0, 500)})"
    )
    branch.states["TrainCell"]["Catch"] = [
        {
            "ErrorEquals": ["States.ALL"],
            "Assign": {"error": "{% $states.errorOutput.Error %}", "ended": f"{{% {cause} %}}"},
            "Output": {},
            "Next": "Judge",
        }
    ]
    more = {"waits": "{% $waits + 1 %}"}
    branch.choose(
        "Judge",
        # an earlier call of this execution has started the job
        Rule(when="{% $error = 'SageMaker.ResourceInUseException' %}", then="LookAtJob"),
        # only if the call failed: the FailureReason of a failed job may contain any text
        Rule(
            when=f"{{% $error != 'States.TaskFailed' and $waits < {WAITS}"
            f" and $contains($error & ' ' & $ended.reason, {_THROTTLED}) %}}",
            then="WaitCell",
            assign=more,
        ),
        Rule(
            when=f"{{% $error = 'States.TaskFailed' and $attempt < {ATTEMPTS}"
            f" and $contains($ended.reason, {_NO_CAPACITY}) %}}",
            then="WaitCell",
            assign={
                **more,
                "attempt": "{% $attempt + 1 %}",
                "billed": "{% $billed + $ended.billed_seconds %}",
            },
        ),
        otherwise="EndCell",
    )
    branch.pause("WaitCell", _pause("$waits"), "TrainCell")
    branch.call(
        "LookAtJob",
        "aws-sdk:sagemaker:describeTrainingJob",
        {"TrainingJobName": f"{{% {job} %}}"},
        "IsOver",
        assign={
            "looks": "{% $looks + 1 %}",
            "error": "States.TaskFailed",
            "ended": f"{{% {_ended(job, '$states.result')} %}}",
        },
    )
    unknown = f"{{'job': {job}, 'status': 'InProgress', 'reason': 'not seen to end', 'billed_seconds': 0}}"
    branch.states["LookAtJob"]["Catch"] = [
        {
            "ErrorEquals": ["States.ALL"],
            "Assign": {"looks": "{% $looks + 1 %}", "ended": f"{{% {unknown} %}}"},
            "Output": {},
            "Next": "IsOver",
        }
    ]
    looks = _looks(jobs.seconds + START_SECONDS)
    branch.choose(
        "IsOver",
        Rule(
            when=f"{{% $ended.status in ['InProgress', 'Stopping'] and $looks < {looks} %}}",
            then="Rest",
        ),
        otherwise="JudgeJob",
    )
    branch.choose("JudgeJob", Rule(when="{% $ended.status = 'Failed' %}", then="Judge"), otherwise="EndCell")
    branch.pause("Rest", _rest("$looks"), "LookAtJob")
    ended = "{'cell': $cell.id}, $ended, {'billed_seconds': $billed + $ended.billed_seconds}"
    branch.report("EndCell", f"{{% $merge([{ended}]) %}}")
    return branch


def _looks(seconds: int) -> int:
    """Return the number of polls, with the pauses of `_rest`, that take at least `seconds`."""
    looks, passed = 0, 0
    while passed < seconds:
        looks += 1
        passed += min(LONGEST_LOOK, LOOK_SECONDS * looks)
    return looks


def _ended(job: str, described: str) -> str:
    """Return the JSONata of a described job's status, failure reason and billed seconds."""
    return (
        f"{{'job': {job}, 'status': {described}.TrainingJobStatus,"
        f" 'reason': $exists({described}.FailureReason) ? {described}.FailureReason"
        f" : {described}.TrainingJobStatus = 'Completed' ? ''"
        f" : 'the job is ' & {described}.TrainingJobStatus & ' (' & {described}.SecondaryStatus & ')',"
        f" 'billed_seconds': $exists({described}.BillableTimeInSeconds)"
        f" ? {described}.BillableTimeInSeconds : 0}}"
    )


def _job(
    jobs: SweepJobs, job: str, *, name: str, bucket: ArtifactBucket, tags: Mapping[str, str]
) -> dict[str, Any]:
    """Return the arguments of a training job."""
    return {
        "TrainingJobName": f"{{% {job} %}}",
        "HyperParameters": "{% $cell.hyperparameters %}",
        # all attempts of a cell share its checkpoints, so that the next attempt continues from them
        "CheckpointConfig": {
            "S3Uri": f"{{% '{bucket.url('checkpoints')}/{name}-' & $run & '-' & $cell.id %}}",
            "LocalPath": "/opt/ml/checkpoints",
        },
        **_definition(jobs, bucket),
        "Tags": _tags(tags),
    }


def _search(
    jobs: SweepJobs, *, search: str, bucket: ArtifactBucket, tags: Mapping[str, str]
) -> dict[str, Any]:
    """Return the arguments of a tuning job. Its training jobs get the same tags."""
    return {
        "HyperParameterTuningJobName": f"{{% '{search}-' & $run %}}",
        "HyperParameterTuningJobConfig": "{% $plan.search.config %}",
        "TrainingJobDefinition": {
            "StaticHyperParameters": "{% $plan.search.hyperparameters %}",
            **_definition(jobs, bucket),
        },
        "Tags": _tags(tags),
    }


def _tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [
        *({"Key": key, "Value": value} for key, value in tags.items()),
        {"Key": "groundplan:execution", "Value": "{% $states.context.Execution.Name %}"},
        {"Key": "groundplan:labels", "Value": "{% $plan.labels %}"},
    ]


def _definition(jobs: SweepJobs, bucket: ArtifactBucket) -> dict[str, Any]:
    """Return the arguments that a training job and the definition of a tuning job have in common."""
    key = volume_key(jobs, bucket)
    return {
        "AlgorithmSpecification": {
            "TrainingImage": jobs.image.image_uri,
            "TrainingInputMode": "File",
            "MetricDefinitions": metrics(METRICS),
        },
        "InputDataConfig": "{% $plan.channels %}",
        "RoleArn": jobs.role.role.role_arn,
        "OutputDataConfig": {
            "S3OutputPath": bucket.url("training"),
            **({"KmsKeyId": bucket.key.key_arn} if bucket.key else {}),
        },
        "ResourceConfig": {
            "InstanceCount": jobs.hosts,
            "InstanceType": jobs.instance_type,
            "VolumeSizeInGB": jobs.volume_gb,
            **({"VolumeKmsKeyId": key} if key else {}),
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": jobs.seconds},
        "EnableNetworkIsolation": True,
        **({"VpcConfig": jobs.network.vpc_config} if jobs.network else {}),
    }


def metrics(names: Sequence[str]) -> list[dict[str, str]]:
    """Return the definitions of metrics that the log contains as `name=value`."""
    return [{"Name": name, "Regex": f"{name}=([0-9.eE+-]+)"} for name in names]


def _again() -> dict[str, Any]:
    """Return the retrier for functions that crashed, timed out or were throttled."""
    errors = [
        "Lambda.ClientExecutionTimeoutException",
        "Lambda.ServiceException",
        "Lambda.AWSLambdaException",
        "Lambda.SdkClientException",
        "Lambda.TooManyRequestsException",
        "Lambda.Unknown",
        "Runtime.ExitError",
        "Sandbox.Timedout",
    ]
    return {"ErrorEquals": errors, "IntervalSeconds": 2, "MaxAttempts": 5, "BackoffRate": 2}
