"""The measurements of `benchmarks.portfolio_rl.speed`, in CPU time of a thread. They run in a separate Python
environment."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from sb3_contrib import MaskablePPO
from stable_baselines3.common.callbacks import BaseCallback

from benchmarks.portfolio_rl import bounds
from benchmarks.portfolio_rl.speed import COMMIT, parse
from portfolio_trader import ppo
from portfolio_trader.environment import PortfolioEnv, PortfolioVectorEnv
from portfolio_trader.variants import variant

DECISIONS = 19
COUNT, COUNT_JOINT = 4096, 256
"""Numbers of environments that are stepped together: with a mask for each asset, and with a mask of whole
orders."""


def say(line: str) -> None:
    print(line, flush=True)


# --- steps of the environment ---


class WithoutPrints(ast.NodeTransformer):
    """Removes statements that only print."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        call = node.value
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "print":
            return None
        return node


def published_environment(path: Path) -> Any:
    """Return the AWS sample's environment without its prints. It imports `gym`, which is replaced by
    gymnasium."""
    sys.modules["gym"], sys.modules["gym.spaces"] = gymnasium, gymnasium.spaces
    tree = ast.fix_missing_locations(WithoutPrints().visit(ast.parse(path.read_text())))
    with tempfile.TemporaryDirectory() as folder:
        quiet = Path(folder) / "published_trading.py"
        quiet.write_text(ast.unparse(tree))
        spec = importlib.util.spec_from_file_location(quiet.stem, quiet)
        if spec is None or spec.loader is None:
            raise ImportError(f"{path} cannot be imported")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module.mytradingenv()


def steps_of_published(env: Any, seconds: float) -> float:
    """Return the AWS sample's steps per CPU second, with orders drawn from its mask.

    Each episode is run twice with the same random numbers: first to draw the orders, then to measure the
    time.
    """
    generator, spent, steps, episode = np.random.default_rng(0), 0.0, 0, 0
    while spent < seconds:
        episode += 1
        orders = []
        np.random.seed(episode)
        seen = env.reset()
        for _ in range(DECISIONS):
            orders.append([generator.choice(np.flatnonzero(leg)) for leg in seen["action_mask"]])
            seen, *_ = env.step(orders[-1])
        np.random.seed(episode)
        env.reset()
        started = time.thread_time()
        for order in orders:
            env.step(order)
        spent += time.thread_time() - started
        steps += DECISIONS
    return steps / spent


def steps_of_ours(env: Any, draw: Callable[[Any, Any], Any], seconds: float) -> float:
    """Return our steps per CPU second, without counting the steps that start new episodes."""
    generator, spent, steps = np.random.default_rng(0), 0.0, 0
    seen, _ = env.reset(seed=1)
    for number in range(10**9):
        actions = draw(seen["action_mask"], generator)
        started = time.thread_time()
        seen, *_ = env.step(actions)
        if number > DECISIONS:  # the first episode is not measured, because it includes the compilation
            spent += time.thread_time() - started
            steps += env.num_envs if (number + 1) % (DECISIONS + 1) else 0
        if spent > seconds:
            break
    return steps / spent


def masked_legs(mask: Any, generator: np.random.Generator) -> Any:
    """Return a random choice for each asset, int64 [E, N]; those that the mask allows are equally likely."""
    legs = mask.reshape(len(mask), -1, 11)
    return (generator.random(legs.shape) * legs).argmax(2)


def masked_joint(mask: Any, generator: np.random.Generator) -> Any:
    """Return the index of a random order that the mask allows, int64 [E]."""
    return (generator.random(mask.shape, np.float32) * mask).argmax(1)


# --- training samples per CPU second ---


