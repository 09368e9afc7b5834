"""Orders in compiled code: costs, admissible orders, and masks.

Arrays: E accounts, N assets, K = `largest` lots. Lots are int32 [E, N], cash is float64 [E] dollars, prices
are float32 [E, N] dollars per unit. An order is int8 [N], from -K (sell) to K (buy). All functions compute
money in double precision and in the same order of operations, so that their results never disagree.

Two masks describe the same set of orders:

- joint: one flag for each of the (2K+1)^N orders that `every_order` lists; only for few assets.
- sequential: 2N legs, first a sale for each asset, then a purchase for each; each leg has 0 to K lots.
  The mask of a leg depends on the legs before it. The sequential mask works for any number of assets.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from numba import njit

from toolkit.failure import FatalError

from . import published
from .rules import Compiled

MOST_JOINT_ORDERS = 200_000
"""Maximum number of joint orders. With eleven choices per asset, four assets have 14,641 joint orders, five
have 161,051, and more assets need the sequential mask."""


def every_order(assets: int, largest: int) -> np.ndarray[Any, np.dtype[np.int8]]:
    """Return all orders as int8 [(2K+1)^N, N]. In base 2K+1, the digits of an order's index are
    `lots + K` for each asset.

    Raises `FatalError` if there are more than `MOST_JOINT_ORDERS`.
    """
    count = (2 * largest + 1) ** assets
    if count > MOST_JOINT_ORDERS:
        raise FatalError(
            f"there must be at most {MOST_JOINT_ORDERS} joint orders, got {count} from {assets} assets with"
            f" largest_order {largest}: use fewer assets or a smaller largest_order"
        )
    return np.array(list(product(range(-largest, largest + 1), repeat=assets)), np.int8)


@njit(cache=True, nogil=True)
def total(lots, cash, prices, rules: Compiled) -> float:
    """Return the value of one account in dollars."""
    value = cash
    for i in range(len(lots)):
        value += lots[i] * rules.lot[i] * float(prices[i])
    return value


@njit(cache=True, nogil=True)
def share_exceeded(members, limit, lots, prices, whole, rules: Compiled) -> bool:
    """Return whether the share of a group of assets in the total `whole` exceeds its cap `limit`."""
    value = 0.0
    for i in range(len(lots)):
        if members[i]:
            value += lots[i] * rules.lot[i] * float(prices[i])
    return value > limit * whole


@njit(cache=True, nogil=True)
def purchasable(lots, cash, prices, whole, rules: Compiled, allowed) -> None:
    """Write into `allowed` [N] which assets may be bought, given the constraints before the order."""
    if rules.faithful:
        published.purchasable(lots, cash, prices, allowed)
        return
    for i in range(len(lots)):
        allowed[i] = rules.buy_allowed[i] and cash >= rules.cash_before
    for g in range(len(rules.before)):
        if share_exceeded(rules.before[g], rules.before_share[g], lots, prices, whole, rules):
            for i in range(len(lots)):
                if rules.before[g, i]:
                    allowed[i] = False


@njit(cache=True, nogil=True)
def proceeds(i, price, rules: Compiled) -> float:
    """Return the proceeds of selling one lot, in dollars."""
    return rules.lot[i] * (price - rules.sell_fee[i] - rules.sell_rate[i] * price)


@njit(cache=True, nogil=True)
def cost(i, price, rules: Compiled) -> float:
    """Return the cost of buying one lot, in dollars."""
    return rules.lot[i] * (price + rules.buy_fee[i] + rules.buy_rate[i] * price)


@njit(cache=True, nogil=True)
def trade(order, lots, cash, prices, rules: Compiled):
    """Return whether an account may give an order, the cash after the order, its fees, and the value traded.

    Cash, fees and value are in dollars.
    """
    assets = len(lots)
    whole = total(lots, cash, prices, rules)
    allowed = np.empty(assets, np.bool_)
    purchasable(lots, cash, prices, whole, rules, allowed)
    after, traded, fees, bought = cash, 0.0, 0.0, False
    held = np.empty(assets, np.int32)
    for i in range(assets):
        price, k = float(prices[i]), -order[i]
        held[i] = lots[i]
        if k <= 0:
            continue
        one = proceeds(i, price, rules)
        if k > lots[i] or k > rules.largest or not rules.sell_allowed[i] or not one > 0:
            return False, cash, 0.0, 0.0
        held[i] -= k
        after += k * one
        fees += k * (rules.lot[i] * price - one)
        traded += k * (rules.lot[i] * price)
    for i in range(assets):
        price, k = float(prices[i]), order[i]
        if k <= 0:
            continue
        one = cost(i, price, rules)
        if k > rules.largest or not allowed[i] or not one > 0:
            return False, cash, 0.0, 0.0
        held[i] += k
        after -= k * one
        fees += k * (one - rules.lot[i] * price)
        traded += k * (rules.lot[i] * price)
        bought = True
    if traded > rules.turnover * whole or (bought and after < rules.cash_after):
        return False, cash, 0.0, 0.0
    for h in range(len(rules.after)):
        touched = False
        for i in range(assets):
            touched = touched or (rules.after[h, i] and order[i] > 0)
        if touched and share_exceeded(
            rules.after[h], rules.after_share[h], held, prices, whole - fees, rules
        ):
            return False, cash, 0.0, 0.0
    return True, after, fees, traded


@njit(cache=True, nogil=True)
def sale_mask(i, lots, prices, whole, traded, rules: Compiled, mask) -> None:
    """Write into `mask` [K+1] which numbers of lots of asset i may be sold, after sales worth `traded`."""
    price = float(prices[i])
    possible = rules.faithful or (rules.sell_allowed[i] and proceeds(i, price, rules) > 0)
    mask[0] = True
    for k in range(1, rules.largest + 1):
        mask[k] = possible and k <= lots[i] and traded + k * (rules.lot[i] * price) <= rules.turnover * whole


@njit(cache=True, nogil=True)
def purchase_mask(i, order, held, cash, fees, traded, prices, whole, allowed, rules: Compiled, mask) -> None:
    """Write into `mask` [K+1] which numbers of lots of asset i may be bought, after the legs in `order` [N].

    `held` are the lots, `cash` and `fees` the dollars after these legs; `allowed` comes from `purchasable`.
    """
    price = float(prices[i])
    one = cost(i, price, rules)
    fee = one - rules.lot[i] * price
    mask[0] = True
    possible = allowed[i] and order[i] == 0 and one > 0
    for k in range(1, rules.largest + 1):
        mask[k] = False
        if not possible:
            continue
        if rules.faithful:
            mask[k] = True
            continue
        if cash - k * one < rules.cash_after or traded + k * (rules.lot[i] * price) > rules.turnover * whole:
            possible = False  # more than k lots are not possible either
            continue
        held[i] += k
        good = True
        for h in range(len(rules.after)):
            touched = rules.after[h, i]
            for j in range(len(order)):
                touched = touched or (rules.after[h, j] and order[j] > 0)
            if touched and share_exceeded(
                rules.after[h], rules.after_share[h], held, prices, whole - (fees + k * fee), rules
            ):
                good = False
        held[i] -= k
        mask[k] = possible = good


@njit(cache=True, nogil=True)
def _executed(order, lots, cash, prices, lots_after, cash_after, row) -> bool:
    """Write lots and cash after an order by the AWS sample's rules; return whether the order was reduced."""
    cut = False
    wanted = lots_after.copy()
    for j in range(len(lots)):
        lots_after[j] = lots[j]
    cash_after[row] = published.execute(order, lots_after, cash, prices)
    for j in range(len(lots)):
        cut = cut or lots_after[j] != wanted[j]
    return cut


