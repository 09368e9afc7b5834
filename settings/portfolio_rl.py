"""The settings of `portfolio_rl`."""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

from pydantic import Field

from settings.base import Hyperparameters
from settings.models import ModelSettings

Variant = Literal["corrected", "strict"]
Method = Literal["fitted", "ppo", "rllib"]
Objective = Literal["mean", "log", "cvar"]
Recipe = Literal["ours", "source"]
Notebook = Literal["instance", "domain", "none"]


# EventBridge's syntax: the unit is singular only after 1, and cron has six fields with one question mark
SCHEDULE = (
    r"^(rate\((1 (minute|hour|day)|([2-9]|[1-9][0-9]+) (minutes|hours|days))\)"
    r"|cron\(\S+ \S+ (\? \S+ [^\s?]+|[^\s?]+ \S+ \?) \S+\))?$"
)


class PolicyHyperparameters(Hyperparameters):
    """Hyperparameters of the training image. Each execution of the state machine can override them."""

    variant: Variant = Field(default="corrected", description="one of " + ", ".join(get_args(Variant)))
    method: Method = Field(
        default="fitted",
        description="fitted (fitted value iteration), ppo (proximal policy optimization) or rllib (that by"
        " Ray RLlib, on one host or several)",
    )
    objective: Objective = Field(
        default="mean", description="what ppo maximises of the final value: mean, log or cvar"
    )
    observed: int = Field(
        default=1000, ge=10, le=1_000_000, description="a whole number of episodes from 10 to 1000000"
    )
    episodes: int = Field(
        default=600_000, ge=100, le=100_000_000, description="a whole number from 100 to 100000000"
    )
    cpu_seconds: float = Field(
        default=0, ge=0, le=1e6, description="a number from 0 (no limit) to 1000000, seconds of ppo"
    )
    held_out: int = Field(
        default=50_000, ge=1000, le=1_000_000, description="a whole number of episodes from 1000 to 1000000"
    )
    program: bool = Field(
        default=False,
        description="true or false, whether a dynamic program that knows the means is compared with, too",
    )
    test_fraction: float = Field(
        default=0.2,
        ge=0.05,
        le=0.5,
        description="a number from 0.05 to 0.5, the share of your own prices, their end, that is held out",
    )
    folds: int = Field(
        default=4,
        ge=1,
        le=100,
        description="a whole number from 1 to 100 of parts of that end, each traded by a policy that fitted"
        " fits to all prices before it",
    )
    runners: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="a whole number of env runners on a host, 0 for one on each core",
    )
    recipe: Recipe = Field(
        default="ours",
        description="ours or source, the hyperparameters of rllib: source are those that were published",
    )
    checkpoint_every: int = Field(
        default=50, ge=0, le=1_000_000, description="a whole number of batches from 0 (none) to 1000000"
    )
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="a whole number from 0 to 2147483647")
    threads: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="a whole number to 1024, 0 for all cores for fitted and one for networks",
    )


class PortfolioRl(ModelSettings):
    """Learn to trade under constraints, and serve orders that keep them."""

    ENVIRONMENTS: ClassVar = {
        "prod": {
            "retain": True,
            "own_key": True,
            "log_retention_days": 365,
            "minimum_improvement": 0.001,
            "notebook": "none",
            "retrain": "rate(7 days)",
        },
    }

    own_rules: bool = Field(
        default=False,
        description="true or false, whether jobs read the file inputs/rules/rules.json of the bucket",
    )
    own_prices: bool = Field(
        default=False,
        description="true or false, whether jobs read the file inputs/prices/prices.csv of the bucket",
    )
    retrain: str = Field(
        default="",
        pattern=SCHEDULE,
        description="when a new policy is trained, as rate(1 day), rate(7 days) or cron(0 6 ? * MON *) in"
        " UTC, or empty for never",
    )
    notebook: Notebook = Field(
        default="instance",
        description="instance (a notebook instance), domain (a SageMaker domain with a JupyterLab) or none",
    )
    vpc_id: str = Field(
        default="",
        pattern=r"^(vpc-[0-9a-f]{8,17})?$",
        description="an id such as vpc-0a1b2c3d, which notebook=domain needs, or empty",
    )
    hyperparameters: PolicyHyperparameters = PolicyHyperparameters()

    def contradictions(self) -> list[str]:
        found = super().contradictions()
        if self.notebook == "domain" and not (self.vpc_id and self.subnet_ids):
            found.append("notebook must be instance or none if vpc_id or subnet_ids is empty, got domain")
        chosen = self.hyperparameters
        if chosen.objective != "mean" and chosen.method != "ppo":
            found.append(
                f"hyperparameters.objective must be mean with hyperparameters.method={chosen.method}, got"
                f" {chosen.objective!r}: {', '.join(get_args(Objective)[1:])} need hyperparameters.method=ppo"
            )
        return found
