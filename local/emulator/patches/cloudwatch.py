"""CloudWatch: alarm evaluation."""

from __future__ import annotations

import time
from collections.abc import Callable

from local.emulator import alarms
from local.emulator import cloudformation as cfn
from local.emulator.ministack import scope
from local.emulator.reach import Cloud, hook, replace, touch
from local.sagemaker import scaling


def metrics(account: str, region: str) -> scaling.Lookup:
    """Return a function that looks up metrics of an account and Region."""

    def lookup(metric: dict, statistic: str, period: float, periods: int) -> alarms.Series:
        with scope(account, region):
            return recorded(metric, statistic, period, periods)

    return lookup


def recorded(metric: dict, statistic: str, period: float, periods: int) -> alarms.Series:
    """Return a metric's values for the last periods, latest first; None for a period without data."""
    named = touch("services.cloudwatch._dims_from_list", "dimensions")
    dimensions = touch("services.cloudwatch._dims_key", "dims")(named(metric.get("Dimensions") or []))
    summed = touch("services.cloudwatch._calc_stats", "points")
    statistic_of = touch("services.cloudwatch._stat_value", "stats", "stat_name", "points")
    key = (metric["Namespace"], metric["MetricName"], dimensions)
    points, now = list(touch("services.cloudwatch._metrics").get(key) or []), time.time()
    ages: list[list] = [[] for _ in range(periods)]
    for point in points:
        age = int((now - point["Timestamp"]) // period)
        if 0 <= age < periods:
            ages[age].append(point)
    return [statistic_of(summed(some), statistic, some) if some else None for some in ages]


@hook
def alarms_are_judged_as_aws_does(cloud: Cloud) -> None:
    """MiniStack ignores dimensions, missing-data treatment and metric math, and no alarm returns to OK."""

    @replace("services.cloudwatch._evaluate_alarm", "alarm")
    def evaluate(original: Callable, alarm: dict) -> None:
        judged = alarms.judge(alarm, recorded)
        if judged is None or judged[0] == alarm["StateValue"]:
            return
        old, (new, reason) = alarm["StateValue"], judged
        alarm.update(StateValue=new, StateReason=reason, StateUpdatedTimestamp=int(time.time()))
        touch("services.cloudwatch._record_history", "alarm_name", "old_state", "new_state", "reason")(
            alarm["AlarmName"], old, new, reason
        )
        touch("services.cloudwatch._dispatch_alarm_actions", "alarm", "old_state", "new_state", "reason")(
            alarm, old, new, reason
        )
        touch("services.cloudwatch._evaluate_parent_alarms", "child")(alarm)

    @replace("services.cloudformation.provisioners._cw_metric_alarm_record", "name", "props")
    def record(original: Callable, name: str, props: dict) -> dict:
        if not props.get("Metrics"):
            return original(name, props)
        plain = {"MetricName": "-", "Namespace": "-", **props}
        alarm = original(name, {key: value for key, value in plain.items() if key != "Metrics"})
        alarm |= dict.fromkeys(("MetricName", "Namespace", "Statistic", "Period", "Dimensions"))
        alarm["Metrics"] = [
            cfn.coerced_like("cloudwatch", "MetricDataQuery", one) for one in props["Metrics"]
        ]
        alarms.datapoints(alarm, recorded)  # so that unsupported metric math fails the deployment
        return alarm


def evaluate_alarms() -> None:
    """Evaluate all alarms, in all accounts and Regions."""
    places = {key[:2] for key in list(touch("services.cloudwatch._alarms")._data)}
    for account, region in places:
        with scope(account, region):
            touch("services.cloudwatch._evaluate_all_alarms")()
