"""Settings of portfolio_rl."""

from __future__ import annotations

from dataclasses import MISSING, fields

import portfolio_trader.settings
from settings.portfolio_rl import PolicyHyperparameters


def test_the_container_reads_the_same_hyperparameters_with_the_same_defaults():
    ours = PolicyHyperparameters().as_texts()
    theirs = portfolio_trader.settings.Settings.read(ours)
    names = [field for field in fields(portfolio_trader.settings.Settings) if field.name != "mode"]
    assert {field.name for field in names} == set(ours)
    for field in names:
        assert field.default is not MISSING
        assert getattr(theirs, field.name) == field.default, field.name