class ObservationOnly(gymnasium.ObservationWrapper[Any, Any, Any]):
    """The environment with observations that do not contain the mask. MaskablePPO gets it from
    `action_masks`."""

    def __init__(self, env: PortfolioEnv):
        super().__init__(env)
        self.observation_space = env.observation_space["observations"]  # pyright: ignore[reportIndexIssue]
        self.inner = env

    def observation(self, observation: Any) -> Any:
        return observation["observations"]

    def action_masks(self) -> Any:
        return self.inner.action_masks()


class Until(BaseCallback):
    """Ends the training after a number of CPU seconds, before the next rollout."""

    def __init__(self, seconds: float):
        super().__init__()
        self.end = time.process_time() + seconds

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        if time.process_time() > self.end:
            raise TimeoutError


def samples_of_maskable_ppo(seconds: float, **more: Any) -> float:
    """Return the number of decisions that MaskablePPO trains on per CPU second, over whole updates only."""
    env = ObservationOnly(PortfolioEnv("corrected", "legs"))
    layers = {"net_arch": {"pi": [64, 64], "vf": [64, 64]}}
    model = MaskablePPO("MlpPolicy", env, policy_kwargs=layers, device="cpu", seed=0, **more)
    started = time.process_time()
    with contextlib.suppress(TimeoutError):
        model.learn(10**9, callback=Until(seconds))
    return model.num_timesteps / (time.process_time() - started)


def samples_of_ours(seconds: float) -> float:
    """Return the number of decisions that our PPO trains on per CPU second."""
    problem = variant("corrected")
    how = ppo.Hyperparameters(episodes=10**9, cpu_seconds=seconds + 1)
    learner = ppo.Learner(problem.rules, problem.market, replace(how, seed=0), problem.faithful)
    batches = learner.train()
    next(batches)  # the first batch includes the compilation
    before, spent = learner.done, learner.cpu_seconds
    for _ in batches:
        if learner.cpu_seconds - spent > seconds:
            break
    return (learner.done - before) * DECISIONS / (learner.cpu_seconds - spent)


def main() -> int:
    options = parse(sys.argv[1:])
    torch.set_num_threads(1)
    started = time.monotonic()
    source = published_environment(options.published)
    runs = []
    for repeat in range(options.repeats):
        found = {
            "published_steps_per_second": steps_of_published(source, options.seconds),
            "steps_per_second": steps_of_ours(
                PortfolioVectorEnv(COUNT, "published", "legs", copy=False), masked_legs, options.seconds
            ),
            "steps_per_second_joint": steps_of_ours(
                PortfolioVectorEnv(COUNT_JOINT, "published", "joint"), masked_joint, options.seconds
            ),
            "samples_per_second": samples_of_ours(2 * options.seconds),
            "samples_per_second_sb3": samples_of_maskable_ppo(2 * options.seconds),
            "samples_per_second_sb3_our_batches": samples_of_maskable_ppo(
                2 * options.seconds, n_steps=1200 * DECISIONS, batch_size=2400, n_epochs=4
            ),
        }
        runs.append(found)
        say(f"  repeat {repeat + 1}: " + ", ".join(f"{name} {value:,.0f}" for name, value in found.items()))

    def worst(ours: str, theirs: str) -> float:
        return min(run[ours] / run[theirs] for run in runs)

    report: dict[str, Any] = {
        "published_commit": COMMIT,
        "runs": runs,
        "environments": COUNT,
        "environments_joint": COUNT_JOINT,
        "metrics": {
            "env_steps_ratio": worst("steps_per_second", "published_steps_per_second"),
            "env_steps_ratio_joint": worst("steps_per_second_joint", "published_steps_per_second"),
            "train_samples_per_cpu_second": min(run["samples_per_second"] for run in runs),
            "train_samples_ratio": worst("samples_per_second", "samples_per_second_sb3"),
            "train_samples_ratio_our_batches": worst(
                "samples_per_second", "samples_per_second_sb3_our_batches"
            ),
        },
        "seconds": round(time.monotonic() - started, 1),
    }
    return bounds.finish(bounds.SPEED, report, options.json, say)


if __name__ == "__main__":
    sys.exit(main())
