"""Training of the policy of `ppo.py` by Ray RLlib, on one or several instances.

The network, its inputs and the class of the resulting policy come from `ppo.py`, so the policy is compared
and exported in the same way. RLlib samples from vectorized environments in env runners, which are one Ray
actor each, and learns in one process.

The mask is part of the RLModule. The module draws an order one leg after the other, each from the choices
that are admissible after the legs before it, and masks the same legs again when it learns. RLlib passes
observations in single precision, so the module reduces cash by a millionth. Every order that is affordable
with the reduced cash is affordable in double precision.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import ray
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.torch.torch_distribution import TorchMultiCategorical
from ray.rllib.core.rl_module.apis import ValueFunctionAPI
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.core.rl_module.torch import TorchRLModule

from .environment import Accounts
from .market import Market
from .orders import choose
from .ppo import Network, Policy, PriceStatistics, inputs
from .rules import Rules

log = logging.getLogger(__name__)

LESS_CASH = 1e-6
"""Share by which the RLModule reduces cash, because observations have single precision."""
STATISTICS_EPISODES = 1000
"""Number of episodes from which the statistics of the inputs are computed."""


@dataclass(frozen=True)
class Problem:
    """The problem to solve; passed to every env runner."""

    rules: Rules
    market: Market
    statistics: PriceStatistics
    faithful: bool = False


# --- the environment ---


class Trading(VectorEnv[Any, Any, Any]):
    """Episodes in lockstep. An action has 2N legs of 0 to K lots: sales, then purchases.

    Observations are float32 [E, 2N + 2 + Z] as in `Accounts.observations`. The reward of a step is the gain
    at the prices of the next step, divided by the cash at the start.

    :param config: `problem` and `num_envs`
    """

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(self, config: dict[str, Any]):
        problem: Problem = config["problem"]
        self.num_envs = int(config.get("num_envs", 1))
        self.accounts = Accounts(problem.rules, problem.market, self.num_envs, problem.faithful)
        self.assets = problem.market.assets
        size = 2 * self.assets + 2 + problem.market.signals
        self.single_observation_space = spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.single_action_space = spaces.MultiDiscrete([problem.rules.largest_order + 1] * 2 * self.assets)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def reset(self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None):
        if seed is not None:
            first = seed if isinstance(seed, int) else seed[0]
            self._np_random = np.random.default_rng(first)
        self.accounts.reset(self.np_random)
        return self.accounts.observations(), {}

    def step(self, actions: Any):
        no = np.zeros(self.num_envs, np.bool_)
        if self.accounts.ended:
            self.accounts.reset(self.np_random)
            return self.accounts.observations(), np.zeros(self.num_envs), no, no, {}
        legs = np.asarray(actions).astype(np.int8)
        before = self.accounts.total().copy()
        self.accounts.trade(legs[:, self.assets :] - legs[:, : self.assets])
        gain = (self.accounts.total() - before) / self.accounts.start
        ended = np.full(self.num_envs, self.accounts.ended)
        return self.accounts.observations(), gain, ended, no, {}


# --- the module ---


class MaskedOrders(TorchRLModule, ValueFunctionAPI):
    """`ppo.Network` with the mask of the rules; `model_config` has `problem` and `width`."""

    def setup(self) -> None:
        problem: Problem = self.model_config["problem"]
        assets, signals = problem.market.assets, problem.market.signals
        largest = problem.rules.largest_order
        self.rules, self.statistics = problem.rules.compiled(problem.faithful), problem.statistics
        self.start = problem.rules.cash
        self.assets, self.options = assets, largest + 1
        self.network = Network(assets, signals, largest, self.model_config["width"])
        self.action_dist_cls = TorchMultiCategorical.get_partial_dist_cls(
            input_lens=[self.options] * 2 * assets
        )

    def _account(self, observations: torch.Tensor) -> tuple[Any, Any, Any, Any, Any]:
        """Return lots, cash, prices, signals and step, as arrays."""
        n = self.assets
        given = observations.double().numpy()
        lots, cash = np.rint(given[:, :n] / self.rules.lot), given[:, n] * (1 - LESS_CASH)
        return lots, cash, given[:, n + 1 : 2 * n + 1], given[:, 2 * n + 2 :], given[:, 2 * n + 1].astype(int)

    def _inputs(self, account: tuple[Any, Any, Any, Any, Any]) -> torch.Tensor:
        return torch.from_numpy(inputs(*account, self.statistics, self.rules, self.start))

    def _masked(self, batch: dict[str, Any], chosen: Any, noise: Any) -> tuple[torch.Tensor, Any, Any]:
        """Return the masked logits, [B, 2N (K+1)], the legs, [B, 2N], and their log-likelihood, [B].

        :param chosen: [B, 2N] legs that were drawn before; None: draw them
        :param noise: random numbers, as in `orders.choose`
        """
        account = self._account(batch[Columns.OBS])
        logits = self.network.logits(self._inputs(account))
        lots, cash, prices, _, _ = account
        count, shape = len(lots), tuple(logits.shape)
        scores = logits.detach().numpy()
        if chosen is not None:  # scores with which the given legs are the most likely ones
            scores = np.zeros(shape, np.float32)
            np.put_along_axis(scores, chosen[..., None], 1.0, axis=-1)
        legs = np.empty((count, 2 * self.assets), np.int64)
        masks, likelihood = np.empty(shape, np.bool_), np.empty(count)
        choose(
            scores,
            noise,
            lots.astype(np.int32),
            np.ascontiguousarray(cash),
            np.ascontiguousarray(prices, np.float32),
            self.rules,
            np.empty((count, self.assets), np.int8),
            legs,
            masks,
            likelihood,
        )
        return logits.masked_fill(~torch.from_numpy(masks), -1e9).flatten(1), legs, likelihood

    def _drawn(self, batch: dict[str, Any], noise: Any) -> dict[str, Any]:
        with torch.no_grad():
            logits, legs, likelihood = self._masked(batch, None, noise)
        return {
            Columns.ACTIONS: torch.from_numpy(legs),
            Columns.ACTION_LOGP: torch.from_numpy(likelihood).float(),
            Columns.ACTION_DIST_INPUTS: logits,
        }

    def _forward_inference(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        return self._drawn(batch, np.empty((len(batch[Columns.OBS]), 0)))

    def _forward_exploration(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        count = len(batch[Columns.OBS])
        return self._drawn(batch, np.random.random((count, 2 * self.assets)))

    def _forward_train(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        chosen = batch[Columns.ACTIONS].long().numpy()
        logits, _, _ = self._masked(batch, chosen, np.empty((len(chosen), 0)))
        return {Columns.ACTION_DIST_INPUTS: logits}

    def compute_values(self, batch: dict[str, Any], embeddings: Any = None) -> torch.Tensor:
        return self.network.value(self._inputs(self._account(batch[Columns.OBS]))).squeeze(-1)


# --- the learner ---


@dataclass(frozen=True)
class RllibHyperparameters:
    """Hyperparameters of `RllibLearner`."""

    episodes: int = 200_000
    batch: int = 1200
    """Episodes between two updates."""
    minibatch: int = 2400
    epochs: int = 4
    rate: float = 3e-3
    rate_falls: bool = True
    """Whether the learning rate falls from `rate` to a hundredth of it."""
    gamma: float = 1.0
    lambda_: float = 0.6
    clip: float = 0.2
    kl: float = 0.0
    entropy: float = 0.003
    width: int = 64
    runners: int = 0
    """Number of env runners; 0: episodes are sampled in the learner's process."""
    envs: int = 64
    """Number of episodes that a runner steps together."""
    seed: int = 0


