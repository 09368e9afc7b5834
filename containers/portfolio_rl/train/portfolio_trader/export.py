"""Policies as self-contained ONNX files that apply the rules and reject invalid input.

Inputs, for B accounts: `observation` float64 [B, 2N + 2 + Z] (units held, cash in dollars, prices in
dollars, step, signals) and `mask` bool [B, N, 2K + 1], what the caller allows for each asset, from selling
K lots to buying K. Outputs: `actions` int64 [B, N] in lots, and `valid` bool [B].

The rules are inside: whatever the mask allows, the order is admissible as a whole. An account whose
observation is not finite, whose holdings are no whole lots or negative, whose prices are not above zero,
whose step is no decision, or whose mask leaves an asset no choice gets no trade, and `valid` is false. ONNX
Runtime itself refuses a wrong shape or type.

Comparisons with a limit are stricter than those of `orders.py` by one part in 10^9, so that rounding never
lets an order through. The exporter stores Python numbers in single precision, so every limit is a buffer.
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
MOST = 1e12
"""Units, dollars and signals of an account are less than this: so no product of them overflows."""
OPSET = 20
CHOICES = "choices"
"""Metadata of the file: the values that it computes for each account, one for each joint order or each
choice of a leg. Memory and time of a run are in proportion to it."""


def _buffer(module: nn.Module, **arrays: Any) -> None:
    for name, array in arrays.items():
        module.register_buffer(name, torch.as_tensor(np.array(array)))


class Account(nn.Module):
    """Parses an observation into an account, and validates it."""

    lot: Tensor
    most: Tensor

    def __init__(self, rules: Compiled, decisions: int):
        super().__init__()
        _buffer(self, lot=rules.lot, most=MOST)
        self.assets, self.decisions = len(rules.lot), decisions

    def forward(self, given: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """Return lots, cash, prices, step, signals (harmless values where invalid) and validity."""
        n = self.assets
        units, cash, prices, step = (
            given[:, :n],
            given[:, n],
            given[:, n + 1 : 2 * n + 1],
            given[:, 2 * n + 1],
        )
        lots = torch.floor(units / self.lot + 0.5)
        valid = (given.abs() < self.most).all(1)  # false for NaN and infinity
        valid = valid & (lots * self.lot == units).all(1) & (lots >= 0).all(1)
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
    """The rules as tensors; limits that a computed value is compared with are the stricter ones."""

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
    cash_before: Tensor
    cash_after: Tensor
    turnover: Tensor
    stricter: Tensor

    def __init__(self, rules: Compiled):
        super().__init__()
        arrays = {name: value for name, value in rules._asdict().items() if isinstance(value, np.ndarray)}
        stricter = {
            "before_share": rules.before_share * (1 - STRICTER),
            "after_share": rules.after_share * (1 - STRICTER),
            "turnover": np.float64(rules.turnover * (1 - STRICTER)),
        }
        _buffer(self, **arrays | stricter)
        _buffer(self, cash_before=rules.cash_before, cash_after=rules.cash_after, stricter=STRICTER)
        self.largest, self.turnover_limited = rules.largest, np.isfinite(rules.turnover)

    def least_cash(self, whole: Tensor) -> Tensor:
        """Return the cash that a purchase must leave, [B, 1], for total values [B]."""
        return self.cash_after + self.stricter * whole.unsqueeze(1)

    def most_traded(self, whole: Tensor) -> Tensor:
        """Return the value that an order may trade, [B, 1], for total values [B]."""
        return self.turnover * whole.unsqueeze(1)

    def gain(self, prices: Tensor) -> tuple[Tensor, Tensor]:
        """Return the dollars that one lot brings when sold and costs when bought, [B, N] each."""
        sold = self.lot * (prices - self.sell_fee - self.sell_rate * prices)
        return sold, self.lot * (prices + self.buy_fee + self.buy_rate * prices)

    def total(self, lots: Tensor, cash: Tensor, prices: Tensor) -> Tensor:
        return cash + (lots * self.lot * prices).sum(1)

    def purchasable(self, lots: Tensor, cash: Tensor, prices: Tensor) -> Tensor:
        """Return which assets may be bought by what holds before the order, [B, N]."""
        whole = self.total(lots, cash, prices).unsqueeze(1)
        allowed = self.buy_allowed.unsqueeze(0) & (cash >= self.cash_before).unsqueeze(1)
        if len(self.before):
            held = (lots * self.lot * prices) @ self.before.double().T
            full = held > whole * self.before_share
            allowed = allowed & ~((full.double() @ self.before.double()) > 0)
        return allowed

    def capped(self, lots: Tensor, bought: Tensor, prices: Tensor, whole: Tensor) -> Tensor:
        """Return whether a group with a purchase exceeds its cap, for lots after the order; [...]."""
        members = self.after.double()
        held = (lots * self.lot * prices) @ members.T
        touched = (bought.double() @ members.T) > 0
        return (touched & (held > whole.unsqueeze(-1) * self.after_share)).any(-1)


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
        self.choices = len(orders)
        columns = [(orders[:, i] + rules.largest) for i in range(orders.shape[1])]
        own, degree = len(rules.lot) + 1, policy.values.degree
        left = monomials(own, degree)
        factors = np.array(_factors(policy.terms, degree))
        without = np.where(factors <= own, factors, 0)  # a monomial has its signals last
        plain = _factors(left, degree)
        same = (without[:, None] == np.array(plain)).all(2)
        # depth first, so that the memory of a monomial is free again after the last multiple of it
        depth_first = sorted(range(1, len(left)), key=lambda f: [v for v in plain[f] if v])
        self.terms = [(f, int(left[f, 0]), int(left[f, 1])) for f in depth_first]
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
        good = good & (~bought | (after >= limits.least_cash(whole)))
        if limits.turnover_limited:
            good = good & (values @ orders.abs().T <= limits.most_traded(whole))
        held = lots.unsqueeze(1) + orders  # [B, M, N]
        if len(limits.after):
            left = whole.unsqueeze(1) - fees
            good = good & ~limits.capped(held, buys > 0, prices.unsqueeze(1), left)
        good = good | ((orders == 0).all(1) & mask[:, :, limits.largest].all(1).unsqueeze(1))
        unit = values / CASH_UNIT if self.signals else torch.ones_like(values) / LOTS_UNIT
        x = [held[:, :, i] * unit[:, i : i + 1] for i in range(assets)] + [after / CASH_UNIT]
        w = self.weights[step]  # [B, F]
        if self.signals:
            z = torch.cat([torch.ones_like(signals[:, :1]), signals[:, : self.signals]], 1)
            w = (w * z[:, self.given].prod(2)) @ self.same  # [B, G]
        rows = {0: torch.ones_like(after)}
        value = w[:, 0:1] * rows[0]
        for f, parent, variable in self.terms:
            rows[f] = rows[parent] * x[variable]
            value = value + w[:, f : f + 1] * rows[f]
        best = torch.where(good, value, torch.full_like(value, -torch.inf)).argmax(1)
        valid = valid & good.any(1)
        actions = orders[best].long()
        return torch.where(valid.unsqueeze(1), actions, torch.zeros_like(actions)), valid


class MaskedLegs(nn.Module):
    """The most likely order of a network, one leg after the other (`ppo.Policy`).

    Where the caller's mask forbids no trade of an asset, a leg of it takes no zero lots while another choice
    of the leg is admissible; its sale may, if its purchase is admissible at that point. A later leg can
    still use up what that purchase needs, in cash, turnover or a cap. Such an account is refused although
    another order may be admissible. Without such a mask, no admissible order is out of reach.
    """

    def __init__(self, policy: Policy):
        super().__init__()
        rules, statistics = policy.rules, policy.statistics
        self.account, self.limits = Account(rules, len(statistics.sum) - 1), Limits(rules)
        self.network, self.inputs = policy.network, Inputs(statistics, rules, policy.start)
        self.choices = self.network.legs * self.network.options

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

        def tradable(i: int) -> Tensor:
            """Return how many lots of asset i keep the turnover after the order so far, [B, K+1]."""
            if not limits.turnover_limited:
                return torch.ones_like(mask[:, i, : k + 1])
            return traded.unsqueeze(1) + values[:, i : i + 1] * options <= limits.most_traded(whole)

        def purchases(i: int) -> Tensor:
            """Return how many lots of asset i may be bought after the order so far, [B, K+1]; 0 aside."""
            after = money.unsqueeze(1) - options * cost[:, i : i + 1]
            good = mask[:, i, k:] & can_buy[:, i : i + 1] & (orders[:, i : i + 1] == 0) & tradable(i)
            good = good & (after >= limits.least_cash(whole)) & (options > 0)
            if len(limits.after):
                some = options.view(1, -1, 1) * columns_of[i]
                left = whole.unsqueeze(1) - fees.unsqueeze(1) - options * (cost - values)[:, i : i + 1]
                bought = (orders.clamp(min=0).unsqueeze(1) + some) > 0
                good = good & ~limits.capped(held.unsqueeze(1) + some, bought, prices.unsqueeze(1), left)
            return good

        for leg in range(2 * n):
            i, sells = leg % n, leg < n
            needed = ~mask[:, i, k] & (orders[:, i] == 0)
            if sells:
                good = mask[:, i, : k + 1].flip(1) & tradable(i) & (options > 0)
                good = good & (options <= lots[:, i : i + 1])
                good = good & limits.sell_allowed[i] & (gain[:, i : i + 1] > 0)
                needed = needed & ~purchases(i).any(1)
            else:
                good = purchases(i)
            zero = (~needed | ~good.any(1)).unsqueeze(1) & (options == 0)
            score = logits[:, leg]
            chosen = torch.where(good | zero, score, torch.full_like(score, -torch.inf)).argmax(1)
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
        torch.ones(2, 2 * assets + 2 + signals, dtype=torch.float64),
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
    model = program.model_proto
    onnx.helper.set_model_props(model, {CHOICES: str(module.choices)})
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
