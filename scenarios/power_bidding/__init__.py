"""What a person does with `power_bidding` once it is deployed, here or on AWS.

Imports the past, has a first model trained, then lives through a week of the market on a faster clock, in
which feeds fail, come late and are corrected and a model is trained anew: offers for every hour.
"""

from scenarios.power_bidding.metrics import METRICS
from scenarios.power_bidding.steps import prepare, run

__all__ = ["METRICS", "prepare", "run"]
