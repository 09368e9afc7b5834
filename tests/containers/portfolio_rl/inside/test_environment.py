"""The Gymnasium environments: they keep Gymnasium's contract, and execute orders by the project's rules."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import PROBLEMS
from gymnasium.utils.env_checker import check_env

from portfolio_trader import published
from portfolio_trader.environment import PortfolioEnv, PortfolioVectorEnv
from portfolio_trader.variants import VARIANTS
from toolkit.failure import FatalError


@pytest.mark.parametrize("actions", ["joint", "legs"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_environment_keeps_gymnasiums_contract(variant: str, actions: Any) -> None:
    check_env(PortfolioEnv(variant, actions), skip_render_check=True)


def test_unknown_variant_is_named() -> None:
    with pytest.raises(FatalError, match="variant must be one of published, corrected, strict, got 'easy'"):
        PortfolioEnv("easy")


@pytest.mark.parametrize("variant", VARIANTS)
def test_masked_joint_orders_are_never_refused(variant: str) -> None:
    env = PortfolioVectorEnv(60, variant)
    seen, _ = env.reset(seed=0)
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(25):
        actions = [generator.choice(np.flatnonzero(row)) for row in seen["action_mask"]]
        seen, _, _, _, info = env.step(np.array(actions))
        refused += int(np.sum(info.get("refused", 0)))
    assert refused == 0


def test_mask_per_asset_allows_joint_orders_that_are_refused() -> None:
    env = PortfolioVectorEnv(100, "strict", "legs")
    seen, _ = env.reset(seed=0)
    generator, refused, tried = np.random.default_rng(0), 0, 0
    for _ in range(19):
        legs = seen["action_mask"].reshape(100, 3, 11)
        actions = [[generator.choice(np.flatnonzero(leg)) for leg in row] for row in legs]
        seen, _, _, _, info = env.step(np.array(actions))
        refused, tried = refused + int(info["refused"].sum()), tried + 100
    assert refused / tried > 0.05


def test_episodes_end_together_and_restart_at_the_next_step() -> None:
    env = PortfolioVectorEnv(3)
    env.reset(seed=1)
    hold = np.full(3, 1331 // 2)
    for step in range(1, 20):
        seen, reward, ended, _, _ = env.step(hold)
        assert ended.all() == (step == 19)
        assert np.allclose(reward, 1000 if step == 19 else 0)
    seen, reward, ended, _, _ = env.step(hold)
    assert not ended.any()
    assert seen["observations"][:, -1].tolist() == [0, 0, 0]


def test_published_core_trades_as_the_accounts_do() -> None:
    # given the compiled trading code of the AWS sample, and the same accounts computed in double precision
    env = PortfolioVectorEnv(100, "published", "legs")
    seen, _ = env.reset(seed=3)
    generator = np.random.default_rng(0)
    lots, cash = np.zeros((100, 3), np.int32), np.full(100, 1000.0)
    for step in range(1, 20):
        # when both execute the same orders at the same prices
        prices = seen["observations"][:, 4:]
        legs = seen["action_mask"].reshape(100, 3, 11)
        actions = np.array([[generator.choice(np.flatnonzero(leg)) for leg in row] for row in legs])
        seen, reward, ended, _, _ = env.step(actions)
        for e in range(100):
            cash[e] = published.execute((actions[e] - 5).astype(np.int8), lots[e], cash[e], prices[e])

        # then both have the same lots and cash, and the next mask follows the rules of the AWS sample
        found = seen["observations"]
        assert np.array_equal(found[:, :3], 10 * lots)
        assert np.allclose(found[:, 3], cash, rtol=1e-4, atol=0.05)
        allowed = np.empty((100, 3), np.bool_)
        for e in range(100):
            published.purchasable(lots[e], np.float64(found[e, 3]), found[e, 4:], allowed[e])
        mask = seen["action_mask"].reshape(100, 3, 11).astype(bool)
        assert np.array_equal(mask[:, :, 6:], np.repeat(allowed[:, :, None], 5, axis=2))
        assert np.array_equal(mask[:, :, :5], lots[:, :, None] >= np.arange(5, 0, -1))
        assert mask[:, :, 5].all()
        total = cash + (10 * lots * found[:, 4:]).sum(1)
        assert ended.all() == (step == 19)
        assert np.allclose(reward, total if step == 19 else 0, rtol=1e-4)


def test_published_core_draws_prices_around_the_curves() -> None:
    env = PortfolioVectorEnv(20_000, "published", "legs", copy=False)
    seen, _ = env.reset(seed=1)
    hold, market = np.full((20_000, 3), 5), VARIANTS["published"].market
    for step in range(20):
        prices = seen["observations"][:, 4:]
        assert np.allclose(prices.mean(0), market.means[step], atol=0.25)
        assert np.allclose(prices.std(0), market.deviations, rtol=0.03)
        env.step(hold)


def test_time_is_observed_but_in_the_published_variant() -> None:
    for variant, size in (("published", 7), ("corrected", 8), ("strict", 8)):
        env = PortfolioEnv(variant)
        assert env.observation_space["observations"].shape == (size,)  # pyright: ignore[reportIndexIssue]


def test_rules_for_another_number_of_assets_need_own_prices() -> None:
    with pytest.raises(FatalError, match="the market must have 1 assets, got 3"):
        PortfolioVectorEnv(1, rules=PROBLEMS["one asset"])