SOURCE = RllibHyperparameters(
    batch=1316,
    minibatch=1000,
    epochs=20,
    rate=1e-4,
    rate_falls=False,
    gamma=0.99,
    lambda_=1.0,
    clip=0.3,
    kl=1.0,
    entropy=0.0,
    width=256,
)
"""Hyperparameters of the AWS sample (batches of 25,000 decisions), with RLlib's defaults for those that the
sample does not set.

The training differs from the sample in these ways. Every step, not only the last one, has a reward, and the
reward is divided by the cash at the start. Prices are normalised. The observation includes the step, and the
mask covers the whole order. The value error is not clipped.
"""
RECIPES = {"ours": RllibHyperparameters(), "source": SOURCE}


def configuration(problem: Problem, how: RllibHyperparameters) -> PPOConfig:
    """Return RLlib's configuration."""
    steps = problem.market.steps - 1
    return (
        PPOConfig()
        .environment(Trading, env_config={"problem": problem})
        .framework("torch")
        .env_runners(
            num_env_runners=how.runners,
            num_envs_per_env_runner=how.envs,
            gym_env_vectorize_mode=gymnasium.VectorizeMode.VECTOR_ENTRY_POINT,
            rollout_fragment_length="auto",
            batch_mode="complete_episodes",
        )
        .learners(num_learners=0)
        .rl_module(
            rl_module_spec=RLModuleSpec(
                module_class=MaskedOrders, model_config={"problem": problem, "width": how.width}
            )
        )
        .training(
            gamma=how.gamma,
            lambda_=how.lambda_,
            lr=[[0, how.rate], [how.episodes * steps, how.rate / 100]] if how.rate_falls else how.rate,
            train_batch_size_per_learner=how.batch * steps,
            minibatch_size=how.minibatch,
            num_epochs=how.epochs,
            clip_param=how.clip,
            vf_clip_param=float("inf"),  # RLlib's default 10 would clip most value errors
            vf_loss_coeff=0.5,
            entropy_coeff=how.entropy,
            use_kl_loss=how.kl > 0,
            kl_coeff=how.kl,
            grad_clip=0.5,
        )
        .debugging(seed=how.seed, log_level="ERROR")
        .fault_tolerance(restart_failed_env_runners=True, ignore_env_runner_failures=False)
    )


