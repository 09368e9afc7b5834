"""Settings of portfolio_rl."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields

import pytest

import portfolio_trader.settings
from settings import load
from settings.portfolio_rl import SCHEDULE, PolicyHyperparameters, PortfolioRl
from tests.support.settings import error


def test_the_container_reads_the_same_hyperparameters_with_the_same_defaults():
    ours = PolicyHyperparameters().as_texts()
    theirs = portfolio_trader.settings.Settings.read(ours)
    names = [field for field in fields(portfolio_trader.settings.Settings) if field.name != "mode"]
    assert {field.name for field in names} == set(ours)
    for field in names:
        assert field.default is not MISSING
        assert getattr(theirs, field.name) == field.default, field.name


@pytest.mark.parametrize(
    ("schedule", "taken"),
    [
        ("", True),
        ("rate(1 day)", True),
        ("rate(7 days)", True),
        ("cron(0 6 ? * MON *)", True),
        ("cron(0 6 1 * ? *)", True),
        # EventBridge refuses each of the following expressions
        ("rate(1 days)", False),
        ("rate(7 day)", False),
        ("rate(0 days)", False),
        ("rate(2 weeks)", False),
        ("cron(0 6 * * MON *)", False),
        ("cron(0 6 ? * ? *)", False),
        ("cron(0 6 * * *)", False),
    ],
)
def test_schedule_must_be_a_valid_eventbridge_expression(schedule: str, taken: bool):
    assert bool(re.fullmatch(SCHEDULE, schedule)) is taken


def test_domain_without_its_vpc_is_refused():
    said = error({"portfolio_rl.notebook": "domain"})
    assert said.startswith("portfolio_rl.notebook must be instance or none if vpc_id")


@pytest.mark.parametrize("method", ["fitted", "rllib"])
@pytest.mark.parametrize("objective", ["log", "cvar"])
def test_objective_that_the_method_ignores_is_refused(method: str, objective: str):
    given = {"hyperparameters.method": method, "hyperparameters.objective": objective}
    assert error({f"portfolio_rl.{name}": value for name, value in given.items()}) == (
        f"portfolio_rl.hyperparameters.objective must be mean with hyperparameters.method={method}, got"
        f" {objective!r}: log, cvar need hyperparameters.method=ppo"
    )
    ppo = {
        f"portfolio_rl.{name}": value for name, value in (given | {"hyperparameters.method": "ppo"}).items()
    }
    assert load(ppo).of(PortfolioRl).hyperparameters.objective == objective
