"""Admissible orders: the masks are compared with a check of every joint order (an order for all assets)."""

from __future__ import annotations

from typing import Any

import numpy as np
from conftest import states

from portfolio_trader import orders, published
from portfolio_trader.rules import Cap, CashFloor, NoTrade, Rules, Turnover
from portfolio_trader.variants import VARIANTS


def by_hand(rules: Rules, order: Any, lots: Any, cash: float, prices: Any) -> bool:
    """Return whether the rules, as their documentation states them, admit one order; in plain Python."""
    whole = cash + sum(int(n) * a.lot * float(p) for n, a, p in zip(lots, rules.assets, prices, strict=True))
    shares = {a.name: int(n) * a.lot * float(p) for n, a, p in zip(lots, rules.assets, prices, strict=True)}
    traded, fees, after = 0.0, 0.0, cash
    held = dict(shares)
    bought = set()
    for a, k, n, p in zip(rules.assets, order, lots, prices, strict=True):
        value = abs(int(k)) * a.lot * float(p)
        if k < 0:
            fee = abs(int(k)) * a.lot * (a.sell_fee + a.sell_rate * float(p))
            if -k > n or not a.lot * (float(p) - a.sell_fee - a.sell_rate * float(p)) > 0:
                return False
            after += value - fee
        elif k > 0:
            fee = int(k) * a.lot * (a.buy_fee + a.buy_rate * float(p))
            after -= value + fee
            bought.add(a.name)
        else:
            continue
        held[a.name] += value if k > 0 else -value
        traded, fees = traded + value, fees + fee
    if bought and after < 0:
        return False
    for each in rules.constraints:
        good = True
        match each:
            case Turnover():
                good = traded <= each.share * whole
            case NoTrade():
                sold = {a.name for a, k in zip(rules.assets, order, strict=True) if k < 0}
                banned = set(each.assets)
                good = not (
                    ("buy" in each.sides and bought & banned) or ("sell" in each.sides and sold & banned)
                )
            case CashFloor():
                before = each.checked == "after" or cash >= each.dollars
                good = not bought or (before and (each.checked == "before" or after >= each.dollars))
            case Cap():
                members = set(each.assets)
                then = sum(shares[name] for name in members) <= each.share * whole
                now = sum(held[name] for name in members) <= each.share * (whole - fees)
                good = not bought & members or (
                    (then or each.checked == "after") and (now or each.checked == "before")
                )
            case _:
                raise AssertionError(f"by_hand must have a case for {type(each).__name__}")
        if not good:
            return False
    return True


def test_mask_has_exactly_the_admissible_joint_orders(rules: Rules) -> None:
    # given random accounts
    compiled, every = rules.compiled(), orders.every_order(len(rules.assets), rules.largest_order)
    lots, cash, prices = states(rules, 24)
    masks = np.empty((len(lots), len(every)), np.bool_)

    # when
    orders.joint_masks(lots, cash, prices, compiled, masks)

    # then the mask allows an order if and only if the rules admit it
    for e in range(len(lots)):
        for m, order in enumerate(every):
            expected = by_hand(rules, order, lots[e], cash[e], prices[e])
            assert masks[e, m] == expected, (lots[e], cash[e], prices[e], order)
            assert orders.trade(order, lots[e], cash[e], prices[e], compiled)[0] == expected
    assert 0.02 < masks.mean() < 0.98  # many orders are admissible, and many are not


def test_order_without_a_trade_is_never_refused(rules: Rules) -> None:
    compiled = rules.compiled()
    lots, cash, prices = states(rules, 200, seed=1)
    nothing = np.zeros(len(rules.assets), np.int8)
    assert all(orders.trade(nothing, *each, compiled)[0] for each in zip(lots, cash, prices, strict=True))