@njit(cache=True, nogil=True)
def admissible(lots, cash, prices, rules: Compiled, orders, lots_after, cash_after, distinct=False) -> int:
    """Write all admissible orders of one account, and the account's lots and cash after each order.

    The tree of legs is searched depth first, and not further after an inadmissible leg. Returns the number of
    orders.

    :param orders: int8 [M, N], written; M is at least the number of admissible orders
    :param lots_after: int32 [M, N], written
    :param cash_after: float64 [M], written
    :param distinct: whether to omit orders that the AWS sample would reduce to a smaller order
    """
    # local copies of the rules' arrays: passing all rules to a function takes longer than its computation
    assets, legs = len(lots), 2 * len(lots)
    largest, faithful, floor, lot_size = rules.largest, rules.faithful, rules.cash_after, rules.lot
    after, share = rules.after, rules.after_share
    whole = total(lots, cash, prices, rules)
    limit = rules.turnover * whole
    allowed, held = np.empty(assets, np.bool_), lots.copy()
    purchasable(lots, cash, prices, whole, rules, allowed)
    value, sale, purchase = np.empty(assets), np.empty(assets), np.empty(assets)
    sellable = np.zeros(assets, np.int32)
    for i in range(assets):
        price = float(prices[i])
        value[i], sale[i], purchase[i] = lot_size[i] * price, proceeds(i, price, rules), cost(i, price, rules)
        if faithful or (rules.sell_allowed[i] and sale[i] > 0):
            sellable[i] = min(lots[i], largest)
        allowed[i] = allowed[i] and purchase[i] > 0
    order = np.zeros(assets, np.int8)
    lot, most = np.full(legs, -1), np.zeros(legs, np.int32)
    money, fees, traded = np.full(legs + 1, cash), np.zeros(legs + 1), np.zeros(legs + 1)
    leg, count = 0, 0
    while leg >= 0:
        i, sells = leg % assets, leg < assets
        if lot[leg] >= 0:
            if lot[leg] > 0:  # undo the choice
                held[i] += lot[leg] if sells else -lot[leg]
                order[i] = 0
        elif sells:
            k = 0
            while k < sellable[i] and traded[leg] + (k + 1) * value[i] <= limit:
                k += 1
            most[leg] = k
        else:
            k, fee = 0, purchase[i] - value[i]
            possible = allowed[i] and order[i] == 0
            while possible and k < largest:
                more = k + 1
                left = money[leg] - more * purchase[i]
                if faithful:
                    # $5 of slack, because the AWS sample charges the lower selling fee for purchases
                    possible = not distinct or left >= -5
                else:
                    possible = left >= floor and traded[leg] + more * value[i] <= limit
                    for h in range(len(after)):
                        if not possible:
                            break
                        touched, worth = after[h, i], 0.0
                        for j in range(assets):
                            if after[h, j]:
                                touched = touched or order[j] > 0
                                lots_then = held[j] + more if j == i else held[j]
                                worth += lots_then * lot_size[j] * float(prices[j])
                        possible = not touched or worth <= share[h] * (whole - (fees[leg] + more * fee))
                if possible:
                    k = more
            most[leg] = k
        if leg + 1 == legs:  # each choice of the last leg completes an order
            for k in range(most[leg] + 1):
                for j in range(assets):
                    orders[count, j], lots_after[count, j] = order[j], held[j]
                if k:
                    orders[count, i], lots_after[count, i] = k, held[i] + k
                if faithful:
                    cut = _executed(orders[count], lots, cash, prices, lots_after[count], cash_after, count)
                    if cut and distinct:
                        continue
                else:
                    cash_after[count] = money[leg] - k * purchase[i]
                count += 1
            leg -= 1
            continue
        k = lot[leg] + 1
        if k > most[leg]:
            lot[leg] = -1
            leg -= 1
            continue
        lot[leg] = k
        one = sale[i] if sells else purchase[i]
        if k:
            held[i] += -k if sells else k
            order[i] = -k if sells else k
        money[leg + 1] = money[leg] + k * one if sells else money[leg] - k * one
        fees[leg + 1] = fees[leg] + (k * (value[i] - one) if sells else k * (one - value[i]))
        traded[leg + 1] = traded[leg] + k * value[i]
        leg += 1
    return count


