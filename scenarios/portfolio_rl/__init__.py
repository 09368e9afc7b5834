"""What a person does with `portfolio_rl` once it is deployed, here or on AWS.

Trains a policy by fitted value iteration and three by PPO, compares all with plain optimization on prices
that nobody trained on, trades through the endpoint, then tries what it must refuse, the stop switch and the
way back.
"""

from scenarios.portfolio_rl.metrics import METRICS
from scenarios.portfolio_rl.steps import run

__all__ = ["METRICS", "run"]