def test_sequential_masks_reach_exactly_the_admissible_orders(rules: Rules) -> None:
    # given
    compiled, assets = rules.compiled(), len(rules.assets)
    options = rules.largest_order + 1
    for seed in range(6):
        lots, cash, prices = states(rules, 1, seed=seed)
        every = orders.every_order(assets, rules.largest_order)
        masks = np.empty((1, len(every)), np.bool_)
        orders.joint_masks(lots, cash, prices, compiled, masks)
        admissible = {tuple(order) for order in every[masks[0]].tolist()}

        # when each admissible order is built from its sales and purchases, one after the other, and 2,000
        # random orders are drawn
        wanted = np.array(sorted(admissible), np.int8)
        count = len(wanted)
        scores = np.zeros((count, 2 * assets, options), np.float32)
        for leg in range(2 * assets):
            k = np.maximum(-wanted[:, leg % assets] if leg < assets else wanted[:, leg % assets], 0)
            scores[np.arange(count), leg, k] = 50
        asked = chosen(compiled, scores, np.empty((count, 0)), lots, cash, prices)
        noise = np.random.default_rng(seed).random((2000, 2 * assets))
        drawn = chosen(compiled, np.zeros((2000, 2 * assets, options), np.float32), noise, lots, cash, prices)

        # then all admissible orders were built, and every drawn order is admissible
        assert np.array_equal(asked, wanted)
        assert {tuple(order) for order in drawn.tolist()} <= admissible


