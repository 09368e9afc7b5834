"""The measurements of `benchmarks.portfolio_rl.own_prices`, which run in a separate Python environment.

The last fifth of a history is held out. As in a training job, a policy is fitted to the rest, on which
hyperparameters are also chosen, and is refitted for each part of the held-out fifth.
"""

from __future__ import annotations

import math
import sys
from dataclasses import asdict
from typing import Any

import numpy as np

from benchmarks.portfolio_rl import bounds
from benchmarks.portfolio_rl.own_prices import parse
from portfolio_trader import measures
from portfolio_trader.market import LOOK_BACK, Episodes, History, Scales
from portfolio_trader.rules import parse as rules_of
from portfolio_trader.settings import Settings
from portfolio_trader.values import CASH_UNIT, Maximiser, Run, Values, monomials, run, selected
from portfolio_trader.walk_forward import walk_forward
from tooling.table import print_table

RULES = rules_of(
    {
        "cash": 10_000,
        "largest_order": 4,
        "assets": [{"name": name, "lot": 25, "buy_rate": 0.001, "sell_rate": 0.001} for name in "AB"],
        "constraints": [{"kind": "cap", "assets": [name], "share": 0.6} for name in "AB"],
    }
)
PERSISTENCE, NOISE = 0.5, 0.01
"""Parameters of a planted signal: the share of a logarithmic return that the next return repeats, and the
standard deviation of the random part of a return."""
CONTINUATIONS = 2000
"""Number of short histories from the same start on which both policies are compared. One long history would
drift to prices at which a lot is nearly worthless."""


def planted(rows: int, generator: np.random.Generator) -> Any:
    """Return [rows, 2] prices in dollars; each return repeats a share of the previous one."""
    returns = generator.normal(0, NOISE, (rows, 2))
    for row in range(1, rows):
        returns[row] += PERSISTENCE * returns[row - 1]
    return 40 * np.exp(np.cumsum(returns, axis=0))


def walk(rows: int, seed: int) -> Any:
    """Return [rows, 2] prices in dollars, random walks: the expected next price is the current one."""
    generator = np.random.default_rng(np.random.SeedSequence([seed, 2]))
    return 40 * np.exp(np.cumsum(generator.normal(-(NOISE**2) / 2, NOISE, (rows, 2)), axis=0))


def knows(scales: Scales, horizon: float, steps: int) -> Values:
    """Return the value function, expanded to the second order, of a policy that knows the signal.

    A dollar of an asset has the value exp(horizon * r), where r is the asset's last logarithmic return.

    :param horizon: share of the last return that future returns are expected to add
    """
    assets = len(RULES.assets)
    terms = monomials(assets + 1 + 2 * assets, 3)
    weights = np.zeros(len(terms))
    weights[1 + assets] = CASH_UNIT
    for asset in range(assets):
        mean = horizon * scales.mean[asset] + NOISE**2 / 2
        deviation = horizon * scales.deviation[asset]
        signal = assets + 1 + asset
        dollar = 1 + mean + mean**2 / 2
        for term, weight in (
            ((asset,), dollar),
            ((asset, signal), deviation * (1 + mean)),
            ((asset, signal, signal), deviation**2 / 2),
        ):
            weights[_row(terms, term)] = CASH_UNIT * weight
    return Values(np.tile(weights, (steps - 1, 1)), 3, 2 * assets)


def _row(terms: Any, term: tuple[int, ...]) -> int:
    row = 0
    for variable in term:
        row = next(f for f in range(1, len(terms)) if tuple(terms[f]) == (row, variable))
    return row


def learned(past: Any, seed: int) -> tuple[Maximiser, History, Any]:
    """Fit a policy to a history, [rows, N]; returns it with the history and the chosen hyperparameters."""
    rules = RULES.compiled()
    known = History(past, History.scales_of(past))
    found, how = selected(known.every(), rules, RULES.cash, seed)
    return Maximiser(found, rules), known, how


