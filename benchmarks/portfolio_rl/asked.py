"""The measurements of `benchmarks.portfolio_rl.refusals`, which run in a separate Python environment."""

from __future__ import annotations

import logging
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from benchmarks.portfolio_rl import audit, bounds
from benchmarks.portfolio_rl.refusals import parse
from portfolio_trader import ppo, values
from portfolio_trader.export import export
from portfolio_trader.variants import Variant, variant

BATCH = 20_000
EXACT_BATCH = 1000
TRAINED = ppo.Hyperparameters(episodes=12_000, seed=0)


def say(line: str) -> None:
    print(line, flush=True)


# --- files ---


def session(policy: Any, folder: Path) -> onnxruntime.InferenceSession:
    path = folder / "policy.onnx"
    export(policy, 0, path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def policies(problem: Variant) -> dict[str, Any]:
    """Return a briefly trained network, a network with large random logits, and a fitted value function."""
    learner = ppo.Learner(problem.rules, problem.market, TRAINED)
    for _ in learner.train():
        pass
    wild = ppo.Learner(problem.rules, problem.market, TRAINED)
    wild.statistics.add(problem.market.draw(np.random.default_rng(0), 1000).prices)
    with torch.no_grad():
        for each in wild.network.parameters():
            each.copy_(torch.randn_like(each))
    rules = problem.rules.compiled()
    observed = problem.market.draw(np.random.default_rng(0), 500)
    fitted = values.fitted(observed, rules, problem.rules.cash, 0, values.Fitting(states=1000, draws=2))
    return {
        "trained network": learner.policy(),
        "random network": wild.policy(),
        "exact maximum": values.Maximiser(fitted, rules),
    }


# --- orders ---


def accounts(problem: Variant, generator: np.random.Generator, count: int) -> tuple[Any, ...]:
    """Return random accounts: lots [E, 3], cash [E], prices [E, 3], steps [E], masks [E, 3, 11].

    A third of the accounts have exactly the cash for a purchase, up to rounding. A third have no assets. A
    fifth of the masks exclude random choices, but never the choice of no trade.
    """
    steps = generator.integers(problem.market.steps - 1, size=count)
    noise = generator.normal(0, 2, (count, 3)) * problem.market.deviations
    prices = np.maximum(problem.market.means[steps] + noise, 0.02)
    lots = generator.integers(0, generator.integers(1, 30, (count, 1)), size=(count, 3))
    lots[generator.random(count) < 1 / 3] = 0
    cash = np.where(
        generator.random(count) < 0.5, generator.uniform(0, 3, count), 10 ** generator.uniform(0, 4, count)
    )
    exact = generator.random(count) < 1 / 3
    wanted = generator.integers(0, 6, (count, 3))
    cost = (audit.UNITS * wanted * (prices + audit.BUY_FEE)).sum(1)
    cash = np.where(exact, cost, cash)
    masks = np.ones((count, 3, 11), np.bool_)
    some = generator.random(count) < 0.2
    masks[some] = generator.random((int(some.sum()), 3, 11)) < 0.5
    masks[:, :, audit.LARGEST] = True
    return lots, cash, prices, steps, masks


def observation(lots: Any, cash: Any, prices: Any, steps: Any) -> Any:
    columns = [lots * audit.UNITS, cash[:, None], prices, steps[:, None]]
    return np.concatenate(columns, axis=1, dtype=np.float64)


def batches(total: int, size: int) -> Iterator[int]:
    for start in range(0, total, size):
        yield min(size, total - start)


def orders(
    problem: Variant, asked: onnxruntime.InferenceSession, total: int, size: int, seed: int
) -> dict[str, Any]:
    """Request `total` orders; return how many break each rule, how many trade, and how many were refused."""
    generator = np.random.default_rng(seed)
    counts: dict[str, int] = {}
    traded = refused = 0
    for count in batches(total, size):
        lots, cash, prices, steps, masks = accounts(problem, generator, count)
        given = {"observation": observation(lots, cash, prices, steps), "mask": masks}
        actions, valid = (np.asarray(each) for each in asked.run(["actions", "valid"], given))
        strict = problem.name == "strict"
        for rule, wrong in audit.violations(lots, cash, prices, actions, masks, strict).items():
            counts[rule] = counts.get(rule, 0) + int(wrong.sum())
        traded += int((actions != 0).any(1).sum())
        refused += int((~valid).sum())
    return {"orders": total, "traded": traded, "refused": refused, "violations": counts}


# --- invalid input ---


def refusals(asked: onnxruntime.InferenceSession) -> dict[str, bool]:
    """Return whether each kind of invalid input got no trade and was reported as invalid."""
    row = np.array([[20, 10, 0, 500, 40, 35, 48, 3]], np.float64)
    mask = np.ones((1, 3, 11), np.bool_)

    def invalid(seen: Any, allowed: Any) -> bool:
        actions, valid = (
            np.asarray(each) for each in asked.run(None, {"observation": seen, "mask": allowed})
        )
        return not valid.any() and not actions.any()

    def raises(seen: Any, allowed: Any) -> bool:
        try:
            asked.run(None, {"observation": seen, "mask": allowed})
        except Exception as error:  # ONNX Runtime's errors have no common base class
            return "INVALID_ARGUMENT" in str(error) or "Unexpected input data type" in str(error)
        return False

    if invalid(row, mask):
        raise RuntimeError("the exported policy file rejects a valid account")
    empty = mask.copy()
    empty[0, 1] = False
    none = np.zeros_like(mask)
    nans = [np.where(np.arange(row.size) == i, np.nan, row) for i in range(row.size)]
    return {
        "empty mask": invalid(row, empty) and invalid(row, none),
        "NaN": all(invalid(each, mask) for each in nans),
        "wrong shape": raises(row[:, :-1], mask) and raises(row[0], mask) and raises(row, mask[:, :2]),
        "wrong type": raises(row.astype(np.float32), mask) and raises(row, mask.astype(np.float32)),
    }


def main() -> int:
    options = parse(sys.argv[1:])
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    started = time.monotonic()
    report: dict[str, Any] = {"variants": {}}
    kinds: dict[str, bool] = {}
    for name in ("corrected", "strict"):
        problem, found = variant(name), {}
        rest = options.orders - options.exact_orders
        share = {
            "trained network": rest // 2,
            "random network": rest - rest // 2,
            "exact maximum": options.exact_orders,
        }
        for number, (label, policy) in enumerate(policies(problem).items()):
            with tempfile.TemporaryDirectory() as folder:
                asked = session(policy, Path(folder))
            size = EXACT_BATCH if label == "exact maximum" else BATCH
            found[label] = orders(problem, asked, share[label], size, number)
            found[label]["refusals"] = refusals(asked)
            for kind, good in found[label]["refusals"].items():
                kinds[kind] = kinds.get(kind, True) and good
            told = found[label]
            say(
                f"  {name}, {label}: {told['orders']:,} orders, {told['traded']:,} of them trade,"
                f" {sum(told['violations'].values())} violations"
            )
        report["variants"][name] = found
    every = [found for part in report["variants"].values() for found in part.values()]
    report["metrics"] = {
        "joint_orders": min(sum(f["orders"] for f in part.values()) for part in report["variants"].values()),
        "constraint_violations": sum(sum(found["violations"].values()) for found in every),
        "refused": sum(kinds.values()),
    }
    report["seconds"] = round(time.monotonic() - started, 1)
    return bounds.finish(bounds.REFUSALS, report, options.json, say)


if __name__ == "__main__":
    sys.exit(main())