def chosen(compiled: Any, scores: Any, noise: Any, lots: Any, cash: Any, prices: Any) -> Any:
    count, legs = scores.shape[:2]
    actions = np.empty((count, legs // 2), np.int8)
    orders.choose(
        scores,
        noise,
        np.repeat(lots, count, axis=0),
        np.repeat(cash, count),
        np.repeat(prices, count, axis=0),
        compiled,
        actions,
        np.empty((count, legs), np.int64),
        np.empty(scores.shape, np.bool_),
        np.empty(count),
    )
    return actions


def test_likelihood_of_a_drawn_order_is_the_masked_softmax() -> None:
    # given one account and random logits
    rules = VARIANTS["strict"].rules
    lots, cash = np.array([[3, 2, 1]], np.int32), np.array([800.0])
    prices = np.array([[40, 35, 48]], np.float32)
    generator = np.random.default_rng(0)
    scores = np.repeat(generator.normal(size=(1, 6, 6)).astype(np.float32), 40_000, axis=0)
    count = len(scores)
    actions, legs = np.empty((count, 3), np.int8), np.empty((count, 6), np.int64)
    masks, likelihood = np.empty(scores.shape, np.bool_), np.empty(count)

    # when many orders are drawn
    orders.choose(
        scores,
        generator.random((count, 6)),
        np.repeat(lots, count, axis=0),
        np.repeat(cash, count),
        np.repeat(prices, count, axis=0),
        rules.compiled(),
        actions,
        legs,
        masks,
        likelihood,
    )

    # then the frequency of each order matches its likelihood
    masked = np.where(masks, scores, -np.inf)
    log_p = masked - np.log(np.exp(masked).sum(-1, keepdims=True))
    taken = np.take_along_axis(log_p, legs[:, :, None], -1)[:, :, 0].sum(-1)
    assert np.allclose(taken, likelihood, atol=1e-5)
    found, first, times = np.unique(actions, axis=0, return_index=True, return_counts=True)
    expected = np.exp(likelihood[first]) * count
    common = expected > 50
    assert common.sum() > 5
    assert np.all(np.abs(times - expected)[common] < 5 * np.sqrt(expected[common]))
    assert len(found) > 20


def test_refused_order_changes_nothing() -> None:
    rules = VARIANTS["corrected"].rules.compiled()
    lots, cash = np.array([[0, 1, 0]], np.int32), np.array([100.0])
    prices = np.array([[40, 35, 48]], np.float32)
    fees, traded, refused = np.zeros(1), np.zeros(1), np.zeros(1, np.bool_)

    orders.settle(np.array([[0, -2, 0]], np.int8), lots, cash, prices, rules, fees, traded, refused)

    assert refused.all()
    assert (lots.tolist(), cash.tolist(), fees.tolist(), traded.tolist()) == ([[0, 1, 0]], [100], [0], [0])


def test_sales_of_one_order_pay_for_its_purchases() -> None:
    # given 1 dollar in cash, too little for a purchase, and ten units of the third asset
    rules = VARIANTS["corrected"].rules.compiled()
    lots, cash = np.array([0, 0, 1], np.int32), 1.0
    prices = np.array([40, 35, 48], np.float32)

    # when one order sells these units and buys ten units of the first asset
    good, after, fees, traded = orders.trade(np.array([1, 0, -1], np.int8), lots, cash, prices, rules)

    # then the order pays the selling fee and the buying fee
    assert good
    assert after == 1 + 10 * (48 - 0.03) - 10 * (40 + 0.03)
    assert abs(fees - 10 * (0.03 + 0.03)) < 1e-9
    assert traded == 880


def test_published_kernel_keeps_the_faults_of_the_sample() -> None:
    # given three accounts with too little cash for their orders
    lots = np.array([[0, 0, 2], [0, 0, 1], [1, 1, 0]], np.int32)
    cash = np.array([0.5, 500.0, 0.2], np.float32)
    seen = np.zeros((3, 7), np.float32)
    seen[:, 4:] = (40, 35, 48)
    masks = np.empty((3, 33), np.uint8)
    actions = np.array([[0, 0, -2], [1, 5, 0], [-1, 0, 0]], np.int8)
    normals, deviations = np.zeros((3, 3), np.float32), np.array([4, 2, 7], np.float32)
    means = np.array([44, 35, 48], np.float32)

    published.step(actions + published.K, lots, cash, seen, masks, means, deviations, normals)

    # then a sale whose fee (0.60) exceeds the cash (0.50) is cut to one lot; a purchase is cut to the lots
    # that are affordable with the buying fee, but pays the selling fee; and a sale whose fee (0.25) exceeds
    # the cash (0.20) is not executed
    assert lots.tolist() == [[0, 0, 1], [1, 0, 1], [1, 1, 0]]
    assert np.allclose(cash, [0.5 + 10 * (48 - 0.03), 500 - 10 * (40 + 0.025), 0.2], atol=1e-3)
    # and with 0.20 dollars in cash, the mask allows purchases of the second asset, but not of the first
    assert masks[2, 6:11].tolist() == [0] * 5
    assert masks[2, 17:22].tolist() == [1] * 5


def test_both_published_kernels_agree() -> None:
    # given accounts, and orders that the mask of the AWS sample allows
    variant = VARIANTS["published"]
    rules = variant.rules.compiled(faithful=True)
    lots, cash, prices = states(variant.rules, 400, seed=2)
    prices = np.maximum(prices, 20)
    joint = np.empty((400, 1331), np.bool_)
    orders.joint_masks(lots, cash, prices, rules, joint)
    every = orders.every_order(3, 5)
    generator = np.random.default_rng(0)
    actions = np.array([every[generator.choice(np.flatnonzero(row))] for row in joint], np.int8)

    # when `published.step` and `orders.settle` execute the orders
    fast_lots, fast_cash = lots.copy(), cash.astype(np.float32)
    seen = np.concatenate([10 * lots, cash[:, None], prices], axis=1, dtype=np.float32)
    masks = np.empty((400, 33), np.uint8)
    normals = np.zeros((400, 3), np.float32)
    now = seen[:, 4:].copy()
    published.step(
        actions + published.K,
        fast_lots,
        fast_cash,
        seen,
        masks,
        np.full(3, 40, np.float32),
        normals[0],
        normals,
    )
    unused = np.zeros(400)
    orders.settle(actions, lots, cash, now, rules, unused, unused.copy(), np.zeros(400, np.bool_))

    # then the resulting accounts, and the masks of the next state, are the same except for rounding
    assert np.array_equal(fast_lots, lots)
    assert np.allclose(fast_cash, cash, atol=0.01)
    orders.joint_masks(lots, cash, np.full((400, 3), 40, np.float32), rules, joint)
    legs = masks.reshape(400, 3, 11).astype(bool)
    expected = legs[:, 0, :, None, None] & legs[:, 1, None, :, None] & legs[:, 2, None, None, :]
    assert np.array_equal(joint.reshape(400, 11, 11, 11), expected)


def test_distinct_orders_reach_every_account_of_the_published_variant() -> None:
    # given random accounts, and the mask of the AWS sample
    rules = VARIANTS["published"].rules.compiled(faithful=True)
    lots, cash, prices = states(VARIANTS["published"].rules, 60)
    cash = np.maximum(cash, 1.0)

    def reached(e: int, distinct: bool) -> list[Any]:
        found = np.empty((1331, 3), np.int8), np.empty((1331, 3), np.int32), np.empty(1331)
        count = orders.admissible(lots[e], cash[e], prices[e], rules, *found, distinct)
        return [(*after, round(money, 6)) for after, money in zip(found[1][:count], found[2], strict=False)]

    for e in range(60):
        # when orders that would be executed only in part are left out
        few, every = reached(e, True), reached(e, False)

        # then the remaining orders lead to the same accounts, each account by exactly one order
        assert set(few) == set(every)
        assert len(few) == len(set(few))
