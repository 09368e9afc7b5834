"""The policy in Ray RLlib: its mask and its environment."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns

from portfolio_trader import cluster, rllib, variants
from toolkit.failure import FatalError
from toolkit.sagemaker import Cluster


@pytest.fixture(params=["corrected", "strict"])
def problem(request: pytest.FixtureRequest) -> rllib.Problem:
    chosen = variants.variant(request.param)
    return rllib.problem_of(chosen.rules, chosen.market, seed=0)


def module_of(problem: rllib.Problem, environment: rllib.Trading) -> Any:
    return rllib.MaskedOrders(
        observation_space=environment.single_observation_space,
        action_space=environment.single_action_space,
        model_config={"problem": problem, "width": 16},
    )


def test_drawn_orders_are_never_refused(problem: rllib.Problem) -> None:
    # given an untrained network, when it trades whole episodes
    environment = rllib.Trading({"problem": problem, "num_envs": 200})
    module = module_of(problem, environment)
    observations, _ = environment.reset(seed=1)
    traded = 0
    for _ in range(problem.market.steps - 1):
        drawn = module.forward_exploration({Columns.OBS: torch.from_numpy(observations).float()})
        legs = drawn[Columns.ACTIONS].numpy()
        observations, *_ = environment.step(legs)
        traded += int((legs > 0).any(1).sum())
        # then every order is admissible
        assert not environment.accounts.refused.any()
    assert traded > 1000


def test_training_applies_the_masks_of_sampling(problem: rllib.Problem) -> None:
    # given orders that an untrained policy has drawn
    environment = rllib.Trading({"problem": problem, "num_envs": 500})
    module = module_of(problem, environment)
    observations, _ = environment.reset(seed=2)
    for _ in range(5):
        drawn = module.forward_exploration({Columns.OBS: torch.from_numpy(observations).float()})
        observations, *_ = environment.step(drawn[Columns.ACTIONS].numpy())
    batch = {Columns.OBS: torch.from_numpy(observations).float()}
    drawn = module.forward_exploration(batch)
    # when the orders are used for training
    found = module.forward_train(batch | {Columns.ACTIONS: drawn[Columns.ACTIONS]})
    likelihood = module.get_train_action_dist_cls().from_logits(found[Columns.ACTION_DIST_INPUTS])
    # then their likelihoods in training are the same as when they were drawn
    again = likelihood.logp(drawn[Columns.ACTIONS]).detach().numpy()
    assert np.allclose(again, drawn[Columns.ACTION_LOGP].numpy(), atol=1e-4)


def test_gains_add_up_to_the_final_value(problem: rllib.Problem) -> None:
    environment = rllib.Trading({"problem": problem, "num_envs": 50})
    module = module_of(problem, environment)
    observations, _ = environment.reset(seed=3)
    total, ended = np.zeros(50), np.zeros(50, bool)
    while not ended.all():
        drawn = module.forward_inference({Columns.OBS: torch.from_numpy(observations).float()})
        observations, gain, ended, _, _ = environment.step(drawn[Columns.ACTIONS].numpy())
        total += gain
    assert np.allclose(1000 * (1 + total), environment.accounts.total())


def test_ray_is_not_started_on_a_host_with_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    # given a container without network isolation: an interface besides loopback is up
    monkeypatch.setattr(cluster, "interfaces", lambda: {"lo", "eth0"})
    monkeypatch.setattr(cluster, "_is_up", lambda interface: interface == "eth0")
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a program was started"))
    alone = Cluster(("127.0.0.2",), "127.0.0.2")
    # when the job would start Ray, then it fails instead, with a reason that names the remedy
    with pytest.raises(FatalError, match="run the job with network isolation"), cluster.head(alone, 1):
        pass
    with pytest.raises(FatalError, match="run the job with network isolation"):
        cluster.join(Cluster(("127.0.0.2", "127.0.0.3"), "127.0.0.3"), 1)
