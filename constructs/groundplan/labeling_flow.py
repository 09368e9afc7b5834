"""The state machine of `LabelingJob`.

    Accept -> Start -> Look, with pauses, until the job has ended -> Report

The job's name contains the execution's hash, so that a retry finds the job of the first call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from groundplan.artifact_bucket import ArtifactBucket
from groundplan.states import Flow, Rule, not_text, outside, start_job

INPUTS, LABELS = "inputs", "labels"
"""Folders of the bucket: objects to label and manifests, and the results."""
DAY = 86_400
STOP_SECONDS = 3_600
"""Maximum time that stopping a job takes, in seconds."""
FIRST_PAUSE, LONGER, LONGEST_PAUSE = 5, 1.05, 1_800
"""First pause between two polls of the job's status in seconds, the factor by which it grows, and the longest
pause: an execution has at most 25,000 events, a poll takes nine, and a job may take 30 days."""
STOPPING_PAUSE = 60


def labeling(name: str, job: Mapping[str, Any], bucket: ArtifactBucket, seconds: int) -> dict[str, Any]:
    """Return the definition of the state machine.

    :param name: prefix of the jobs' names
    :param job: arguments of CreateLabelingJob that are the same for all jobs
    :param seconds: time after which a job that has not ended is stopped
    """
    flow = Flow()
    start_job(
        flow,
        "aws-sdk:sagemaker:createLabelingJob",
        {
            **job,
            "LabelingJobName": "{% $job %}",
            "LabelAttributeName": "{% $given.attribute %}",
            "InputConfig": {"DataSource": {"S3DataSource": {"ManifestS3Uri": "{% $given.manifest %}"}}},
        },
        "Look",
        name=name,
        refused=[
            not_text("attribute"),
            outside("manifest", [f"{bucket.url(folder)}/" for folder in (INPUTS, LABELS)]),
        ],
        assign={"pause": 0, "waited": 0},
    )
    flow.call(
        "Look",
        "aws-sdk:sagemaker:describeLabelingJob",
        {"LabelingJobName": "{% $job %}"},
        "IsOver",
        assign={
            "seen": "{% $states.result %}",
            "waited": "{% $waited + $pause %}",
            "pause": _pause(seconds),
        },
    )
    working = "$seen.LabelingJobStatus in ['Initializing', 'InProgress']"
    late = f"$waited >= {seconds}"
    counts = "$string($seen.LabelCounters.TotalLabeled) & ' objects are labeled, '" + (
        " & $string($seen.LabelCounters.Unlabeled) & ' are not'"
    )
    flow.choose(
        "IsOver",
        Rule(when="{% $seen.LabelingJobStatus = 'Completed' %}", then="Report"),
        Rule(when=f"{{% {working} and $not({late}) %}}", then="Pause"),
        Rule(when=f"{{% {working} and $waited < {seconds + STOP_SECONDS} %}}", then="Stop"),
        Rule(
            when=f"{{% $seen.LabelingJobStatus = 'Stopping' and $waited < {seconds + STOP_SECONDS} %}}",
            then="Pause",
        ),
        otherwise="Failed",
        assign={
            "at": "Label",
            "reason": "{% 'Label: ' & ($exists($seen.FailureReason) ? $seen.FailureReason"
            f" : 'the job is ' & $seen.LabelingJobStatus & ({late} ? ' after {seconds // DAY} days' : '')"
            f" & ': ' & {counts}) %}}",
        },
    )
    # errors are ignored: StopLabelingJob fails if the job has just ended
    flow.try_to("Stop", "aws-sdk:sagemaker:stopLabelingJob", {"LabelingJobName": "{% $job %}"}, "Pause")
    flow.pause("Pause", "{% $pause %}", "Look")
    flow.report(
        "Report",
        {
            "job": "{% $job %}",
            "manifest": "{% $seen.LabelingJobOutput.OutputDatasetS3Uri %}",
            "labeled": "{% $seen.LabelCounters.TotalLabeled %}",
            "failed": "{% $seen.LabelCounters.FailedNonRetryableError %}",
            "unlabeled": "{% $seen.LabelCounters.Unlabeled %}",
        },
    )
    # the polls themselves take time too, so the timeout is longer than `seconds + STOP_SECONDS`
    return flow.definition("Accept", seconds=seconds + 4 * STOP_SECONDS)


def _pause(seconds: int) -> str:
    """Return the JSONata of the next pause, which ends before the job's maximum duration is over."""
    longer = f"$min([$ceil($pause * {LONGER}), {LONGEST_PAUSE}, {seconds} - $then])"
    return (
        f"{{% ($then := $waited + $pause; $then >= {seconds} ? {STOPPING_PAUSE}"
        f" : $max([{FIRST_PAUSE}, {longer}])) %}}"
    )
