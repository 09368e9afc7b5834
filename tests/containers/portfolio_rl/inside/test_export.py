"""The exported policy: the same orders as the original policy, and no trade for refused accounts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import PROBLEMS, states
from onnx import TensorProto, helper

from portfolio_trader import ppo, values
from portfolio_trader.export import export
from portfolio_trader.exported import CARD, POLICY, Exported
from portfolio_trader.market import Curves
from portfolio_trader.orders import every_order, joint_masks, trade
from portfolio_trader.rules import Rules, parse
from toolkit.failure import FatalError

EXPORTED = ["strict", "every kind of constraint", "one asset", "limits that single precision rounds"]


@pytest.fixture(scope="module", params=EXPORTED)
def rules(request: pytest.FixtureRequest) -> Rules:
    return PROBLEMS[request.param]


def market(rules: Rules) -> Curves:
    assets = len(rules.assets)
    means = np.random.default_rng(0).uniform(20, 40, (20, assets))
    return Curves(means, np.full(assets, 5.0))


def network(rules: Rules) -> ppo.Policy:
    """Return a policy network with random logits, so that it chooses all kinds of orders."""
    torch.manual_seed(0)
    learner = ppo.Learner(rules, market(rules), ppo.Hyperparameters())
    learner.statistics.add(learner.market.draw(np.random.default_rng(0), 500).prices)
    torch.nn.init.normal_(learner.network.policy[-1].weight, std=1.0)  # pyright: ignore[reportArgumentType]
    return learner.policy()


def maximiser(rules: Rules) -> values.Maximiser:
    """Return a policy that maximizes random cubic value functions."""
    assets = len(rules.assets)
    weights = np.random.default_rng(1).normal(size=(19, len(values.monomials(assets + 1, 3))))
    return values.Maximiser(values.Values(weights, 3), rules.compiled())


@pytest.fixture(scope="module", params=["network", "maximiser"])
def policy(request: pytest.FixtureRequest, rules: Rules) -> Any:
    return network(rules) if request.param == "network" else maximiser(rules)


@pytest.fixture(scope="module")
def session(policy: Any, tmp_path_factory: pytest.TempPathFactory) -> onnxruntime.InferenceSession:
    path = tmp_path_factory.mktemp("policy") / "policy.onnx"
    export(policy, 0, path)
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def observed(rules: Rules, count: int, seed: int = 0) -> tuple[Any, ...]:
    """Return random accounts and their observations."""
    lots, cash, prices = states(rules, count, seed)
    steps = np.random.default_rng(seed).integers(0, 19, count)
    return observation_of(rules, lots, cash, prices, steps), lots, cash, prices, steps


def observation_of(rules: Rules, lots: Any, cash: Any, prices: Any, steps: Any) -> Any:
    lot = np.array([asset.lot for asset in rules.assets])
    return np.concatenate([lots * lot, cash[:, None], prices, steps[:, None]], axis=1, dtype=np.float64)


def at_limits(rules: Rules, count: int) -> tuple[Any, Any, Any]:
    """Return lots, cash and prices of accounts for which at least one order is just within or just beyond a
    limit."""
    c, generator = rules.compiled(), np.random.default_rng(7)
    lots, _, prices = states(rules, count, seed=7)
    prices = prices * 10 ** generator.uniform(0, 4, (count, 1))
    wanted = generator.integers(0, rules.largest_order + 1, lots.shape)
    held, bought = (lots * c.lot * prices).sum(1), (wanted * c.lot * prices).sum(1)
    cost = (wanted * c.lot * (prices + c.buy_fee + c.buy_rate * prices)).sum(1)
    cash = [cost + c.cash_after, np.full(count, max(c.cash_before, 0))]
    if np.isfinite(c.turnover):
        cash.append(bought / c.turnover - held)
    for members, share in zip(c.after, c.after_share, strict=True):
        cash.append(((lots + wanted) * c.lot * prices * members).sum(1) / share - held)
    chosen = np.array(cash)[generator.integers(len(cash), size=count), np.arange(count)]
    chosen = np.nextafter(chosen, np.where(generator.random(count) < 0.5, -np.inf, np.inf))
    return lots, np.maximum(chosen, 0), prices


def full(rules: Rules, count: int) -> Any:
    return np.ones((count, len(rules.assets), 2 * rules.largest_order + 1), np.bool_)


def test_file_gives_the_policys_orders(rules: Rules, policy: Any, session: Any) -> None:
    observation, lots, cash, prices, steps = observed(rules, 300)
    actions, valid = session.run(None, {"observation": observation, "mask": full(rules, 300)})
    assert valid.all()
    expected = np.empty((300, len(rules.assets)), np.int8)
    for step in np.unique(steps):
        at = steps == step
        empty = np.empty((at.sum(), 0), np.float32)
        expected[at] = policy(step, lots[at], cash[at], np.ascontiguousarray(prices[at]), empty)
    # the file and the policy may choose different orders in two cases: two orders are equally good except for
    # rounding to single precision, or an order is at the turnover limit, where the file is stricter
    compiled = rules.compiled()
    stricter = compiled._replace(turnover=compiled.turnover * (1 - 2e-9))
    inside = [e for e in range(300) if trade(expected[e], lots[e], cash[e], prices[e], stricter)[0]]
    assert len(inside) > 290
    assert (actions[inside] == expected[inside]).all(1).mean() > 0.99


def test_file_of_a_price_historys_policy_gives_its_orders(tmp_path: Path) -> None:
    # given a policy with random cubic value functions of holdings, cash and four signals
    rules, assets, count = parse({"assets": [{"name": "A"}, {"name": "B"}], "largest_order": 4}), 2, 300
    generator = np.random.default_rng(1)
    weights = generator.normal(size=(19, len(values.monomials(assets + 1 + 2 * assets, 3))))
    policy = values.Maximiser(values.Values(weights, 3, 2 * assets), rules.compiled())
    export(policy, 2 * assets, tmp_path / "policy.onnx")
    file = onnxruntime.InferenceSession(tmp_path / "policy.onnx", providers=["CPUExecutionProvider"])

    # when
    observation, lots, cash, prices, steps = observed(rules, count)
    signals = generator.normal(size=(count, 2 * assets)).astype(np.float32)
    given = {"observation": np.hstack([observation, signals]), "mask": full(rules, count)}
    actions = file.run(["actions"], given)[0]

    # then
    for step in np.unique(steps):
        at = steps == step
        expected = policy(step, lots[at], cash[at], np.ascontiguousarray(prices[at]), signals[at])
        assert (actions[at] == expected).all()


def test_file_gives_admissible_orders_for_any_mask(rules: Rules, session: Any) -> None:
    compiled, generator = rules.compiled(), np.random.default_rng(0)
    observation, lots, cash, prices, _ = observed(rules, 500, seed=3)
    for mask in (full(rules, 500), generator.random(full(rules, 500).shape) < 0.5):
        actions, valid = session.run(None, {"observation": observation, "mask": mask})
        for e in range(500):
            order = actions[e].astype(np.int8)
            assert trade(order, lots[e], cash[e], prices[e], compiled)[0], (
                lots[e],
                cash[e],
                prices[e],
                order,
            )
            if valid[e]:
                assert mask[e, np.arange(len(order)), order + rules.largest_order].all()
            else:
                assert not order.any()
        assert valid.mean() > 0.2


def test_file_gives_admissible_orders_at_every_limit(rules: Rules, session: Any) -> None:
    # given accounts for which some orders are just within or just beyond a limit
    compiled, count = rules.compiled(), 3000
    lots, cash, prices = at_limits(rules, count)
    steps = np.random.default_rng(0).integers(0, 19, count)
    observation = observation_of(rules, lots, cash, prices, steps)
    # when orders are requested for 100 accounts at a time, to limit memory
    parts = [slice(at, at + 100) for at in range(0, count, 100)]
    mask = full(rules, 100)
    found = [session.run(["actions"], {"observation": observation[at], "mask": mask})[0] for at in parts]
    orders = np.concatenate(found).astype(np.int8)
    # then each order is admissible for the account's exact numbers, and more than a fifth of the orders
    # contain a trade
    wrong = [e for e in range(count) if not trade(orders[e], lots[e], cash[e], prices[e], compiled)[0]]
    assert wrong == []
    assert orders.any(1).mean() > 0.2


def test_account_is_refused_when_its_mask_allows_no_admissible_order(
    rules: Rules, policy: Any, session: Any
) -> None:
    # given masks that forbid a random half of the choices, which may include the choice not to trade
    assets, k, count = len(rules.assets), rules.largest_order, 500
    observation, lots, cash, prices, _ = observed(rules, count, seed=5)
    mask = np.random.default_rng(5).random(full(rules, count).shape) < 0.5
    every = every_order(assets, k)
    possible = np.empty((count, len(every)), np.bool_)
    joint_masks(lots, cash, prices, rules.compiled(), possible)
    possible &= mask[:, np.arange(assets), every + k].all(2)
    # when
    _, valid = session.run(None, {"observation": observation, "mask": mask})
    # then an account gets an order if its mask allows an admissible one; only a network for several assets
    # may miss a few
    missed = (~valid & possible.any(1)).mean()
    assert missed == 0 if assets == 1 or isinstance(policy, values.Maximiser) else missed < 0.05
    assert not (valid & ~possible.any(1)).any()
    assert 0.1 < valid.mean() < 1


@pytest.mark.parametrize(
    "spoil",
    [
        "nan",
        "infinity",
        "empty mask",
        "half a lot",
        "nearly a lot",
        "negative lots",
        "no price",
        "negative cash",
        "last step",
    ],
)
def test_invalid_account_gets_no_trade(rules: Rules, session: Any, spoil: str) -> None:
    # given valid accounts, the first of which is made invalid
    assets = len(rules.assets)
    observation, *_ = observed(rules, 50)
    mask = full(rules, 50)
    match spoil:
        case "nan":
            observation[0, assets] = np.nan
        case "infinity":
            observation[0, assets + 1] = np.inf
        case "empty mask":
            mask[0, assets - 1] = False
        case "half a lot":
            observation[0, 0] = rules.assets[0].lot / 2
        case "nearly a lot":
            observation[0, 0] = np.nextafter(rules.assets[0].lot, 0)
        case "negative lots":
            observation[0, 0] = -rules.assets[0].lot
        case "no price":
            observation[0, assets + 1] = 0
        case "negative cash":
            observation[0, assets] = -1
        case "last step":
            observation[0, -1] = 19

    # when
    actions, valid = session.run(None, {"observation": observation, "mask": mask})

    # then only the first account is refused
    assert not valid[0]
    assert not actions[0].any()
    assert valid[1:].all()


def test_wrong_shape_or_type_is_refused(rules: Rules, session: Any) -> None:
    observation, *_ = observed(rules, 2)
    mask = full(rules, 2)
    for spoilt in (
        {"observation": observation[:, :-1], "mask": mask},
        {"observation": observation[0], "mask": mask},
        {"observation": observation.astype(np.float32), "mask": mask},
        {"observation": observation, "mask": mask[:, :, :-1]},
        {"observation": observation, "mask": mask.astype(np.float32)},
        {"observation": observation},
    ):
        with pytest.raises(Exception, match=r"observation|mask|Unexpected input data type"):
            session.run(None, spoilt)


def test_accounts_of_these_tests_lead_to_many_orders() -> None:
    """Without this test, the tests above might compare only orders without a trade."""
    rules = PROBLEMS["strict"]
    _, lots, cash, prices, _ = observed(rules, 500)
    policy = maximiser(rules)
    found = policy(3, lots, cash, prices, np.empty((500, 0), np.float32))
    assert len(np.unique(found, axis=0)) > 50
    assert len(every_order(3, 5)) == 1331


def test_more_joint_orders_than_can_be_tried_are_refused() -> None:
    with pytest.raises(
        FatalError, match="at most 200000 joint orders, got 1771561 from 6 assets with largest_order 5"
    ):
        maximiser(parse({"assets": [{"name": name} for name in "ABCDEF"]}))


def test_champion_of_an_earlier_version_runs_in_single_precision(tmp_path: Path) -> None:
    # given a policy file of an earlier version, which does not state the number of choices, takes
    # observations in single precision, and buys the maximum
    observation = helper.make_tensor_value_info("observation", TensorProto.FLOAT, ["accounts", 4])
    mask = helper.make_tensor_value_info("mask", TensorProto.BOOL, ["accounts", 1, 3])
    actions = helper.make_tensor_value_info("actions", TensorProto.INT64, ["accounts", 1])
    axis = helper.make_tensor("axis", TensorProto.INT64, [1], [2])
    nodes = [
        helper.make_node("Cast", ["mask"], ["ones"], to=TensorProto.INT64),
        helper.make_node("ReduceSum", ["ones", "axis"], ["actions"], keepdims=0),
    ]
    graph = helper.make_graph(nodes, "earlier", [observation, mask], [actions], [axis])
    opset = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), tmp_path / POLICY)
    rules = parse({"assets": [{"name": "A"}], "largest_order": 1})
    (tmp_path / CARD).write_text(json.dumps({"rules": rules.as_dict()}))
    # when the policy gets more accounts than fit into one batch
    lots, prices = np.zeros((100, 1), np.int32), np.ones((100, 1), np.float32)
    orders = Exported(tmp_path)(0, lots, np.full(100, 50.0), prices, np.empty((100, 0), np.float32))
    # then every account gets an order
    assert (orders == 3).all()
