"""Settings of portfolio_rl."""

from __future__ import annotations

from dataclasses import MISSING, fields

import portfolio_trader.settings
from settings.portfolio_rl import PolicyHyperparameters
from tests.support.settings import error


def test_the_container_reads_the_same_hyperparameters_with_the_same_defaults():
    ours = PolicyHyperparameters().as_texts()
    theirs = portfolio_trader.settings.Settings.read(ours)
    names = [field for field in fields(portfolio_trader.settings.Settings) if field.name != "mode"]
    assert {field.name for field in names} == set(ours)
    for field in names:
        assert field.default is not MISSING
        assert getattr(theirs, field.name) == field.default, field.name


def test_a_domain_without_its_vpc_is_refused():
    said = error({"portfolio_rl.notebook": "domain"})
    assert said.startswith("portfolio_rl.notebook is domain, allowed is that together with vpc_id")
