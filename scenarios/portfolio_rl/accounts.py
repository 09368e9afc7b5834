"""Accounts that execute orders, and a check of orders against the rules without the endpoint's code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Rules = dict[str, Any]
"""Rules as in a policy's `card.json`: `cash`, `largest_order`, `assets` and `constraints`."""

ROUNDING = 1e-6
"""Rounding tolerance, for shares of the account's value and for dollars."""


@dataclass
class Account:
    """Units of each asset by name, and cash in dollars."""

    units: dict[str, int]
    cash: float

    def total(self, prices: dict[str, float]) -> float:
        """Return the value in dollars."""
        return self.cash + sum(count * prices[name] for name, count in self.units.items())


def start(rules: Rules) -> Account:
    return Account({asset["name"]: 0 for asset in rules["assets"]}, rules["cash"])


def execute(account: Account, order: dict[str, int], prices: dict[str, float], rules: Rules) -> Account:
    """Return the account after an order in units, at these prices and with fees. Its cash may be negative."""
    after = Account(dict(account.units), account.cash)
    for asset in rules["assets"]:
        name = asset["name"]
        count, side = order[name], "buy" if order[name] > 0 else "sell"
        fee = asset[f"{side}_fee"] + asset[f"{side}_rate"] * prices[name]
        after.units[name] += count
        after.cash -= count * prices[name] + abs(count) * fee
    return after


def broken(account: Account, order: dict[str, int], prices: dict[str, float], rules: Rules) -> list[str]:
    """Return a text for each rule that an order breaks."""
    assets = {asset["name"]: asset for asset in rules["assets"]}
    after = execute(account, order, prices, rules)
    bought = [name for name, count in order.items() if count > 0]
    found = [f"sells more of {name} than is held" for name, count in after.units.items() if count < 0]
    found += [
        f"{count} of {name} must be whole lots, at most {rules['largest_order']}"
        for name, count in order.items()
        if count % assets[name]["lot"] or abs(count) > rules["largest_order"] * assets[name]["lot"]
    ]
    if after.cash < -ROUNDING:
        found.append(f"costs ${-after.cash:.2f} more than the account's cash")
    for constraint in rules["constraints"]:
        found += _broken(constraint, account, after, order, bought, prices)
    return found


def _broken(
    constraint: dict[str, Any],
    before: Account,
    after: Account,
    order: dict[str, int],
    bought: list[str],
    prices: dict[str, float],
) -> list[str]:
    kind, checked = constraint["kind"], constraint.get("checked", "both")
    moments = [
        (moment, account)
        for moment, account in (("before", before), ("after", after))
        if checked in (moment, "both")
    ]
    if kind == "cap" and any(name in constraint["assets"] for name in bought):
        shares = {
            moment: sum(account.units[name] * prices[name] for name in constraint["assets"])
            / account.total(prices)
            for moment, account in moments
        }
        return [
            f"buys of {constraint['assets']} at a share of {share:.4f} {moment} the order"
            for moment, share in shares.items()
            if share > constraint["share"] + ROUNDING
        ]
    if kind == "cash_floor" and bought:
        return [
            f"buys with ${account.cash:.2f} {moment} the order"
            for moment, account in moments
            if account.cash < constraint["dollars"] - ROUNDING
        ]
    if kind == "turnover":
        traded = sum(abs(count) * prices[name] for name, count in order.items())
        share = traded / before.total(prices)
        return [f"trades a share of {share:.4f}"] if share > constraint["share"] + ROUNDING else []
    if kind == "no_trade":
        sides = {name: "buy" if count > 0 else "sell" for name, count in order.items() if count}
        return [
            f"{side}s {name}"
            for name, side in sides.items()
            if name in constraint["assets"] and side in constraint["sides"]
        ]
    return []
