"""The trading problem as Gymnasium environments: for a single episode, and for many episodes in lockstep.

Both use `Accounts`, which has the state of many accounts and advances them step by step. The variant
`published` with an action for each leg uses `published.Core` instead, which does the same in one compiled
pass. An observation is a dictionary with RLlib's names, for N assets and Z signals:

- `observations`: float32 [2N + 2 + Z]: units held, cash in dollars, prices in dollars, step, signals. The
  variant `published` does not observe the step.
- `action_mask`: int8, 1 for each action that is admissible now.

An action is the index of a whole order in `every_order` (`Discrete`, with an exact mask), or a leg for each
asset (`MultiDiscrete`, 2K+1 choices for at most K lots). Masks for each asset cannot express which legs are
admissible together. They allow each leg of any admissible order, so an order whose legs are all allowed can
still be refused. A refused order is not executed (`info["refused"]`).

The reward is the account's total value in dollars at the last step of an episode, and 0 at the other steps.
"""

from __future__ import annotations

from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from toolkit.failure import FatalError

from . import published, variants
from .market import Curves, Episodes, Market
from .orders import every_order, joint_masks, settle
from .rules import Rules
from .values import worth

Actions = Literal["joint", "legs"]


class Accounts:
    """E accounts that trade in lockstep, each on its own prices."""

    def __init__(self, rules: Rules, market: Market, count: int, faithful: bool = False):
        if market.assets != len(rules.assets):
            raise FatalError(f"the market must have {len(rules.assets)} assets, got {market.assets}")
        self.rules, self.market, self.count = rules.compiled(faithful), market, count
        self.start, assets = rules.cash, len(rules.assets)
        self.lots = np.zeros((count, assets), np.int32)
        self.cash, self.value = np.empty(count), np.empty(count)
        self.fees, self.traded = np.zeros(count), np.zeros(count)
        self.refused = np.zeros(count, np.bool_)
        self.step = 0
        self.episodes = Episodes(
            np.empty((count, market.steps, assets), np.float32),
            np.empty((count, market.steps, market.signals), np.float32),
        )

    def reset(self, generator: np.random.Generator) -> None:
        """Start new episodes on newly drawn prices."""
        self.reset_on(self.market.draw(generator, self.count))

    def reset_on(self, episodes: Episodes) -> None:
        """Start E new episodes on given prices."""
        self.episodes, self.step = episodes, 0
        self.lots[:], self.cash[:], self.fees[:], self.traded[:] = 0, self.start, 0, 0
        self.refused[:] = False

    @property
    def prices(self) -> Any:
        """Prices at this step, [E, N]."""
        return np.ascontiguousarray(self.episodes.prices[:, self.step])

    @property
    def ended(self) -> bool:
        return self.step == self.episodes.prices.shape[1] - 1

    def trade(self, orders: Any) -> None:
        """Execute `orders`, int8 [E, N], at the prices of this step, then advance to the next step."""
        settle(orders, self.lots, self.cash, self.prices, self.rules, self.fees, self.traded, self.refused)
        self.step += 1

    def total(self) -> Any:
        """Return the value of each account in dollars, [E]."""
        worth(self.lots, self.cash, self.prices, self.rules, self.value)
        return self.value

    def observations(self) -> Any:
        """Return the observations, float32 [E, 2N + 2 + Z]."""
        step = np.full((self.count, 1), self.step)
        signals = self.episodes.signals[:, self.step]
        columns = [self.lots * self.rules.lot, self.cash[:, None], self.prices, step, signals]
        return np.concatenate(columns, axis=1, dtype=np.float32)


