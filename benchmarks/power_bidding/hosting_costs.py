"""Monthly cost of an endpoint, serverless and provisioned.

A serverless endpoint is billed per started millisecond, by memory size; an instance per hour. The costs of
data processing, which are the same for both, and of the instance's volume are left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal

from local.sagemaker.prices import ListPrice

HOURS = 730
"""Hours of a month, as AWS calculates"""
DIGITS = Decimal("0.001")
"""Billing increment in seconds"""


@dataclass(frozen=True)
class Costs:
    """List prices: dollars per serverless second and per instance hour."""

    second: ListPrice
    hour: ListPrice

    def serverless(self, invocations: int, seconds: float) -> Decimal:
        """Return the monthly serverless cost in dollars.

        :param invocations: number per month
        :param seconds: duration of an invocation
        """
        return invocations * billed(seconds) * self.second.dollars

    def provisioned(self) -> Decimal:
        """Return the monthly cost of one instance in dollars."""
        return HOURS * self.hour.dollars

    def break_even(self, seconds: float) -> int:
        """Return the minimum number of monthly invocations at which serverless is not cheaper."""
        return math.ceil(self.provisioned() / self.serverless(1, seconds))

    def busy_share(self) -> float:
        """Return the share of the month for which an endpoint must compute so that both kinds cost the
        same."""
        return float(self.hour.dollars / (3600 * self.second.dollars))


def billed(seconds: float) -> Decimal:
    """Return the billed seconds, rounded up to whole milliseconds."""
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(f"seconds must be a number above 0, got {seconds}")
    return math.ceil(Decimal(str(seconds)) / DIGITS) * DIGITS
