"""Faults of the cloud: throttled endpoint, killed functions, crashed cloud."""

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
"""Numbers of calls that the endpoint throttles, used in turn. With its retries a function makes 20 calls, so
the last value throttles all of them."""
KILLS = (
    *(("MakeBids", write) for write in (1, 2, 3, 4)),
    *(("Consolidate", write) for write in (1, 2, 3, 4)),
    *(("MarketPrices", 1), ("Load", 2), ("Weather", 1), ("PriceForecast", 2)),
    *(("FallBack", write) for write in (1, 2, 3)),
)
"""(function, number of the write before which it is killed), used in turn."""
LATEST = 1.2
"""Maximum time from the start of a run to the crash, as a multiple of a run's duration. The time is
random."""
SETTINGS = {"throttled": "fault_throttle_endpoints", "killed": "fault_kill_functions"}


class CloudFaults:
    def __init__(
        self, cloud: LocalCloud, desk: Desk, restart: Callable[[], None], chance: random.Random
    ) -> None:
        """:param restart: kills and restarts the cloud"""
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
        hour.notes.append(f"killed {function} before write {write}")
        if function == "FallBack":  # `FallBack` only runs if the model does not answer
            self._in_service = self._desk.endpoint()
            gone = f"{self._desk.outputs['PipelineName']}-000000000000"
            self._serve(json.dumps(json.loads(self._in_service) | {"endpoint": gone}))
        self._cloud.configure(
            fault_kill_functions=1,
            fault_kill_function=self._desk.outputs[f"{function}FunctionName"],
            fault_kill_at_write=write,
        )

    def strike(self, hour: Hour, fault: TrialFault, seconds: float) -> None:
        """Kill the cloud during an hour's run.

        :param seconds: duration of a run
        """
        if fault.kind == "restarted":
            after = self._chance.uniform(0, LATEST * seconds)
            time.sleep(after)
            begun = time.monotonic()
            self._restart()
            hour.notes.append(
                f"killed the cloud after {after:.1f} s, down for {time.monotonic() - begun:.1f} s"
            )

    def end(self, hour: Hour, fault: TrialFault) -> None:
        """End a fault after the hour's offers are final. Record a fault that had no effect."""
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
