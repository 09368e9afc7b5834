"""Parameters of Systems Manager: the switch for sending offers, the endpoint in service, the market's
clock."""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import Any, Protocol

from power_bidding.core.bid_ports import SWITCHES, Serving, Switch
from power_bidding.core.deployment import InService
from power_feeds import hours

NONE = "none"
"""Value of the endpoint parameter before a model is in service."""
REAL = "real"


class SystemsManager(Protocol):
    """The methods of boto3's client that are used."""

    def get_parameter(self, *, Name: str) -> dict[str, Any]: ...

    def put_parameter(self, *, Name: str, Value: str, Type: str, Overwrite: bool) -> object: ...


class Parameters:
    def __init__(self, client: SystemsManager, name: str):
        self.client, self.name = client, name

    def read(self) -> str:
        return self.client.get_parameter(Name=self.name)["Parameter"]["Value"]

    def write(self, text: str) -> None:
        self.client.put_parameter(Name=self.name, Value=text, Type="String", Overwrite=True)


def switch(parameter: Parameters) -> Switch:
    """Return the switch for sending offers. Raises `ValueError` unless it is one of `SWITCHES`."""
    text = parameter.read().strip()
    for each in SWITCHES:
        if each == text:
            return each
    raise ValueError(f"{parameter.name} must be one of {', '.join(SWITCHES)}, got {text!r}")


class EndpointParameter:
    """`deployment.Parameter`: a parameter with the model version in service and the previous one, as JSON."""

    def __init__(self, parameter: Parameters):
        self.parameter = parameter

    def get(self) -> InService:
        text = self.parameter.read()
        if text == NONE:
            return InService(None, None)
        value = json.loads(text)
        former = value.get("former")
        return InService(_serving(value), _serving(former) if former else None)

    def put(self, value: InService) -> None:
        body = {**_plain(value.now), "former": _plain(value.former) or None}
        self.parameter.write(json.dumps(body))


def _serving(value: Any) -> Serving:
    return Serving(value["endpoint"], value["version"], hours.parse(value["trained_to"]))


def _plain(serving: Serving | None) -> dict[str, str]:
    if serving is None:
        return {}
    return {
        "endpoint": serving.endpoint,
        "version": serving.version,
        "trained_to": hours.text(serving.trained_to),
    }


class MarketClock:
    """`bid_ports.Clock`: real time, or the time of a replay.

    The parameter is `real`, or JSON such as
    {"rate": 600, "began": "2026-11-30T09:00:00Z", "hour": "2022-01-31T00:00Z"}.
    The replay's time was `hour` at the real time `began`, and runs `rate` times as fast as real time.
    """

    def __init__(self, parameter: Parameters):
        self.parameter = parameter

    def now(self) -> float:
        text, real = self.parameter.read(), time.time()
        if text == REAL:
            return real / 3600
        value = json.loads(text)
        began = datetime.fromisoformat(value["began"]).timestamp()
        return hours.parse(value["hour"]) + float(value["rate"]) * (real - began) / 3600
