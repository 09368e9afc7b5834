"""Scenario of `power_bidding`, for a deployed stack, locally or on AWS.

Imports the history, trains a first model, then replays a week of the market on a faster clock. In this week,
feeds fail, are late and are corrected, and a second model is trained. Every hour must have offers.
"""

from scenarios.power_bidding.metrics import METRICS
from scenarios.power_bidding.steps import prepare, run

__all__ = ["METRICS", "prepare", "run"]
