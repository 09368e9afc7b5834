"""What an endpoint costs in a month, serverless and on an instance of its own.

A serverless endpoint is billed for each started millisecond of an invocation, by its memory; an instance for
every hour. What is billed alike, data by the GB, is left out, and so is the volume of an instance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal

from local.sagemaker.prices import ListPrice

HOURS = 730
"""Of a month, as AWS calculates"""
DIGITS = Decimal("0.001")
"""A millisecond, in seconds"""


@dataclass(frozen=True)
class Costs:
    """List prices: of a second of a serverless endpoint, and of an hour of an instance."""

    second: ListPrice
    hour: ListPrice

    def serverless(self, invocations: int, seconds: float) -> Decimal:
        """Return the dollars of a month with so many invocations of `seconds` each."""
        return invocations * billed(seconds) * self.second.dollars

    def provisioned(self) -> Decimal:
        """Return the dollars of a month of one instance."""
        return HOURS * self.hour.dollars

    def break_even(self, seconds: float) -> int:
        """Return the fewest invocations a month for which serverless is not cheaper."""
        return math.ceil(self.provisioned() / self.serverless(1, seconds))

    def busy_share(self) -> float:
        """Return the share of a month that an endpoint computes when both cost the same."""
        return float(self.hour.dollars / (3600 * self.second.dollars))


def billed(seconds: float) -> Decimal:
    """Return the seconds that are billed: each started millisecond."""
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(f"seconds must be a number above 0, got {seconds}")
    return math.ceil(Decimal(str(seconds)) / DIGITS) * DIGITS
