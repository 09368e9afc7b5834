"""Scenario of `snowflake_training`, for a deployed stack, locally or on AWS.

Stores the Snowflake connection in the secret, loads the table, runs the state machine, requests predictions
of held-out rows from the endpoint, then checks models that must not be deployed.
"""

from scenarios.snowflake_training.metrics import METRICS
from scenarios.snowflake_training.steps import run

__all__ = ["METRICS", "run"]
