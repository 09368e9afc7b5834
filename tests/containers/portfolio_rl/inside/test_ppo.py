"""PPO: that it learns, is reproducible by its seed, and resumes from a checkpoint."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
import torch

from portfolio_trader import baselines, ppo, values
from portfolio_trader.orders import trade
from portfolio_trader.variants import VARIANTS

VARIANT = VARIANTS["strict"]
QUICK = ppo.Hyperparameters(episodes=24_000, batch=800, width=32, seed=1)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def learner() -> ppo.Learner:
    torch.set_num_threads(1)
    learner = ppo.Learner(VARIANT.rules, VARIANT.market, QUICK)
    for _ in learner.train():
        pass
    return learner


def test_policy_earns_more_than_random_and_rebalance(learner: ppo.Learner) -> None:
    rules = VARIANT.rules.compiled()
    unseen = VARIANT.market.draw(np.random.default_rng(9), 2000)
    ours = values.run(learner.policy(), unseen, rules, 1000).final.mean()
    for other in (baselines.Random(rules, 1331, 0), baselines.Rebalance(rules)):
        assert ours > 1.5 * values.run(other, unseen, rules, 1000).final.mean()


def test_policy_gives_admissible_orders_only(learner: ppo.Learner) -> None:
    rules = VARIANT.rules.compiled()
    unseen = VARIANT.market.draw(np.random.default_rng(9), 200)
    run = values.run(learner.policy(), unseen, rules, 1000)
    for e, step in itertools.product(range(200), range(19)):
        assert trade(
            run.actions[e, step], run.lots[e, step], run.cash[e, step], unseen.prices[e, step], rules
        )[0]


def weights(learner: ppo.Learner) -> torch.Tensor:
    return torch.cat([each.flatten() for each in learner.network.parameters()]).detach()


def test_weights_depend_on_the_seed_only() -> None:
    found = []
    for seed in (1, 1, 2):
        learner = ppo.Learner(VARIANT.rules, VARIANT.market, ppo.Hyperparameters(2400, batch=800, seed=seed))
        list(learner.train())
        found.append(weights(learner))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_training_resumed_from_a_checkpoint_equals_an_uninterrupted_one() -> None:
    # given a training run of six batches
    how = ppo.Hyperparameters(4800, batch=800, seed=3)
    whole = ppo.Learner(VARIANT.rules, VARIANT.market, how)
    list(whole.train())

    # when another run is interrupted after two batches, and a new learner continues it from its saved state
    first = ppo.Learner(VARIANT.rules, VARIANT.market, how)
    list(itertools.islice(first.train(), 2))
    kept = io.BytesIO()
    torch.save(first.state(), kept)
    kept.seek(0)
    second = ppo.Learner(VARIANT.rules, VARIANT.market, how)
    second.restore(torch.load(kept, weights_only=False))
    list(second.train())

    # then both runs end with the same weights
    assert torch.equal(weights(whole), weights(second))


@pytest.mark.parametrize("objective", ["log", "cvar"])
def test_other_objectives_are_learnt(objective: str) -> None:
    how = ppo.Hyperparameters(12_000, batch=800, width=32, objective=objective, seed=1)  # pyright: ignore
    learner = ppo.Learner(VARIANT.rules, VARIANT.market, how)
    progress = [found["mean_final_value"] for found in learner.train()]
    assert progress[-1] > progress[0]


def test_compiled_gradient_is_that_of_the_clipped_objective() -> None:
    # given random logits, masks and orders
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    logits = torch.randn(60, 6, 6, requires_grad=True)
    masks = torch.from_numpy(generator.random((60, 6, 6)) < 0.6)
    masks[:, :, 0] = True
    chosen = torch.tensor([[generator.choice(np.flatnonzero(leg)) for leg in row] for row in masks.numpy()])
    advantage = torch.randn(60)

    # when PyTorch computes the gradient of the loss
    log_p = logits.masked_fill(~masks, -1e9).log_softmax(-1)
    now = log_p.gather(-1, chosen.unsqueeze(-1)).squeeze(-1).sum(-1)
    before = (now + 0.3 * torch.randn(60)).detach()
    ratio = (now - before).exp()
    gain = torch.min(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).mean()
    entropy = -(log_p.exp() * log_p).sum((-1, -2)).mean()
    (-gain - 0.01 * entropy).backward()

    # then the compiled code computes the same gradient
    gradient = np.empty(logits.shape, np.float32)
    arrays = [each.numpy() for each in (masks, chosen, before, advantage)]
    found = ppo.clipped_objective(logits.detach().numpy(), *arrays, 0.2, 0.01, gradient)
    assert found == pytest.approx((gain.item(), entropy.item()), rel=1e-4)
    assert logits.grad is not None
    assert np.allclose(gradient, logits.grad.numpy(), atol=1e-6)
