"""Policies as self-contained ONNX files that apply the rules and reject invalid input.

Inputs, for B accounts, N assets, Z signals and at most K lots in a leg: `observation` float64 [B, 2N + 2 + Z]
(units held, cash in dollars, prices in dollars, step, signals) and `mask` bool [B, N, 2K + 1], which is
true for each number of lots of an asset that the caller allows, from -K (sell K lots) to K (buy K lots).
Outputs: `actions` int64 [B, N] in lots, and `valid` bool [B].

The file contains the rules, so orders are admissible whatever mask the caller passes. An account gets no
trade, and `valid` is false, if its observation is not finite, its cash or holdings are negative, its holdings
are not whole lots, its prices are not above zero, its step is not the number of a decision, or no admissible
order that its mask allows is found. ONNX Runtime rejects a wrong shape or type.

The rules' limits are stricter than in `orders.py` by one part in 10^9, so that rounding never allows an
inadmissible order.

The file is written with the library ndonnx: its array operations add operators to the file.
"""

from __future__ import annotations

from functools import reduce
from operator import add, and_, mul, or_
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import ndonnx as nd
import numpy as np
import onnx

from .orders import every_order
from .rules import Compiled
from .values import CASH_UNIT, LOTS_UNIT, Maximiser, monomials

if TYPE_CHECKING:
    from .ppo import Policy  # imports PyTorch, which value iteration does not need

STRICTER = 1e-9
MOST = 1e12
"""Upper bound of every number in an observation, so that products of these numbers do not overflow."""
CHOICES = "choices"
"""Key in the file's metadata. Its value is how many numbers the policy computes for one account: one for each
possible order, or one for each possible number of lots in each leg. Memory and time of a run are proportional
to it."""


def _some(array: nd.Array) -> nd.Array:
    """Return whether any element along the last dimension is true, bool [..., 1]."""
    return nd.max(nd.astype(array, nd.int8), axis=-1, keepdims=True) > 0


def _every(array: nd.Array) -> nd.Array:
    """Return whether all elements along the last dimension are true, bool [..., 1]."""
    return nd.min(nd.astype(array, nd.int8), axis=-1, keepdims=True) > 0


def _columns(array: nd.Array, count: int) -> list[nd.Array]:
    """Split [B, N] into N columns, [B, 1] each."""
    return [array[:, i : i + 1] for i in range(count)]


def _numbers(array: Any) -> list[float]:
    return [float(each) for each in array]


class Account(NamedTuple):
    """The parts of observations; invalid accounts get valid values instead. A column is float64 [B, 1]."""

    lots: list[nd.Array]
    """Lots held, a column for each asset"""
    cash: nd.Array
    """In dollars, a column"""
    prices: list[nd.Array]
    """In dollars, a column for each asset"""
    step: nd.Array
    """int64 [B]"""
    signals: nd.Array
    """float64 [B, Z]"""
    valid: nd.Array
    """bool [B, 1]"""


def account(given: nd.Array, mask: nd.Array, rules: Compiled, decisions: int) -> Account:
    """Split observations into accounts, and validate them."""
    n, lot = len(rules.lot), nd.asarray(rules.lot)
    units, cash, prices = given[:, :n], given[:, n : n + 1], given[:, n + 1 : 2 * n + 1]
    step, signals = given[:, 2 * n + 1 : 2 * n + 2], given[:, 2 * n + 2 :]
    lots, whole = nd.floor(units / lot + 0.5), nd.floor(step)
    valid = _every(nd.abs(given) < MOST)  # false for NaN and infinity
    valid = valid & _every(lots * lot == units) & _every(lots >= 0) & (cash >= 0) & _every(prices > 0)
    valid = valid & (whole == step) & (step >= 0) & (step < decisions) & _every(_some(mask)[:, :, 0])
    return Account(
        _columns(nd.where(valid, lots, 0.0), n),
        nd.where(valid, cash, 0.0),
        _columns(nd.where(valid, prices, 1.0), n),
        nd.astype(nd.where(valid, whole, 0.0), nd.int64)[:, 0],
        nd.where(valid, signals, 0.0),
        valid,
    )


