"""Policies as self-contained ONNX files that apply the rules and reject invalid input.

Inputs, for B accounts: `observation` float32 [B, 2N + 2 + Z] (units held, cash in dollars, prices in
dollars, step, signals) and `mask` bool [B, N, 2K + 1], what the caller allows for each asset, from selling
K lots to buying K. Outputs: `actions` int64 [B, N] in lots, and `valid` bool [B].

The rules are inside: whatever the mask allows, the order is admissible as a whole. An account whose
observation is not finite, whose holdings are no whole lots or negative, whose prices are not above zero,
whose step is no decision, or whose mask leaves an asset no choice gets no trade, and `valid` is false. ONNX
Runtime itself refuses a wrong shape or type.

Comparisons with a limit are stricter than those of `orders.py` by one part in 10^9, so that rounding never
lets an order through.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from .orders import every_order
from .ppo import Inputs, Policy
from .rules import Compiled
from .values import CASH_UNIT, LOTS_UNIT, Maximiser, monomials

STRICTER = 1e-9
OPSET = 20


def _buffer(module: nn.Module, **arrays: Any) -> None:
    for name, array in arrays.items():
        module.register_buffer(name, torch.as_tensor(np.array(array)))


class Account(nn.Module):
    """Parses an observation into an account in double precision, and validates it."""

    lot: Tensor

    def __init__(self, rules: Compiled, decisions: int):
        super().__init__()
        _buffer(self, lot=rules.lot)
        self.assets, self.decisions = len(rules.lot), decisions

    def forward(self, observation: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """Return lots, cash, prices, step, signals (harmless values where invalid) and validity."""
        n = self.assets
        given = observation.double()
        units, cash, prices, step = (
            given[:, :n],
            given[:, n],
            given[:, n + 1 : 2 * n + 1],
            given[:, 2 * n + 1],
        )
        lots = torch.floor(units / self.lot + 0.5)
        valid = (given.abs() < 1e12).all(1)  # false for NaN and infinity
        valid = valid & ((lots * self.lot - units).abs() <= 1e-6 * self.lot).all(1) & (lots >= 0).all(1)
        valid = valid & (cash >= 0) & (prices > 0).all(1)
        whole = torch.floor(step)
        valid = valid & (whole == step) & (step >= 0) & (step < self.decisions) & mask.any(2).all(1)
        rows = valid.unsqueeze(1)
        return (
            torch.where(rows, lots, torch.zeros_like(lots)),
            torch.where(valid, cash, torch.zeros_like(cash)),
            torch.where(rows, prices, torch.ones_like(prices)),
            torch.where(valid, whole, torch.zeros_like(whole)).long(),
            torch.where(rows, given[:, 2 * n + 2 :], torch.zeros_like(given[:, 2 * n + 2 :])),
            valid,
        )


class Limits(nn.Module):
    """The rules as tensors."""

    lot: Tensor
    buy_fee: Tensor
    sell_fee: Tensor
    buy_rate: Tensor
    sell_rate: Tensor
    buy_allowed: Tensor
    sell_allowed: Tensor
    before: Tensor
    before_share: Tensor
    after: Tensor
    after_share: Tensor

    def __init__(self, rules: Compiled):
        super().__init__()
        arrays = {name: value for name, value in rules._asdict().items() if isinstance(value, np.ndarray)}
        _buffer(self, **arrays)
        self.largest, self.turnover = rules.largest, rules.turnover
        self.cash_before, self.cash_after = rules.cash_before, rules.cash_after

    def gain(self, prices: Tensor) -> tuple[Tensor, Tensor]:
        """Return the dollars that one lot brings when sold and costs when bought, [B, N] each."""
        sold = self.lot * (prices - self.sell_fee - self.sell_rate * prices)
        return sold, self.lot * (prices + self.buy_fee + self.buy_rate * prices)

    def total(self, lots: Tensor, cash: Tensor, prices: Tensor) -> Tensor:
        return cash + (lots * self.lot * prices).sum(1)

    def purchasable(self, lots: Tensor, cash: Tensor, prices: Tensor) -> Tensor:
        """Return which assets may be bought by what holds before the order, [B, N]."""
        whole = self.total(lots, cash, prices).unsqueeze(1)
        allowed = self.buy_allowed.unsqueeze(0) & (cash >= self.cash_before * (1 + STRICTER)).unsqueeze(1)
        if len(self.before):
            held = (lots * self.lot * prices) @ self.before.double().T
            full = held > whole * self.before_share * (1 - STRICTER)
            allowed = allowed & ~((full.double() @ self.before.double()) > 0)
        return allowed

    def capped(self, lots: Tensor, bought: Tensor, prices: Tensor, whole: Tensor) -> Tensor:
        """Return whether a group with a purchase exceeds its cap, for lots after the order; [...]."""
        members = self.after.double()
        held = (lots * self.lot * prices) @ members.T
        touched = (bought.double() @ members.T) > 0
        return (touched & (held > whole.unsqueeze(-1) * self.after_share * (1 - STRICTER))).any(-1)


def _factors(terms: Any, degree: int) -> list[tuple[int, ...]]:
    """Return the variables of each monomial, counted from 1, as many as the degree: 0 stands for none."""
    found: list[tuple[int, ...]] = [()]
    for parent, variable in terms[1:]:
        found.append((*found[int(parent)], 1 + int(variable)))
    return [(*each, *(0 for _ in range(degree - len(each)))) for each in found]


class ExactMaximum(nn.Module):
    """The admissible order of the highest value, over all joint orders (`values.Maximiser`).

    Signals are the same for all orders of an account. With them multiplied into the weights, a polynomial in
    holdings and cash is left.
    """

    orders: Tensor
    weights: Tensor
    given: Tensor
    """[F, degree] the signals in each monomial, from 1; 0 for none"""
    same: Tensor
    """[F, G] which monomial each is without its signals"""
    index: Tensor

    def __init__(self, policy: Maximiser):
        super().__init__()
        rules = policy.rules
        self.account = Account(rules, len(policy.values.weights))
        self.limits = Limits(rules)
        orders = every_order(len(rules.lot), rules.largest)
        columns = [(orders[:, i] + rules.largest) for i in range(orders.shape[1])]
        own, degree = len(rules.lot) + 1, policy.values.degree
        left = monomials(own, degree)
        self.terms = [(int(parent), int(variable)) for parent, variable in left]
        factors = np.array(_factors(policy.terms, degree))
        without = np.where(factors <= own, factors, 0)  # a monomial has its signals last
        same = (without[:, None] == np.array(_factors(left, degree))).all(2)
        _buffer(
            self,
            orders=orders.astype(np.float64),
            weights=policy.values.weights,
            given=np.maximum(factors - own, 0),
            same=same.astype(np.float64),
            index=np.stack(columns).astype(np.int64),
        )
        self.signals = policy.values.signals

    def forward(self, observation: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        lots, cash, prices, step, signals, valid = self.account(observation, mask)
        limits, orders = self.limits, self.orders
        assets = orders.shape[1]
        sells, buys = (-orders).clamp(min=0), orders.clamp(min=0)  # [M, N]
        gain, cost = limits.gain(prices)
        whole = limits.total(lots, cash, prices)  # [B]
        after = cash.unsqueeze(1) + gain @ sells.T - cost @ buys.T  # [B, M]
        values = limits.lot * prices
        fees = (values - gain) @ sells.T + (cost - values) @ buys.T
        good = mask[:, 0, :][:, self.index[0]]
        for i in range(1, assets):
            good = good & mask[:, i, :][:, self.index[i]]
        can_sell = limits.sell_allowed.unsqueeze(0) & (gain > 0)
        can_buy = limits.purchasable(lots, cash, prices)
        for i in range(assets):
            good = good & (sells[:, i] <= lots[:, i : i + 1])
            good = good & ((sells[:, i] == 0) | can_sell[:, i : i + 1])
            good = good & ((buys[:, i] == 0) | can_buy[:, i : i + 1])
        bought = buys.sum(1) > 0
        good = good & (~bought | (after >= limits.cash_after + STRICTER * whole.unsqueeze(1)))
        if limits.turnover < float("inf"):
            traded = values @ orders.abs().T
            good = good & (traded <= limits.turnover * (1 - STRICTER) * whole.unsqueeze(1))
        held = lots.unsqueeze(1) + orders  # [B, M, N]
        if len(limits.after):
            left = whole.unsqueeze(1) - fees
            good = good & ~limits.capped(held, buys > 0, prices.unsqueeze(1), left)
        good = good | ((orders == 0).all(1) & mask[:, :, limits.largest].all(1).unsqueeze(1))
        unit = values / CASH_UNIT if self.signals else torch.full_like(values, 1 / LOTS_UNIT)
        x = [held[:, :, i] * unit[:, i : i + 1] for i in range(assets)] + [after / CASH_UNIT]
        w = self.weights[step]  # [B, F]
        if self.signals:
            z = torch.cat([torch.ones_like(signals[:, :1]), signals[:, : self.signals]], 1)
            w = (w * z[:, self.given].prod(2)) @ self.same  # [B, G]
        rows: list[Tensor] = [torch.ones_like(after)]
        value = w[:, 0:1] * rows[0]
        for f, (parent, variable) in enumerate(self.terms[1:], start=1):
            rows.append(rows[parent] * x[variable])
            value = value + w[:, f : f + 1] * rows[f]
        worst = torch.full_like(value, -1e300)
        best = torch.where(good, value, worst).argmax(1)
        valid = valid & good.any(1)
        actions = orders[best].long()
        return torch.where(valid.unsqueeze(1), actions, torch.zeros_like(actions)), valid


class MaskedLegs(nn.Module):
    """The most likely order of a network, one leg after the other (`ppo.Policy`)."""

    def __init__(self, policy: Policy):
        super().__init__()
        rules, statistics = policy.rules, policy.statistics
        self.account, self.limits = Account(rules, len(statistics.sum) - 1), Limits(rules)
        self.network, self.inputs = policy.network, Inputs(statistics, rules, policy.start)

    def forward(self, observation: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        lots, cash, prices, step, signals, valid = self.account(observation, mask)
        limits, n, k = self.limits, self.account.assets, self.limits.largest
        logits = self.network.logits(self.inputs(lots, cash, prices, step, signals))
        values = limits.lot * prices
        whole = limits.total(lots, cash, prices)
        gain, cost = limits.gain(prices)
        can_buy = limits.purchasable(lots, cash, prices)
        money, fees, traded, held = cash, torch.zeros_like(cash), torch.zeros_like(cash), lots
        options = torch.arange(k + 1, dtype=torch.float64)
        columns_of = torch.eye(n, dtype=torch.float64)
        orders = torch.zeros_like(lots)
        for leg in range(2 * n):
            i, sells = leg % n, leg < n
            one = values[:, i : i + 1] * options  # [B, K+1]
            worth = traded.unsqueeze(1) + one
            zero = (options == 0).unsqueeze(0)
            if sells:
                allowed = mask[:, i, : k + 1].flip(1)
                good = (options <= lots[:, i : i + 1]) & limits.sell_allowed[i] & (gain[:, i : i + 1] > 0)
                after, paid = None, None
            else:
                allowed = mask[:, i, k:]
                after = money.unsqueeze(1) - options * cost[:, i : i + 1]
                paid = fees.unsqueeze(1) + options * (cost - values)[:, i : i + 1]
                good = can_buy[:, i : i + 1] & (orders[:, i : i + 1] == 0)
                good = good & (after >= limits.cash_after + STRICTER * whole.unsqueeze(1))
                if len(limits.after):
                    lots_then = held.unsqueeze(1) + options.view(1, -1, 1) * columns_of[i]
                    bought = (orders.clamp(min=0).unsqueeze(1) + options.view(1, -1, 1) * columns_of[i]) > 0
                    left = whole.unsqueeze(1) - paid
                    good = good & ~limits.capped(lots_then, bought, prices.unsqueeze(1), left)
            if limits.turnover < float("inf"):
                good = good & (worth <= limits.turnover * (1 - STRICTER) * whole.unsqueeze(1))
            # no trade needs no rule; whether the caller allows it is decided for both legs of the asset at
            # the end
            good = (good & allowed) | zero
            score = logits[:, leg]
            chosen = torch.where(good, score, torch.full_like(score, -1e30)).argmax(1)
            lot = chosen.double()
            step_of = lot.unsqueeze(1) * columns_of[i]
            if sells:
                money = money + lot * gain[:, i]
                fees = fees + lot * (values - gain)[:, i]
                orders, held = orders - step_of, held - step_of
            else:
                money = money - lot * cost[:, i]
                fees = fees + lot * (cost - values)[:, i]
                orders, held = orders + step_of, held + step_of
            traded = traded + lot * values[:, i]
        actions = orders.long()
        allowed = mask.gather(2, (actions + k).unsqueeze(2)).squeeze(2).all(1)
        valid = valid & allowed
        return torch.where(valid.unsqueeze(1), actions, torch.zeros_like(actions)), valid


def export(policy: Maximiser | Policy, signals: int, path: Path) -> None:
    """Write a policy as an ONNX file.

    :param signals: signals of a time, Z
    """
    module = ExactMaximum(policy) if isinstance(policy, Maximiser) else MaskedLegs(policy)
    rules = policy.rules
    assets = len(rules.lot)
    example = (
        torch.ones(2, 2 * assets + 2 + signals, dtype=torch.float32),
        torch.ones(2, assets, 2 * rules.largest + 1, dtype=torch.bool),
    )
    accounts = torch.export.Dim("accounts")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of packages that are not needed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch's own use of what it deprecates
        program = torch.onnx.export(
            module.eval(),
            example,
            dynamo=True,
            input_names=["observation", "mask"],
            output_names=["actions", "valid"],
            dynamic_shapes={"observation": {0: accounts}, "mask": {0: accounts}},
            opset_version=OPSET,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("PyTorch exported nothing")
    onnx.checker.check_model(program.model_proto)
    path.write_bytes(program.model_proto.SerializeToString())
