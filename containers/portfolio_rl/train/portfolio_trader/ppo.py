"""Proximal policy optimization (PPO) with masks, in one file that reads from top to bottom.

PPO as in Schulman et al., 2017, masks as in Huang and Ontañón, 2022. Differences from the textbook algorithm:

- An order is drawn one leg after the other, sales first, each from the choices that are admissible after the
  legs before it. One pass of the network gives the logits of all legs; only the masks depend on earlier legs
  (`orders.choose`).
- The reward of a step is the gain in total value, with holdings valued at the next step's mean price over
  the episodes so far. The sum of the rewards has the same expectation as the gain of the whole episode, with
  less variance. The discount is 1, and lambda of the advantage estimate is 0.6.
- The network's inputs contain each price minus the mean price of the step, divided by the standard deviation
  of that step's prices; mean and deviation are updated with each batch. The inputs also contain each asset's
  share of the total value, because the shares determine which purchases the caps allow.
- The gradient of the loss with respect to the logits is hand-written compiled code (`clipped_objective`).
- The learning rate is high and decays to zero, and minibatches are small.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from numba import njit
from torch import nn

from .market import Market
from .orders import choose, settle
from .rules import Compiled, Rules

# --- settings ---


@dataclass(frozen=True)
class Hyperparameters:
    """Hyperparameters of `Learner`."""

    episodes: int = 600_000
    """Episodes to train on."""
    cpu_seconds: float = 0.0
    """Limit of the CPU time in seconds; 0: no limit. Training ends at this limit or after `episodes`, and the
    learning rate falls to zero in both cases."""
    batch: int = 1200
    """Episodes between two updates."""
    minibatch: int = 2400
    """Number of decisions in a gradient step."""
    epochs: int = 4
    rate: float = 3e-3
    clip: float = 0.2
    lambda_: float = 0.6
    entropy: float = 0.003
    value_weight: float = 0.5
    max_norm: float = 0.5
    width: int = 64
    objective: Literal["mean", "log", "cvar"] = "mean"
    """What is maximised: the mean of the final values, of their logarithms, or of the lowest share `tail`
    of the final values."""
    tail: float = 0.1
    seed: int = 0


# --- inputs of the network ---


class PriceStatistics:
    """Mean and standard deviation of the prices of each step, over the episodes so far."""

    def __init__(self, steps: int, assets: int):
        self.count = 0
        self.sum, self.squares = np.zeros((steps, assets)), np.zeros((steps, assets))

    def add(self, episodes: Any) -> None:
        """Add prices, [E, T, N]."""
        self.count += len(episodes)
        self.sum += episodes.sum(0, dtype=np.float64)
        self.squares += np.square(episodes, dtype=np.float64).sum(0)

    @property
    def mean(self) -> Any:
        return self.sum / max(self.count, 1)

    @property
    def deviation(self) -> Any:
        return np.sqrt(np.maximum(self.squares / max(self.count, 1) - self.mean**2, 1e-6))


AHEAD = (1, 2, 4)
"""The network's inputs contain the mean prices this many steps ahead, relative to the current price."""


def inputs(
    lots: Any,
    cash: Any,
    prices: Any,
    signals: Any,
    step: Any,
    statistics: PriceStatistics,
    rules: Compiled,
    start: float,
    arrays: Any = np,
) -> Any:
    """Return the inputs of the network, float32 [E, inputs].

    :param step: the step of all accounts, or int64 [E], the step of each account
    :param arrays: the module of the given arrays: numpy, or a module with the same functions
    """
    steps, mean = len(statistics.sum), arrays.asarray(statistics.mean)

    def mean_at(time: Any) -> Any:
        return arrays.take(mean, time, axis=0)

    deviation = arrays.take(arrays.asarray(statistics.deviation), step, axis=0)
    ahead = [(mean_at(arrays.minimum(step + a, steps - 1)) - prices) / deviation for a in AHEAD]
    values = lots * arrays.asarray(rules.lot) * prices
    whole = arrays.clip(cash + arrays.sum(values, axis=1), min=1.0)[:, None]
    one = arrays.ones_like(cash)
    columns = [lots / 10, cash[:, None] / start, (prices - mean_at(step)) / deviation, *ahead]
    columns += [3 * values / whole, arrays.log(whole / start)]
    columns += [(one * step / steps)[:, None], one[:, None], signals]
    return arrays.astype(arrays.concat(columns, axis=1), arrays.float32)