class Limits:
    """The trades that the rules allow. Limits of cash, turnover and shares are stricter by `STRICTER`."""

    def __init__(self, rules: Compiled, found: Account):
        self.rules, self.found = rules, found
        self.assets = range(len(rules.lot))
        lot, prices = _numbers(rules.lot), found.prices
        sell_fee, sell_rate = _numbers(rules.sell_fee), _numbers(rules.sell_rate)
        buy_fee, buy_rate = _numbers(rules.buy_fee), _numbers(rules.buy_rate)
        self.values = [lot[i] * prices[i] for i in self.assets]
        """Value of one lot, a column for each asset"""
        self.gains = [lot[i] * (prices[i] - sell_fee[i] - sell_rate[i] * prices[i]) for i in self.assets]
        """Proceeds of selling one lot in dollars, a column for each asset"""
        self.costs = [lot[i] * (prices[i] + buy_fee[i] + buy_rate[i] * prices[i]) for i in self.assets]
        """Cost of buying one lot in dollars, a column for each asset"""
        self.whole = reduce(add, (found.lots[i] * self.values[i] for i in self.assets), found.cash)
        """Total value before the order, a column"""
        self.least_cash = float(rules.cash_after) + STRICTER * self.whole
        """Cash that a purchase must leave, a column"""
        limited = np.isfinite(rules.turnover)
        self.most_traded = float(rules.turnover) * (1 - STRICTER) * self.whole if limited else None
        """Maximum value that an order may trade, a column"""

    def sellable(self, i: int) -> nd.Array:
        """Return whether the asset may be sold, bool [B, 1]."""
        return nd.asarray(np.array(self.rules.sell_allowed[i])) & (self.gains[i] > 0)

    def purchasable(self, i: int) -> nd.Array:
        """Return whether constraints on the state before the order allow buying the asset, bool [B, 1]."""
        rules, found = self.rules, self.found
        allowed = nd.asarray(np.array(rules.buy_allowed[i])) & (found.cash >= float(rules.cash_before))
        for members, share in zip(rules.before, _numbers(rules.before_share), strict=True):
            if members[i]:
                held = reduce(add, (found.lots[j] * self.values[j] for j in np.flatnonzero(members)))
                allowed = allowed & (held <= self.whole * (share * (1 - STRICTER)))
        return allowed

    def within_caps(self, held: list[nd.Array], bought: list[nd.Array], fees: nd.Array) -> list[nd.Array]:
        """Return for each group with a cap whether the order buys none of its assets or keeps the cap.

        :param held: lots of each asset after each of M orders, [B, M]
        :param bought: whether each asset is bought
        :param fees: dollars, [B, M]
        """
        left, found = self.whole - fees, []
        for members, share in zip(self.rules.after, _numbers(self.rules.after_share), strict=True):
            group = np.flatnonzero(members)
            value = reduce(add, (held[j] * self.values[j] for j in group))
            touched = reduce(or_, (bought[j] for j in group))
            found.append(~touched | (value <= left * (share * (1 - STRICTER))))
        return found


def exact_maximum(policy: Maximiser, observation: nd.Array, mask: nd.Array) -> tuple[nd.Array, nd.Array, int]:
    """Return for each account the admissible order with the highest value (`values.Maximiser`).

    :return: actions, validity [B, 1], and M, the number of possible orders
    """
    rules = policy.rules
    found = account(observation, mask, rules, len(policy.values.weights))
    limits, every = Limits(rules, found), every_order(len(rules.lot), rules.largest).astype(np.int64)
    after, fees, traded, good, held, bought = found.cash, nd.asarray(0.0), nd.asarray(0.0), [], [], []
    for i in limits.assets:
        lots, gain, cost, value = every[:, i], limits.gains[i], limits.costs[i], limits.values[i]
        sells, buys = (nd.asarray(np.maximum(sign * lots, 0.0)) for sign in (-1, 1))
        good.append(nd.take(mask[:, i, :], nd.asarray(lots + rules.largest), axis=1))
        good.append(sells <= found.lots[i])
        good.append(nd.asarray(lots >= 0) | limits.sellable(i))
        good.append(nd.asarray(lots <= 0) | limits.purchasable(i))
        after = after + sells * gain - buys * cost  # [B, M]
        fees = fees + sells * (value - gain) + buys * (cost - value)
        traded = traded + (sells + buys) * value
        held.append(found.lots[i] + nd.asarray(lots.astype(np.float64)))
        bought.append(nd.asarray(lots > 0))
    good.append(nd.asarray(~(every > 0).any(1)) | (after >= limits.least_cash))
    if limits.most_traded is not None:
        good.append(traded <= limits.most_traded)
    good += limits.within_caps(held, bought, fees)
    no_trade = nd.asarray((every == 0).all(1)) & _every(mask[:, :, rules.largest])
    admissible = reduce(and_, good) | no_trade
    value = _polynomial(policy, found, held, after, limits.values)
    best = nd.argmax(nd.where(admissible, value, -np.inf), axis=1)
    return nd.take(nd.asarray(every), best, axis=0), found.valid & _some(admissible), len(every)