class Codec:
    """Translates actions into orders, and computes the action mask."""

    def __init__(self, assets: int, largest: int, actions: Actions):
        self.orders, self.choices = every_order(assets, largest), 2 * largest + 1
        self.kind: Actions = actions
        self.space: spaces.Space[Any] = (
            spaces.Discrete(len(self.orders))
            if actions == "joint"
            else spaces.MultiDiscrete([self.choices] * assets)
        )
        self.width = len(self.orders) if actions == "joint" else self.choices * assets

    def decode(self, actions: Any) -> Any:
        """Return orders, int8 [E, N], for indices [E] or for legs [E, N]."""
        if self.kind == "joint":
            return self.orders[np.asarray(actions)]
        return (np.asarray(actions) - self.choices // 2).astype(np.int8)

    def masks(self, accounts: Accounts) -> Any:
        """Return the action masks, int8 [E, actions]."""
        joint = np.empty((accounts.count, len(self.orders)), np.bool_)
        joint_masks(accounts.lots, accounts.cash, accounts.prices, accounts.rules, joint)
        if self.kind == "joint":
            return joint.astype(np.int8)
        assets = self.orders.shape[1]
        cube = joint.reshape(accounts.count, *[self.choices] * assets)
        legs = [
            cube.any(axis=tuple(1 + other for other in range(assets) if other != leg))
            for leg in range(assets)
        ]
        return np.concatenate(legs, axis=1).astype(np.int8)


def observation_space(accounts: Accounts, codec: Codec, faithful: bool) -> spaces.Dict:
    assets = len(accounts.rules.lot)
    size = 2 * assets + (1 if faithful else 2) + accounts.market.signals
    return spaces.Dict(
        {
            "observations": spaces.Box(-np.inf, np.inf, (size,), np.float32),
            "action_mask": spaces.Box(0, 1, (codec.width,), np.int8),
        }
    )


def seen(accounts: Accounts, codec: Codec, faithful: bool) -> dict[str, Any]:
    observations = accounts.observations()
    return {
        "observations": observations[:, :-1] if faithful else observations,
        "action_mask": codec.masks(accounts),
    }


class PortfolioVectorEnv(VectorEnv[Any, Any, Any]):
    """`num_envs` episodes in lockstep. All end at the same step; the next call of `step` starts new ones."""

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(
        self,
        num_envs: int = 1,
        variant: str = "corrected",
        actions: Actions = "joint",
        rules: Rules | None = None,
        market: Market | None = None,
        copy: bool = True,
    ):
        """
        :param copy: whether the variant `published` with `actions="legs"` returns new arrays; if not, the
            next step overwrites the returned arrays
        """
        chosen = variants.variant(variant)
        rules, market = rules or chosen.rules, market or chosen.market
        self.faithful, self.copy = chosen.faithful, copy
        self.core = None
        if self.faithful and actions == "legs" and isinstance(market, Curves):
            self.core = published.Core(num_envs, market, rules.cash)
        self.accounts = Accounts(rules, market, num_envs, self.faithful)
        self.codec = Codec(len(rules.assets), rules.largest_order, actions)
        self.num_envs = num_envs
        self.single_observation_space = observation_space(self.accounts, self.codec, self.faithful)
        self.single_action_space = self.codec.space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.nothing, self.no = np.zeros(num_envs), np.zeros(num_envs, np.bool_)

    @property
    def ended(self) -> bool:
        """Whether the episodes have ended."""
        return (self.core or self.accounts).ended

    def masks(self) -> Any:
        """Return the action masks, int8 [E, actions]."""
        return self.core.masks if self.core else self.codec.masks(self.accounts)

    def seen(self) -> dict[str, Any]:
        """Return the observations."""
        if self.core:
            found = {"observations": self.core.observations, "action_mask": self.core.masks}
            return {name: value.copy() for name, value in found.items()} if self.copy else found
        return seen(self.accounts, self.codec, self.faithful)

    def reset(self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None):
        if seed is not None:
            self._np_random = np.random.default_rng(seed)  # pyright: ignore[reportArgumentType]
        (self.core or self.accounts).reset(self.np_random)
        return self.seen(), {}

    def step(self, actions: Any):
        nothing, no = self.nothing, self.no
        if self.copy:
            nothing, no = nothing.copy(), no.copy()
        if self.ended:
            (self.core or self.accounts).reset(self.np_random)
            return self.seen(), nothing, no, no, {}
        if self.core:
            self.core.step(actions, self.np_random)
            info = {"refused": no}
        else:
            self.accounts.trade(self.codec.decode(actions))
            info = {"refused": self.accounts.refused.copy()}
        if not self.ended:
            return self.seen(), nothing, no, no, info
        reward = (self.core or self.accounts).total().astype(np.float64)
        return self.seen(), reward, np.ones(self.num_envs, np.bool_), no, info


class PortfolioEnv(gymnasium.Env[Any, Any]):
    """An environment of one episode at a time."""

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(
        self,
        variant: str = "corrected",
        actions: Actions = "joint",
        rules: Rules | None = None,
        market: Market | None = None,
    ):
        self.many = PortfolioVectorEnv(1, variant, actions, rules, market)
        self.observation_space = self.many.single_observation_space
        self.action_space = self.many.single_action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        found, info = self.many.reset(seed=seed)
        return {name: value[0] for name, value in found.items()}, info

    def step(self, action: Any):
        if self.many.ended:
            raise RuntimeError("the episode has ended: call reset()")
        found, reward, ended, _, info = self.many.step(np.asarray(action)[None])
        observation = {name: value[0] for name, value in found.items()}
        refused = {"refused": bool(info["refused"][0])}
        return observation, float(reward[0]), bool(ended[0]), False, refused

    def action_masks(self) -> Any:
        """Return the mask for sb3-contrib's MaskablePPO."""
        return self.many.masks()[0].astype(bool)