@njit(cache=True, nogil=True)
def joint_masks(lots, cash, prices, rules: Compiled, masks) -> None:
    """Write into `masks` [E, (2K+1)^N] which orders each account may give, in the order of `every_order`."""
    size = masks.shape[1]
    orders = np.empty((size, lots.shape[1]), np.int8)
    lots_after, cash_after = np.empty(orders.shape, np.int32), np.empty(size)
    for e in range(len(lots)):
        masks[e] = False
        count = admissible(lots[e], cash[e], prices[e], rules, orders, lots_after, cash_after)
        for m in range(count):
            index = 0
            for i in range(lots.shape[1]):
                index = index * (2 * rules.largest + 1) + orders[m, i] + rules.largest
            masks[e, index] = True


@njit(cache=True, nogil=True)
def settle(actions, lots, cash, prices, rules: Compiled, fees, traded, refused) -> None:
    """Execute `actions` [E, N] on all accounts, in place. An inadmissible order is not executed.

    Adds to `fees` [E] and `traded` [E] in dollars, and writes into `refused` [E] which orders were not
    executed. With the AWS sample's rules, the possible part of any order is executed, and fees and
    traded value are not counted.
    """
    for e in range(len(lots)):
        if rules.faithful:
            cash[e] = published.execute(actions[e], lots[e], cash[e], prices[e])
            refused[e] = False
            continue
        good, after, paid, value = trade(actions[e], lots[e], cash[e], prices[e], rules)
        refused[e] = not good
        if good:
            for i in range(lots.shape[1]):
                lots[e, i] += actions[e, i]
            cash[e] = after
            fees[e] += paid
            traded[e] += value