def _polynomial(
    policy: Maximiser, found: Account, held: list[nd.Array], cash: nd.Array, values: list[nd.Array]
) -> nd.Array:
    """Return the value of every order, [B, M].

    Signals are the same for all orders of an account. They are multiplied into the weights, which leaves a
    polynomial in holdings and cash.

    :param held: lots of each asset after the order, [B, M] each
    :param cash: dollars after the order, [B, M]
    :param values: value of one lot, a column for each asset
    """
    given, own = policy.values, len(held) + 1
    left = monomials(own, given.degree)
    weights = _columns(nd.take(nd.asarray(given.weights), found.step, axis=0), given.weights.shape[1])
    if given.signals:
        signals, sums = _columns(found.signals, given.signals), [nd.asarray(0.0) for _ in left]
        place = {factors: f for f, factors in enumerate(_factors(left))}
        for weight, factors in zip(weights, _factors(policy.terms), strict=True):
            inside, outside = (tuple(v for v in factors if (v < own) == is_own) for is_own in (True, False))
            sums[place[inside]] += reduce(mul, (signals[v - own] for v in outside), weight)
        weights = sums
    units = [each / CASH_UNIT if given.signals else 1 / LOTS_UNIT for each in values]
    x = [*(lots * unit for lots, unit in zip(held, units, strict=True)), cash / CASH_UNIT]
    rows: dict[int, Any] = {0: 1.0}
    value = weights[0]
    # depth first, so that ONNX Runtime frees a monomial soon after its last multiple is computed
    depth_first = sorted(range(1, len(left)), key=_factors(left).__getitem__)
    for f in depth_first:
        parent, variable = int(left[f, 0]), int(left[f, 1])
        rows[f] = rows[parent] * x[variable]
        value = value + weights[f] * rows[f]
    return value


def _factors(terms: Any) -> list[tuple[int, ...]]:
    """Return the variables of each monomial."""
    found: list[tuple[int, ...]] = [()]
    for parent, variable in terms[1:]:
        found.append((*found[int(parent)], int(variable)))
    return found


