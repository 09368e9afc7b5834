"""Invocation metrics of an endpoint, sent to CloudWatch."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from local.sagemaker.api import Context
from local.sagemaker.metrics import BATCH
from local.sagemaker.quotas import setting
from local.sagemaker.reply import Reply
from local.sagemaker.serving import Variant
from local.sagemaker.serving_container import SESSION

NAMESPACE = "AWS/SageMaker"
OF_INSTANCES = "/aws/sagemaker/Endpoints"

logger = logging.getLogger(__name__)


class Traffic:
    """Metrics of one endpoint's invocations, sent at intervals. Thread-safe.

    A background thread sends them. The thread ends when no metrics are left, and is started again at the next
    invocation.
    """

    def __init__(self, context: Context, endpoint: str):
        self._context, self._endpoint = context, endpoint
        self._lock = threading.Lock()
        self._unsent: list[tuple[str, dict[str, Any]]] = []
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    def count(self, variant: Variant, reply: Reply | None, seconds: float, started: bool) -> None:
        """Record one invocation.

        :param reply: the container's reply; None: the container did not reply
        :param seconds: total duration
        :param started: whether the container had to be started
        """
        status = reply.status if reply else 500
        values: list[tuple[str, float, str]] = [
            ("Invocations", 1, "Count"),
            ("InvocationsPerInstance", 1 / max(1, variant.running), "Count"),
            ("Invocation4XXErrors", float(400 <= status < 500), "Count"),
            ("Invocation5XXErrors", float(status >= 500), "Count"),
            ("InvocationModelErrors", float(not 200 <= status < 300), "Count"),
        ]
        if reply is not None:
            values.append(("ModelLatency", reply.latency * 1e6, "Microseconds"))
            values.append(("OverheadLatency", (seconds - reply.latency) * 1e6, "Microseconds"))
        if started and variant.serverless:
            values.append(("ModelSetupTime", variant.setup * 1e6, "Microseconds"))
        values += variant.measures()
        loaded = [("LoadedModelCount", float(len(each)), "Count") for each in variant.loaded()]
        dimensions = [
            {"Name": "EndpointName", "Value": self._endpoint},
            {"Name": "VariantName", "Value": variant.name},
        ]
        moment = round(time.time(), 3)
        with self._lock:
            for namespace, found in ((NAMESPACE, values), (OF_INSTANCES, loaded)):
                for name, value, unit in found:
                    datum = {"MetricName": name, "Value": value, "Unit": unit, "Timestamp": moment}
                    self._unsent.append((namespace, datum | {"Dimensions": dimensions}))
            if self._thread is None and not self._closed.is_set():
                self._thread = threading.Thread(target=self._deliver, name="traffic", daemon=True)
                self._thread.start()

    def _deliver(self) -> None:
        context = self._context
        while True:
            self._closed.wait(setting(context.platform, "endpoint_log_interval"))
            with self._lock:
                values, self._unsent = self._unsent, []
                if not values:
                    self._thread = None
                    return
            try:
                client = context.platform.client("cloudwatch", context.account, context.region, "", SESSION)
                for namespace in (NAMESPACE, OF_INSTANCES):
                    data = [datum for of, datum in values if of == namespace]
                    for start in range(0, len(data), BATCH):
                        client.put_metric_data(Namespace=namespace, MetricData=data[start : start + BATCH])
            except Exception as error:  # lost metrics must not fail an invocation
                logger.warning("Could not send the metrics of endpoint %s: %s", self._endpoint, error)

    def close(self) -> None:
        """Send the remaining metrics, and wait up to 5 seconds until they are sent."""
        self._closed.set()
        thread = self._thread
        if thread is not None:
            thread.join(timeout=5)