@njit(cache=True, nogil=True)
def choose(
    scores, noise, lots, cash, prices, rules: Compiled, actions, chosen, masks, log_likelihood
) -> None:
    """Choose an order for each account, one leg after the other, and write the masks of the legs.

    :param scores: [E, 2N, K+1] logits; legs 0 to N-1 sell, legs N to 2N-1 buy
    :param noise: [E, 2N] random numbers from 0 to 1, or [E, 0] for the most likely choices
    :param actions: [E, N] the orders, written
    :param chosen: [E, 2N] the lots of each leg, written
    :param masks: [E, 2N, K+1] admissible choices of each leg, written
    :param log_likelihood: [E] log-likelihood of the order under the masked logits, written
    """
    assets, options = lots.shape[1], rules.largest + 1
    allowed, held = np.empty(assets, np.bool_), np.empty(assets, np.int32)
    for e in range(len(lots)):
        price = prices[e]
        whole = total(lots[e], cash[e], price, rules)
        purchasable(lots[e], cash[e], price, whole, rules, allowed)
        money, fees, traded, likelihood = cash[e], 0.0, 0.0, 0.0
        for i in range(assets):
            actions[e, i] = 0
            held[i] = lots[e, i]
        for leg in range(2 * assets):
            i, sells = leg % assets, leg < assets
            mask, score = masks[e, leg], scores[e, leg]
            if sells:
                sale_mask(i, lots[e], price, whole, traded, rules, mask)
            else:
                purchase_mask(i, actions[e], held, money, fees, traded, price, whole, allowed, rules, mask)
            best, k = score[0], 0
            for o in range(1, options):
                if mask[o] and score[o] > best:
                    best, k = score[o], o
            weight = 0.0
            for o in range(options):
                if mask[o]:
                    weight += np.exp(score[o] - best)
            if noise.shape[1]:
                rest = noise[e, leg] * weight
                for o in range(options):
                    if mask[o]:
                        k = o
                        rest -= np.exp(score[o] - best)
                        if rest < 0:
                            break
            likelihood += score[k] - best - np.log(weight)
            chosen[e, leg] = k
            if k:
                value = rules.lot[i] * float(price[i])
                traded += k * value
                if sells:
                    one = proceeds(i, float(price[i]), rules)
                    actions[e, i], held[i] = -k, held[i] - k
                    money, fees = money + k * one, fees + k * (value - one)
                else:
                    one = cost(i, float(price[i]), rules)
                    actions[e, i], held[i] = k, held[i] + k
                    money, fees = money - k * one, fees + k * (one - value)
        log_likelihood[e] = likelihood
