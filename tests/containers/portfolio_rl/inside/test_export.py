"""The exported policy: the same orders as the policy it is made of, and no trade where it must refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import PROBLEMS, states

from portfolio_trader import ppo, values
from portfolio_trader.export import export
from portfolio_trader.market import Curves
from portfolio_trader.orders import every_order, trade
from portfolio_trader.rules import Rules, parse


@pytest.fixture(scope="module", params=["strict", "every kind of constraint", "one asset"])
def rules(request: pytest.FixtureRequest) -> Rules:
    return PROBLEMS[request.param]


def market(rules: Rules) -> Curves:
    assets = len(rules.assets)
    means = np.random.default_rng(0).uniform(20, 40, (20, assets))
    return Curves(means, np.full(assets, 5.0))


def network(rules: Rules) -> ppo.Policy:
    """A network with random logits, so that it wants all kinds of orders."""
    torch.manual_seed(0)
    learner = ppo.Learner(rules, market(rules), ppo.Hyperparameters())
    learner.statistics.add(learner.market.draw(np.random.default_rng(0), 500).prices)
    torch.nn.init.normal_(learner.network.policy[-1].weight, std=1.0)  # pyright: ignore[reportArgumentType]
    return learner.policy()


def maximiser(rules: Rules) -> values.Maximiser:
    """Random cubic values."""
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
    """Observations of random accounts with the accounts themselves, in the precision of an observation."""
    lots, cash, prices = states(rules, count, seed)
    cash = cash.astype(np.float32).astype(np.float64)
    lot = np.array([asset.lot for asset in rules.assets])
    steps = np.random.default_rng(seed).integers(0, 19, count)
    columns = [lots * lot, cash[:, None], prices, steps[:, None]]
    return np.concatenate(columns, axis=1, dtype=np.float32), lots, cash, prices, steps


def full(rules: Rules, count: int) -> Any:
    return np.ones((count, len(rules.assets), 2 * rules.largest_order + 1), np.bool_)


def test_file_gives_the_policys_orders(rules: Rules, policy: Any, session: Any) -> None:
    observation, lots, cash, prices, steps = observed(rules, 300)
    actions, valid = session.run(None, {"observation": observation, "mask": full(rules, 300)})
    assert valid.all()
    for step in np.unique(steps):
        at = steps == step
        empty = np.empty((at.sum(), 0), np.float32)
        expected = policy(step, lots[at], cash[at], np.ascontiguousarray(prices[at]), empty)
        assert (actions[at] == expected).all(1).mean() > 0.99  # but for ties and single precision


def test_file_of_a_price_historys_policy_gives_its_orders(tmp_path: Path) -> None:
    # given random cubic values of holdings, cash and four signals
    rules, assets, count = parse({"assets": [{"name": "A"}, {"name": "B"}], "largest_order": 4}), 2, 300
    generator = np.random.default_rng(1)
    weights = generator.normal(size=(19, len(values.monomials(assets + 1 + 2 * assets, 3))))
    policy = values.Maximiser(values.Values(weights, 3, 2 * assets), rules.compiled())
    export(policy, 2 * assets, tmp_path / "policy.onnx")
    file = onnxruntime.InferenceSession(tmp_path / "policy.onnx", providers=["CPUExecutionProvider"])

    # when both are asked about the same accounts
    observation, lots, cash, prices, steps = observed(rules, count)
    signals = generator.normal(size=(count, 2 * assets)).astype(np.float32)
    given = {"observation": np.hstack([observation, signals]), "mask": full(rules, count)}
    actions = file.run(["actions"], given)[0]

    # then they give the same orders
    for step in np.unique(steps):
        at = steps == step
        expected = policy(step, lots[at], cash[at], np.ascontiguousarray(prices[at]), signals[at])
        assert (actions[at] == expected).all()


def test_file_gives_admissible_orders_whatever_the_mask_allows(rules: Rules, session: Any) -> None:
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


@pytest.mark.parametrize(
    "spoil",
    [
        "nan",
        "infinity",
        "empty mask",
        "half a lot",
        "negative lots",
        "no price",
        "negative cash",
        "last step",
    ],
)
def test_account_that_makes_no_sense_gets_no_trade(rules: Rules, session: Any, spoil: str) -> None:
    # given sound accounts, of which the first is spoilt
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

    # then it alone is refused
    assert not valid[0]
    assert not actions[0].any()
    assert valid[1:].all()


def test_wrong_shape_or_type_is_refused(rules: Rules, session: Any) -> None:
    observation, *_ = observed(rules, 2)
    mask = full(rules, 2)
    for spoilt in (
        {"observation": observation[:, :-1], "mask": mask},
        {"observation": observation[0], "mask": mask},
        {"observation": observation.astype(np.float64), "mask": mask},
        {"observation": observation, "mask": mask[:, :, :-1]},
        {"observation": observation, "mask": mask.astype(np.float32)},
        {"observation": observation},
    ):
        with pytest.raises(Exception, match=r"observation|mask|Unexpected input data type"):
            session.run(None, spoilt)


def test_every_order_is_tried() -> None:
    """Without it, the tests above might compare orders without a trade alone."""
    rules = PROBLEMS["strict"]
    _, lots, cash, prices, _ = observed(rules, 500)
    policy = maximiser(rules)
    found = policy(3, lots, cash, prices, np.empty((500, 0), np.float32))
    assert len(np.unique(found, axis=0)) > 50
    assert len(every_order(3, 5)) == 1331