def masked_legs(policy: Policy, observation: nd.Array, mask: nd.Array) -> tuple[nd.Array, nd.Array, int]:
    """Return each account's order: leg by leg, the most likely admissible choice, as in `ppo.Policy`.

    If the caller's mask requires a trade of an asset, a leg chooses zero lots of the asset only if no other
    choice of the leg is admissible. The leg that sells the asset may also choose zero if the asset can still
    be bought at that point. Later legs can use up the cash, turnover or cap that this purchase needs; in this
    case the account is invalid, although another order may be admissible. If the caller's mask requires no
    trade, every admissible order that it allows can be chosen.

    :return: actions, validity [B, 1], and the number of choices of all legs
    """
    rules, statistics = policy.rules, policy.statistics
    found = account(observation, mask, rules, len(statistics.sum) - 1)
    limits, k = Limits(rules, found), int(rules.largest)
    values, gains, costs = limits.values, limits.gains, limits.costs
    logits = _logits(policy, found)  # [B, 2N (K+1)]
    sales = [nd.flip(mask[:, i, : k + 1], axis=1) for i in limits.assets]
    purchases = [mask[:, i, k:] & limits.purchasable(i) for i in limits.assets]
    needless = [mask[:, i, k : k + 1] for i in limits.assets]
    zero = nd.zeros_like(found.cash)
    money, fees, traded, held, orders = found.cash, zero, zero, [*found.lots], [zero for _ in limits.assets]
    options = nd.asarray(np.arange(k + 1.0))
    some, none = nd.asarray(np.arange(k + 1) > 0), nd.asarray(np.arange(k + 1) == 0)

    def tradable(i: int) -> list[nd.Array]:
        """Return which numbers of lots of asset i the turnover limit still allows, [B, K+1]."""
        if limits.most_traded is None:
            return []
        return [traded + values[i] * options <= limits.most_traded]

    def purchasable(i: int) -> nd.Array:
        """Return which numbers of lots of asset i, except 0, can still be bought, [B, K+1]."""
        after = [options + held[j] if i == j else held[j] for j in limits.assets]
        bought = [some if i == j else orders[j] > 0 for j in limits.assets]
        caps = limits.within_caps(after, bought, fees + options * (costs[i] - values[i]))
        affordable = money - options * costs[i] >= limits.least_cash
        return reduce(and_, [purchases[i], some, orders[i] == 0, *tradable(i), affordable, *caps])

    for leg in range(2 * len(limits.assets)):
        i, sells = leg % len(limits.assets), leg < len(limits.assets)
        needed = ~needless[i] & (orders[i] == 0)
        if sells:
            stock = options <= found.lots[i]
            good = reduce(and_, [sales[i], some, *tradable(i), stock, limits.sellable(i)])
            needed = needed & ~_some(purchasable(i))
        else:
            good = purchasable(i)
        allowed = good | ((~needed | ~_some(good)) & none)
        score = nd.where(allowed, logits[:, leg * (k + 1) : (leg + 1) * (k + 1)], -np.inf)
        lots = nd.astype(nd.argmax(score, axis=1, keepdims=True), nd.float64)
        if sells:
            money, fees = money + lots * gains[i], fees + lots * (values[i] - gains[i])
            orders[i], held[i] = orders[i] - lots, held[i] - lots
        else:
            money, fees = money - lots * costs[i], fees + lots * (costs[i] - values[i])
            orders[i], held[i] = orders[i] + lots, held[i] + lots
        traded = traded + lots * values[i]
    actions = nd.astype(nd.concat(orders, axis=1), nd.int64)
    chosen = (actions + k)[:, :, None] == nd.asarray(np.arange(2 * k + 1))
    valid = found.valid & _every(_some(mask & chosen)[:, :, 0])
    return actions, valid, 2 * len(orders) * (k + 1)


def _logits(policy: Policy, found: Account) -> nd.Array:
    """Return the logits of all legs, float32 [B, 2N (K+1)]: linear layers with `ppo.Tanh` between them."""
    from .ppo import inputs

    lots, prices = nd.concat(found.lots, axis=1), nd.concat(found.prices, axis=1)
    cash, statistics = found.cash[:, 0], policy.statistics
    x = inputs(lots, cash, prices, found.signals, found.step, statistics, policy.rules, policy.start, nd)
    for place, layer in enumerate(each for each in policy.network.policy if hasattr(each, "weight")):
        weight, bias = (each.detach().numpy() for each in (layer.weight, layer.bias))
        x = (nd.tanh(x) if place else x) @ nd.asarray(weight.T.copy()) + nd.asarray(bias)
    return x


def export(policy: Maximiser | Policy, signals: int, path: Path) -> None:
    """Write a policy as an ONNX file.

    :param signals: number of signals per step, Z
    """
    rules = policy.rules
    assets = len(rules.lot)
    observation = nd.argument(shape=("accounts", 2 * assets + 2 + signals), dtype=nd.float64)
    mask = nd.argument(shape=("accounts", assets, 2 * rules.largest + 1), dtype=nd.bool)
    order = exact_maximum if isinstance(policy, Maximiser) else masked_legs
    actions, valid, choices = order(policy, observation, mask)  # pyright: ignore[reportArgumentType]
    outputs = {"actions": nd.where(valid, actions, 0), "valid": valid[:, 0]}
    model = nd.build({"observation": observation, "mask": mask}, outputs)
    onnx.helper.set_model_props(model, {CHOICES: str(choices)})
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