CHECKPOINT = "rllib"


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, oldest first."""
    found = [path for path in folder.glob(f"{CHECKPOINT}-*") if path.name.rpartition("-")[2].isdigit()]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))


def problem_of(rules: Rules, market: Market, seed: int, faithful: bool = False) -> Problem:
    """Return the problem with price statistics of `STATISTICS_EPISODES` drawn episodes."""
    statistics = PriceStatistics(market.steps, market.assets)
    statistics.add(market.draw(np.random.default_rng(seed), STATISTICS_EPISODES).prices)
    return Problem(rules, market, statistics, faithful)


class RllibLearner:
    """Training by RLlib's PPO. Ray must be running."""

    def __init__(self, problem: Problem, how: RllibHyperparameters):
        self.problem, self.how = problem, how
        self.algorithm = configuration(problem, how).build_algo()
        self.done = 0

    def train(self) -> Iterator[dict[str, float]]:
        """Train for `how.episodes` episodes; yield metrics after each batch."""
        steps, started = self.problem.market.steps - 1, time.monotonic()
        while self.done < self.how.episodes:
            found = self.algorithm.train()
            runners = found["env_runners"]
            self.done = int(runners["num_env_steps_sampled_lifetime"] / steps)
            yield {
                "episodes": float(self.done),
                "seconds": time.monotonic() - started,
                "mean_final_value": self.problem.rules.cash * (1 + float(runners["episode_return_mean"])),
            }

    def save(self, folder: Path) -> None:
        """Write a checkpoint, then delete all older ones except the previous one."""
        before = checkpoints(folder)
        number = int(before[-1].name.rpartition("-")[2]) + 1 if before else 1
        part = folder / ".part"
        shutil.rmtree(part, ignore_errors=True)
        self.algorithm.save_to_path(str(part.resolve()))
        part.rename(folder / f"{CHECKPOINT}-{number}")
        for old in before[:-1]:
            shutil.rmtree(old)

    def restore(self, folder: Path) -> bool:
        """Continue from the newest complete checkpoint; return whether there was one."""
        for path in reversed(checkpoints(folder)):
            try:
                self.algorithm.restore_from_path(str(path.resolve()))
            except Exception as error:  # for example because its upload was interrupted
                log.warning("could not read the checkpoint %s: %s", path.name, error)
                continue
            return True
        return False

    def policy(self) -> Policy:
        """Return the learned policy."""
        module: Any = self.algorithm.get_module()
        problem = self.problem
        return Policy(module.network, problem.statistics, module.rules, problem.rules.cash)

    def samplers(self) -> Counter[str]:
        """Return the number of env runners of each node, by the node's address."""
        found = self.algorithm.env_runner_group.foreach_env_runner(
            lambda _: ray.util.get_node_ip_address(), local_env_runner=self.how.runners == 0
        )
        return Counter(found)

    def close(self) -> None:
        self.algorithm.stop()
