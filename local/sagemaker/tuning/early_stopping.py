"""Early stopping of training jobs: the median rule of `TrainingJobEarlyStoppingType` Auto.

https://docs.aws.amazon.com/sagemaker/latest/dg/automatic-model-tuning-early-stopping.html
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence


def is_worse(current: Sequence[float], earlier: Iterable[Sequence[float]], maximize: bool) -> bool:
    """Return whether a job should be stopped.

    For each ended job, the objective is averaged up to the epoch that the current job has reached. The job
    should be stopped if its last value is worse than the median of these averages. Ended jobs with fewer
    epochs are left out.

    :param current: the job's values of the objective, one for each epoch
    :param earlier: the values of each ended job
    """
    if not current:
        return False
    epoch = len(current)
    averages = [statistics.fmean(values[:epoch]) for values in earlier if len(values) >= epoch]
    if not averages:
        return False
    median = statistics.median(averages)
    return current[-1] < median if maximize else current[-1] > median