def of_planted(rows: int, seed: int) -> dict[str, Any]:
    """Compare a policy learned from a history with rules that know the signal, on prices after the
    history."""
    generator = np.random.default_rng(np.random.SeedSequence([seed, 1]))
    policy, known, how = learned(planted(_cut(rows), generator), seed)
    length = LOOK_BACK + known.steps
    windows = [History(planted(length, generator), known.scales).every() for _ in range(CONTINUATIONS)]
    later = Episodes(*(np.concatenate(parts) for parts in zip(*windows, strict=True)))
    ours = _trade(policy, later)
    rules = {
        name: _trade(Maximiser(knows(known.scales, horizon, known.steps), RULES.compiled()), later)
        for name, horizon in (
            ("the next return", PERSISTENCE),
            ("all returns to come", PERSISTENCE / (1 - PERSISTENCE)),
        )
    }
    best = max(rules, key=lambda name: rules[name].final.mean())
    gain = [each.final - RULES.cash for each in (ours, rules[best])]
    return {
        "seed": seed,
        "learned": float(gain[0].mean()),
        "knows": float(gain[1].mean()),
        "rule": best,
        "degree": how.degree,
        "ratio": asdict(measures.ratio(*gain)),
    }


def of_walk(rows: int, seed: int) -> dict[str, Any]:
    """Measure the gain over holding cash on the held-out end of a random walk."""
    cut, prices = _cut(rows), walk(rows, seed)
    policy, known, how = learned(prices[:cut], seed)
    later = History(prices[cut - LOOK_BACK :], known.scales)
    walked = walk_forward(known, later, RULES, seed, how, Settings().folds)
    found: dict[str, Any] = {"seed": seed}
    for name, each in (("once", _trade(policy, later.every())), ("walked", walked)):
        found[name] = asdict(
            measures.gain(each.final, np.full_like(each.final, RULES.cash), overlap=later.steps)
        )
    return found


def _cut(rows: int) -> int:
    return round(rows * (1 - Settings().test_fraction))


def _trade(policy: Maximiser, later: Episodes) -> Run:
    return run(policy, later, RULES.compiled(), RULES.cash)


def main() -> int:
    options = parse(sys.argv[1:])
    signals = [of_planted(options.rows, seed) for seed in range(options.seeds)]
    print(
        f"planted signal: learned from {_cut(options.rows):,} prices, tested on {CONTINUATIONS:,} episodes\n"
    )
    print_table(
        [
            (
                row["seed"],
                f"{row['learned']:,.0f}",
                f"{row['knows']:,.0f}",
                row["rule"],
                "{value:.3f} [{low:.3f}, {high:.3f}]".format(**row["ratio"]),
            )
            for row in signals
        ],
        ("seed", "learned, gain $", "rule, gain $", "the rule knows", "ratio"),
    )
    walks = []
    print("\nrandom walks: gain over holding cash, 95 % interval\n", flush=True)
    for seed in range(options.walks):
        walks.append(of_walk(options.rows, seed))
        told = [f"{name} {_told(walks[-1][name])}" for name in ("once", "walked")]
        print(f"  {seed}: " + ", ".join(told), flush=True)
    above = {name: sum(row[name]["low"] > 0 for row in walks) for name in ("once", "walked")}
    report: dict[str, Any] = {
        "rows": options.rows,
        "planted": signals,
        "walks": walks,
        "metrics": {
            "planted_signal_ratio": min(row["ratio"]["value"] for row in signals),
            "walks": len(walks),
            "walks_above_zero": max(above.values()),
            "walks_mean_gain": math.fsum(row["walked"]["value"] for row in walks) / len(walks),
        },
    }
    return bounds.finish(bounds.OWN_PRICES, report, options.json)


def _told(gain: dict[str, float]) -> str:
    return "${value:+,.0f} [{low:+,.0f}, {high:+,.0f}]".format(**gain)


if __name__ == "__main__":
    sys.exit(main())
