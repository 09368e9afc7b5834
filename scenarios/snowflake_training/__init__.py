"""What a person does with `snowflake_training` once it is deployed, here or on AWS.

Puts the Snowflake connection into the secret, loads the table, starts the state machine, asks the
endpoint for predictions of rows that no host trained on, then tries what should not be deployed.
"""

from scenarios.snowflake_training.metrics import METRICS
from scenarios.snowflake_training.steps import run

__all__ = ["METRICS", "run"]
