"""The list of architectures, for the app, the demonstration, the tests and the tools.

Uses only the standard library, because `python -m demo` imports this module before it starts itself again in
the environment with the project's libraries. Classes and modules are given as import paths; `load` and
`importlib` import them where needed.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Architecture:
    """An architecture. `name` is also the name of its sub-folders, such as `stacks/NAME`."""

    name: str
    title: str
    sentence: str
    settings: str
    """Import path of the settings class, `module:class`."""
    stack: str
    """Import path of the stack class, `module:class`."""
    scenario: str
    """Module with `METRICS`, `run` and, optionally, `prepare`, which runs before the deployment."""
    needs: tuple[str, ...] = ()
    """Python environments that this architecture's demonstration needs besides those of all
    demonstrations."""

    def stack_name(self, environment: str) -> str:
        """Return the stack's name in an environment such as `dev`."""
        return f"groundplan-{environment}-{self.name.replace('_', '-')}"


ALL = (
    Architecture(
        name="snowflake_training",
        title="Train straight from Snowflake",
        sentence="Several hosts pull disjoint parts of a Snowflake table and train one XGBoost model "
        "together; a state machine puts it behind a serverless endpoint when it beats the one there.",
        settings="settings.snowflake_training:SnowflakeTraining",
        stack="stacks.snowflake_training.stack:SnowflakeTrainingStack",
        scenario="scenarios.snowflake_training",
        needs=("benchmarks-snowflake_training",),
    ),
    Architecture(
        name="personalization",
        title="A model for every user",
        sentence="People upload pictures; their fine-tunes are packed into training jobs, and thousands "
        "of adapters share one multi-model endpoint on Triton, where one base is resident.",
        settings="settings.personalization:Personalization",
        stack="stacks.personalization.stack:PersonalizationStack",
        scenario="scenarios.personalization.steps",
        needs=("scenarios-personalization",),
    ),
    Architecture(
        name="portfolio_rl",
        title="Trade under constraints",
        sentence="A policy learns which orders to place while every order keeps the rules; a state machine "
        "compares it with plain optimization and with the policy in service, and serves the better one.",
        settings="settings.portfolio_rl:PortfolioRl",
        stack="stacks.portfolio_rl.stack:PortfolioRlStack",
        scenario="scenarios.portfolio_rl",
        needs=("notebooks",),
    ),
    Architecture(
        name="power_bidding",
        title="Bid storage every hour",
        sentence="Four feeds become one dataset an hour; a model forecasts prices, an optimizer makes the"
        " offers, and a pipeline that a state machine waits for keeps the model current.",
        settings="settings.power_bidding:PowerBidding",
        stack="stacks.power_bidding.stack:PowerBiddingStack",
        scenario="scenarios.power_bidding",
    ),
    Architecture(
        name="data_centric",
        title="Train on the data that matters",
        sentence="Several labelers label on a page of the stack's own, a model finds probable label errors,"
        " and a state machine compares what training on parts of the data costs and loses.",
        settings="settings.data_centric:DataCentric",
        stack="stacks.data_centric.stack:DataCentricStack",
        scenario="scenarios.data_centric",
        needs=("scenarios-data_centric",),
    ),
)
BY_NAME = {each.name: each for each in ALL}


def load(name: str) -> Any:
    """Import and return `module:attribute`."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)
