"""Scenario of `portfolio_rl`, for a deployed stack, locally or on AWS.

Trains a policy by fitted value iteration and three by PPO, compares all with plain optimization on held-out
prices, trades through the endpoint, then checks requests that the endpoint must refuse, the stop switch and
the rollback.
"""

from scenarios.portfolio_rl.metrics import METRICS
from scenarios.portfolio_rl.steps import run

__all__ = ["METRICS", "run"]
