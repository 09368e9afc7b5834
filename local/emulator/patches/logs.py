"""CloudWatch Logs: metric filters."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any

from local.emulator.reach import Cloud, hook, replace, touch
from local.sagemaker.api import NOT_BUILT

FLAG = re.compile(r"\{\s*\$\.([A-Za-z_][A-Za-z0-9_]*)\s+IS\s+(TRUE|FALSE)\s*\}")
"""Format of the supported filter patterns, which test whether one field of a JSON log line is true or
false."""


def counted(pattern: str, message: str) -> bool:
    """Return whether a log line matches a pattern."""
    flag = FLAG.fullmatch(pattern.strip())
    try:
        found = json.loads(message)
    except ValueError:
        return False  # as on AWS, a line that is not JSON matches no JSON pattern
    return bool(flag) and isinstance(found, dict) and found.get(flag[1]) is (flag[2] == "TRUE")


@hook
def metric_filters_count(cloud: Cloud) -> None:
    """MiniStack stores metric filters and never applies them."""
    error = touch("core.responses.error_response_json", "code", "message", "status")
    store = touch("services.cloudwatch._store_datum", "namespace", "name", "dims", "ts", "unit", "value")

    @replace("services.cloudwatch_logs._put_metric_filter", "data")
    def put_metric_filter(original: Callable, data: dict) -> Any:
        pattern = data.get("filterPattern", "")
        values = [each.get("metricValue") for each in data.get("metricTransformations") or ()]
        if FLAG.fullmatch(pattern.strip()) and values == ["1"]:
            return original(data)
        said = (
            f"logs:PutMetricFilter with the pattern {pattern!r} and the values {values} is not"
            " implemented in the local cloud; supported are patterns such as { $.valid IS FALSE } that"
            " count with the value 1"
        )
        return error(NOT_BUILT, said, 501)

    @replace("services.cloudwatch_logs._put_log_events", "data")
    def put_log_events(original: Callable, data: dict) -> Any:
        answer = original(data)
        if answer[0] != 200:
            return answer
        filters = touch("services.cloudwatch_logs._metric_filters")
        own = [found for found in filters.values() if found["logGroupName"] == data.get("logGroupName")]
        for found in own:
            for event in data.get("logEvents", []):
                if counted(found["filterPattern"], event.get("message", "")):
                    (into,) = found["metricTransformations"]
                    moment = event.get("timestamp", time.time() * 1000) / 1000
                    where = into["metricNamespace"], into["metricName"]
                    store(*where, {}, moment, into.get("unit", "None"), 1, None, None, None)
        return answer