def input_size(assets: int, signals: int) -> int:
    return assets * (3 + len(AHEAD)) + 4 + signals


class Tanh(nn.Module):
    """The hyperbolic tangent, computed from the sigmoid: on a CPU, five times faster than PyTorch's tanh."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * torch.sigmoid(2 * x) - 1


class Network(nn.Module):
    """The network; it returns the logits of all legs, [B, 2N, K+1], and the value of the state, [B]."""

    def __init__(self, assets: int, signals: int, largest: int, width: int):
        super().__init__()
        self.legs, self.options = 2 * assets, largest + 1

        def layers(outputs: int, gain: float) -> nn.Sequential:
            last = nn.Linear(width, outputs)
            nn.init.orthogonal_(last.weight, gain)
            nn.init.zeros_(last.bias)
            first = nn.Linear(input_size(assets, signals), width)
            return nn.Sequential(first, Tanh(), nn.Linear(width, width), Tanh(), last)

        self.policy = layers(self.legs * self.options, 0.01)
        self.value = layers(1, 1.0)

    def logits(self, seen: torch.Tensor) -> torch.Tensor:
        return self.policy(seen).view(-1, self.legs, self.options)

    def forward(self, seen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.logits(seen), self.value(seen).squeeze(-1)


# --- the objective ---


@njit(cache=True, nogil=True, fastmath=True)
def clipped_objective(logits, masks, chosen, before, advantage, clip, entropy_weight, gradient):
    """Write the gradient of the loss with respect to the logits; return the mean clipped gain and entropy.

    The loss is minus PPO's clipped gain, minus `entropy_weight` times the entropy of all legs under their
    masks. It is compiled code, because as tensor operations it would take as long as the network.

    :param logits: [B, 2N, K+1]
    :param masks: of the same shape
    :param chosen: [B, 2N] the lots of each leg
    :param before: [B] log-likelihood of the order when it was drawn
    :param gradient: of the shape of the logits, written
    """
    count, legs, options = logits.shape
    p, log_p = np.zeros((legs, options), np.float32), np.zeros((legs, options), np.float32)
    spread = np.zeros(legs, np.float32)
    gains, entropies = 0.0, 0.0
    for b in range(count):
        now = np.float32(0)
        for leg in range(legs):
            score, mask = logits[b, leg], masks[b, leg]
            best, weight, k = np.float32(-1e30), np.float32(0), chosen[b, leg]
            for o in range(options):
                if mask[o]:
                    best = max(best, score[o])
            for o in range(options):
                p[leg, o] = np.exp(score[o] - best) if mask[o] else np.float32(0)
                weight += p[leg, o]
            log_weight, spread[leg] = np.log(weight), np.float32(0)
            for o in range(options):
                p[leg, o] /= weight
                log_p[leg, o] = score[o] - best - log_weight if mask[o] else np.float32(0)
                spread[leg] -= p[leg, o] * log_p[leg, o]
            now += log_p[leg, k]
            entropies += spread[leg]
        ratio = np.exp(now - before[b])
        free = ratio * advantage[b]
        bounded = min(max(ratio, np.float32(1 - clip)), np.float32(1 + clip)) * advantage[b]
        gains += min(free, bounded)
        push = free / count if free <= bounded else np.float32(0)
        for leg in range(legs):
            for o in range(options):
                slope = p[leg, o] * (log_p[leg, o] + spread[leg]) * entropy_weight / count
                gradient[b, leg, o] = push * p[leg, o] + slope
            gradient[b, leg, chosen[b, leg]] -= push
    return gains / count, entropies / count


# --- the learner ---


@dataclass
class Batch:
    """The S decisions of each of E episodes. The first dimension of each tensor is S x E."""

    seen: torch.Tensor
    masks: torch.Tensor
    chosen: torch.Tensor
    log_likelihood: torch.Tensor
    advantage: torch.Tensor
    target: torch.Tensor


class Learner:
    """Training of a policy; holds all state that a checkpoint needs."""

    def __init__(self, rules: Rules, market: Market, settings: Hyperparameters, faithful: bool = False):
        torch.manual_seed(settings.seed)
        self.generator = np.random.default_rng(settings.seed)
        self.settings, self.rules, self.market = settings, rules.compiled(faithful), market
        self.start = rules.cash
        self.statistics = PriceStatistics(market.steps, market.assets)
        self.network = Network(market.assets, market.signals, rules.largest_order, settings.width)
        self.optimizer = torch.optim.Adam(self.network.parameters(), settings.rate, eps=1e-5, fused=True)
        self.done, self.cpu_seconds = 0, 0.0
        self.quantile = rules.cash

    @property
    def progress(self) -> float:
        """Used share, 0 to 1, of the episodes or of the CPU time, whichever is larger."""
        shares = [self.done / self.settings.episodes]
        if self.settings.cpu_seconds:
            shares.append(self.cpu_seconds / self.settings.cpu_seconds)
        return min(1.0, max(shares))

    def policy(self) -> Policy:
        return Policy(self.network, self.statistics, self.rules, self.start)

    # --- collect ---

    def collect(self) -> tuple[Batch, Any]:
        """Trade a batch of episodes; return its decisions, and the final values in dollars, [E]."""
        count, assets = self.settings.batch, self.market.assets
        episodes, signals = self.market.draw(self.generator, count)
        self.statistics.add(episodes)
        steps, legs, options = self.market.steps - 1, 2 * assets, self.rules.largest + 1
        lots, cash = np.zeros((count, assets), np.int32), np.full(count, self.start)
        fees, traded, refused = np.zeros(count), np.zeros(count), np.zeros(count, np.bool_)
        seen = np.empty((steps, count, input_size(assets, self.market.signals)), np.float32)
        masks = np.empty((steps, count, legs, options), np.bool_)
        chosen = np.empty((steps, count, legs), np.int64)
        likelihood, rewards = np.empty((steps, count)), np.zeros((steps, count))
        values = np.zeros((steps + 1, count))
        actions = np.empty((count, assets), np.int8)
        means = self.statistics.mean
        worth = np.full(count, self.start)
        for t in range(steps):
            prices = np.ascontiguousarray(episodes[:, t])
            seen[t] = inputs(lots, cash, prices, signals[:, t], t, self.statistics, self.rules, self.start)
            with torch.inference_mode():
                logits, value = self.network(torch.from_numpy(seen[t]))
            values[t] = value.numpy()
            noise = self.generator.random((count, legs))
            choose(
                logits.numpy(),
                noise,
                lots,
                cash,
                prices,
                self.rules,
                actions,
                chosen[t],
                masks[t],
                likelihood[t],
            )
            settle(actions, lots, cash, prices, self.rules, fees, traded, refused)
            following = means[t + 1] if self.settings.objective == "mean" else episodes[:, t + 1]
            after = cash + (lots * self.rules.lot * following).sum(1)
            rewards[t] = self.reward(worth, after, last=t == steps - 1)
            worth = after
        final = cash + (lots * self.rules.lot * episodes[:, -1]).sum(1)
        self.quantile += 0.1 * (float(np.quantile(final, self.settings.tail)) - self.quantile)
        advantage = np.zeros((steps + 1, count))
        for t in reversed(range(steps)):
            surprise = rewards[t] + values[t + 1] - values[t]
            advantage[t] = surprise + self.settings.lambda_ * advantage[t + 1]
        flat = {
            "seen": seen,
            "masks": masks,
            "chosen": chosen,
            "log_likelihood": likelihood.astype(np.float32),
            "advantage": advantage[:-1].astype(np.float32),
            "target": (advantage + values)[:-1].astype(np.float32),
        }
        tensors = {
            name: torch.from_numpy(each.reshape(steps * count, *each.shape[2:]))
            for name, each in flat.items()
        }
        return Batch(**tensors), final

    def reward(self, before: Any, after: Any, last: bool) -> Any:
        """Return the reward of a step that changed the total value from `before` to `after` dollars, [E]."""
        if self.settings.objective == "mean":
            return (after - before) / self.start
        if self.settings.objective == "log":
            return np.log(after) - np.log(before)
        if not last:
            return np.zeros(len(after))
        return np.minimum(after - self.quantile, 0) / self.settings.tail / self.start

    # --- learn ---

    def learn(self, batch: Batch) -> dict[str, float]:
        """Take the gradient steps of one batch; return the means of their metrics."""
        how, sums, steps = self.settings, np.zeros(3), 0
        for group in self.optimizer.param_groups:
            group["lr"] = how.rate * (1 - self.progress)
        advantage = (batch.advantage - batch.advantage.mean()) / (batch.advantage.std() + 1e-8)
        entropy_weight = how.entropy * (1 - self.progress)
        for _ in range(how.epochs):
            order = torch.from_numpy(self.generator.permutation(len(advantage)))
            for rows in order.split(how.minibatch):
                logits, value = self.network(batch.seen[rows])
                gradient = np.empty(logits.shape, np.float32)
                gain, entropy = clipped_objective(
                    logits.detach().numpy(),
                    batch.masks[rows].numpy(),
                    batch.chosen[rows].numpy(),
                    batch.log_likelihood[rows].numpy(),
                    advantage[rows].numpy(),
                    how.clip,
                    entropy_weight,
                    gradient,
                )
                surprise = value.detach() - batch.target[rows]
                self.optimizer.zero_grad()
                torch.autograd.backward(
                    (logits, value),
                    (torch.from_numpy(gradient), 2 * how.value_weight / len(rows) * surprise),
                )
                nn.utils.clip_grad_norm_(self.network.parameters(), how.max_norm)
                self.optimizer.step()
                sums += (gain, entropy, float(surprise.square().mean()))
                steps += 1
        return dict(zip(("gain", "entropy", "value_error"), sums / steps, strict=True))

    def train(self) -> Iterator[dict[str, float]]:
        """Train until the budget is used; yield metrics after each batch."""
        begun = time.monotonic()
        while self.progress < 1:
            started = time.process_time()
            batch, final = self.collect()
            found = self.learn(batch)
            self.done += self.settings.batch
            self.cpu_seconds += time.process_time() - started
            yield {
                "episodes": float(self.done),
                "cpu_seconds": self.cpu_seconds,
                "seconds": time.monotonic() - begun,
                "mean_final_value": float(final.mean()),
                **found,
            }

    # --- checkpoints ---

    def state(self) -> dict[str, Any]:
        """Return the state of the training, for `torch.save`."""
        return {
            "settings": asdict(self.settings),
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "statistics": (self.statistics.count, self.statistics.sum, self.statistics.squares),
            "generator": self.generator.bit_generator.state,
            "torch": torch.get_rng_state(),
            "progress": (self.done, self.cpu_seconds, self.quantile),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.statistics.count, self.statistics.sum, self.statistics.squares = state["statistics"]
        self.generator.bit_generator.state = state["generator"]
        torch.set_rng_state(state["torch"])
        self.done, self.cpu_seconds, self.quantile = state["progress"]


# --- the policy ---


class Policy:
    """The policy that gives the most likely admissible order of a trained network."""

    def __init__(self, network: Network, statistics: PriceStatistics, rules: Compiled, start: float):
        self.network, self.statistics, self.rules, self.start = network, statistics, rules, start

    def __call__(self, step: int, lots: Any, cash: Any, prices: Any, signals: Any) -> Any:
        count, assets = lots.shape
        seen = inputs(lots, cash, prices, signals, step, self.statistics, self.rules, self.start)
        with torch.inference_mode():
            logits = self.network.logits(torch.from_numpy(seen)).numpy()
        actions = np.empty((count, assets), np.int8)
        choose(
            logits,
            np.empty((count, 0)),
            lots,
            cash,
            prices,
            self.rules,
            actions,
            np.empty((count, 2 * assets), np.int64),
            np.empty(logits.shape, np.bool_),
            np.empty(count),
        )
        return actions
