"""Faults of the cloud: the endpoint is throttled, functions are killed, all of it dies."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable

from benchmarks.power_bidding.faults.outcomes import Hour
from benchmarks.power_bidding.faults.plan import TrialFault
from local.cloud import LocalCloud
from scenarios import aws
from scenarios.power_bidding.desk import Desk

CALLS = (1, 3, 6, 12, 10_000)
"""Calls that the endpoint refuses, in turn. A function makes four and is run five times: not for the last."""
KILLS = (
    *(("MakeBids", write) for write in (1, 2, 3, 4)),
    *(("Consolidate", write) for write in (1, 2, 3, 4)),
    *(("MarketPrices", 1), ("Load", 2), ("Weather", 1), ("PriceForecast", 2)),
    *(("FallBack", write) for write in (1, 2, 3, 4)),
)
"""The function that is killed, and before which of its writes, in turn."""
LATEST = 1.2
"""A cloud dies at any moment until so many times as long as an hour's run takes."""
SETTINGS = {"throttled": "fault_throttle_endpoints", "killed": "fault_kill_functions"}


class CloudFaults:
    def __init__(
        self, cloud: LocalCloud, desk: Desk, restart: Callable[[], None], chance: random.Random
    ) -> None:
        """:param restart: kills the cloud and starts it again"""
        self._cloud, self._desk, self._restart, self._chance = cloud, desk, restart, chance
        self._before = dict.fromkeys(SETTINGS, 0)
        self._in_service = ""

    def begin(self, hour: Hour, fault: TrialFault) -> None:
        """Inject a fault before an hour's run starts."""
        if fault.kind not in SETTINGS:
            return
        self._before[fault.kind] = self._struck(fault.kind)
        if fault.kind == "throttled":
            named = f'"hour": "{hour.offered}"'
            calls = CALLS[fault.variant % len(CALLS)]
            self._cloud.configure(fault_throttle_endpoints=calls, fault_throttle_request=named)
            return
        function, write = KILLS[fault.variant % len(KILLS)]
        hour.notes.append(f"{function} before write {write}")
        if function == "FallBack":  # it runs where the model gives no answer
            self._in_service = self._desk.endpoint()
            gone = f"{self._desk.outputs['PipelineName']}-000000000000"
            self._serve(json.dumps(json.loads(self._in_service) | {"endpoint": gone}))
        self._cloud.configure(
            fault_kill_functions=1,
            fault_kill_function=self._desk.outputs[f"{function}FunctionName"],
            fault_kill_at_write=write,
        )

    def strike(self, hour: Hour, fault: TrialFault, seconds: float) -> None:
        """Kill the cloud while an hour's run is at work. `seconds` is how long a run takes."""
        if fault.kind == "restarted":
            after = self._chance.uniform(0, LATEST * seconds)
            time.sleep(after)
            begun = time.monotonic()
            self._restart()
            hour.notes.append(f"after {after:.1f} s, away for {time.monotonic() - begun:.1f} s")

    def end(self, hour: Hour, fault: TrialFault) -> None:
        """End a fault after the hour's offers are settled; note it if it did not strike."""
        if fault.kind not in SETTINGS:
            return
        count = self._struck(fault.kind) - self._before[fault.kind]
        hour.notes.append(f"{count} {fault.kind}")
        if not count:
            hour.missed.append(fault)
        self._cloud.configure(**{SETTINGS[fault.kind]: 0})
        if self._in_service and fault.kind == "killed":
            self._serve(self._in_service)
            self._in_service = ""

    def _struck(self, kind: str) -> int:
        return self._cloud.status()["faults"][SETTINGS[kind]]["injected"]

    def _serve(self, text: str) -> None:
        aws.client("ssm").put_parameter(
            Name=self._desk.outputs["EndpointParameterName"], Value=text, Type="String", Overwrite=True
        )
