"""The measurements of `benchmarks.portfolio_rl.values`, which run in a separate Python environment.

Every policy trades on the same held-out paths. Ratios and gains are paired, path by path, with 95 %
intervals over the paths.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.portfolio_rl import bounds, programs
from benchmarks.portfolio_rl.values import parse
from portfolio_trader import baselines, measures, ppo, values
from portfolio_trader.export import export
from portfolio_trader.exported import CARD, POLICY, Exported
from portfolio_trader.market import Episodes
from portfolio_trader.published import SELL_FEE
from portfolio_trader.train import HELD_OUT_SEED, held_out_generator
from portfolio_trader.variants import Variant, variant
from tooling.table import print_table

OBSERVED, FEW = 1000, 100
"""Numbers of observed episodes from which mean prices are estimated: as many as the learner sees, and a
tenth."""
EXPORTED_PATHS = 2000
CONVEX_PATHS = 2000
FORESIGHT_NODES, FORESIGHT_GAP = 200, 0.002
"""Limits of HiGHS for each path: number of search nodes, and relative gap to the optimum. HiGHS stops at the
limit that it reaches first."""

SOURCE = ppo.Hyperparameters(
    batch=1316,
    minibatch=1000,
    epochs=20,
    rate=1e-4,
    clip=0.3,
    lambda_=1.0,
    entropy=0.0,
    value_weight=1.0,
    width=256,
)
"""The PPO hyperparameters of the AWS sample, as far as this learner supports them. A batch has 25,000
decisions, a minibatch 1,000; there are 20 epochs, and the learning rate is 1e-4. Other values are RLlib's
defaults, such as two layers of 256 units. Five things differ from the AWS sample: the objective is clipped
and has no KL penalty; the discount is 1, not 0.99; every step has a reward, not only the last one; prices are
normalised by running statistics; the learning rate falls to zero."""


class Comparison:
    """The comparison of policies on a variant: its price paths, and a row for each policy that traded on
    them."""

    def __init__(self, problem: Variant, paths: int):
        self.problem, self.rules = problem, problem.rules.compiled(problem.faithful)
        self.held_out = problem.market.draw(held_out_generator(), paths)
        self.rows: list[dict[str, Any]] = []
        self.bound = np.zeros(paths)
        self.greedy: dict[int, Any] = {}
        """Final values of the greedy policy by seed, [E]. The policy estimates mean prices from the seed's
        observed episodes."""

    def trade(self, policy: Any, paths: int | None = None) -> values.Run:
        """Trade on the first `paths` held-out paths; None: on all."""
        some = Episodes(self.held_out.prices[:paths], self.held_out.signals[:paths])
        return values.run(policy, some, self.rules, self.problem.rules.cash)

    def add(self, policy: str, knowledge: str, run: values.Run, **more: Any) -> dict[str, Any]:
        """Add and print a row, with the ratio to the bound and the gain over greedy on the same paths."""
        if self.rules.faithful:
            count(run, self.held_out.prices[: len(run.final)])
        row = {"policy": policy, "knowledge": knowledge, "paths": len(run.final), **more}
        row |= measures.summary(run, self.problem.rules.cash)
        return self.keep(row, run.final)

    def keep(self, row: dict[str, Any], final: Any) -> dict[str, Any]:
        if self.bound.any():
            row["ratio_to_bound"] = asdict(measures.ratio(final, self.bound[: len(final)]))
        greedy = self.greedy.get(row.get("seed", 0))
        if greedy is not None:
            row["gain_over_greedy"] = asdict(measures.gain(final, greedy[: len(final)]))
        self.rows.append(row)
        say(f"  {row['policy']}, {row['knowledge']}: ${row['mean']:,.1f}{_interval(row)}")
        return row

    def observed(self, seed: int) -> Episodes:
        """Return the episodes that a learner with this seed observes, drawn as in a training job."""
        return self.problem.market.draw(np.random.default_rng(seed), OBSERVED)

    def maximiser(self, found: values.Values) -> values.Maximiser:
        return values.Maximiser(found, self.rules)


def count(run: values.Run, prices: Any) -> None:
    """Write traded values and fees into a run of the variant `published`, from its holdings [E, S + 1, N].

    In this variant, orders are reduced to affordable ones, and purchases are charged the selling fee.
    """
    units = 10 * np.abs(np.diff(run.lots, axis=1))
    run.traded[:] = (units * prices[:, :-1]).sum((1, 2))
    run.fees[:] = (units * SELL_FEE).sum((1, 2))


def _interval(row: dict[str, Any]) -> str:
    found = row.get("ratio_to_bound")
    return (
        f", divided by the bound {found['value']:.4f} [{found['low']:.4f}, {found['high']:.4f}]"
        if found
        else ""
    )


def say(line: str) -> None:
    print(line, flush=True)


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return the result and the CPU seconds that it took."""
    started = time.process_time()
    return work(), time.process_time() - started


# --- policies without learning ---


def known_means(now: Comparison) -> float:
    """Add the greedy policy and the dynamic program, both with the true mean prices. The better one is the
    bound.

    Returns the program's value divided by greedy's.
    """
    market = now.problem.market
    greedy = now.trade(now.maximiser(values.greedy(market.means, now.rules)))
    found, seconds = timed(lambda: values.program(market, now.rules, now.problem.rules.cash))
    program = now.trade(now.maximiser(found))
    now.bound = max(greedy.final, program.final, key=np.mean)
    now.add("greedy", "known means", greedy)
    now.add("dynamic program", "known means", program, cpu_seconds=seconds)
    return float(program.final.mean() / greedy.final.mean())


def estimated_means(now: Comparison, seeds: int) -> None:
    """Add the greedy policy with mean prices that are estimated from the observed episodes of each seed."""
    for seed in range(seeds):
        for count in (FEW, OBSERVED):
            means = now.observed(seed).prices[:count].mean(0, dtype=np.float64)
            run = now.trade(now.maximiser(values.greedy(means, now.rules)))
            if count == OBSERVED:
                now.greedy[seed] = run.final
            now.add("greedy", f"{count:,} episodes", run, seed=seed)


def without_learning(now: Comparison) -> None:
    """Add the baselines that have no information about prices."""
    k = now.rules.largest
    nothing = "nothing"
    now.add("hold", nothing, now.trade(baselines.Hold()))
    size = (2 * k + 1) ** len(now.rules.lot)
    now.add("random", nothing, now.trade(baselines.Random(now.rules, size, 1)))
    now.add("buy and hold", nothing, now.trade(baselines.Rebalance(now.rules, until=4)))
    now.add("1/N", nothing, now.trade(baselines.Rebalance(now.rules)))


def solved(now: Comparison, paths: int) -> None:
    """Add perfect foresight and the policies that solve a program at every decision, on the first paths."""
    estimated = now.observed(0).prices.mean(0, dtype=np.float64)
    convex = min(CONVEX_PATHS, len(now.bound))
    for knowledge, means in (
        ("known means", now.problem.market.means),
        (f"{OBSERVED:,} episodes", estimated),
    ):
        run = now.trade(programs.Convex(means, now.rules), convex)
        now.add("convex optimizer, rounded", knowledge, run)
        run, seconds = timed(lambda means=means: now.trade(programs.Lookahead(means, now.rules), paths))
        now.add("model-predictive control", knowledge, run, cpu_seconds=seconds)
    some = Episodes(now.held_out.prices[:paths], now.held_out.signals[:paths])
    cash = now.problem.rules.cash
    final, most = programs.foresight(some, now.rules, cash, FORESIGHT_NODES, FORESIGHT_GAP)
    row = {"policy": "perfect foresight", "knowledge": "all prices", "paths": paths}
    row |= {"mean": float(final.mean()), "not_above": float(most.mean())}
    now.keep(row | {"standard_error": float(final.std(ddof=1) / np.sqrt(paths))}, final)


# --- learned policies ---


def best_learned(now: Comparison, seed: int) -> None:
    """Add value iteration on observed episodes, with hyperparameters that are chosen on these episodes."""
    observed, cash = now.observed(seed), now.problem.rules.cash
    small = values.Fitting(states=50, draws=1, passes=1)
    values.selected(
        Episodes(observed.prices[:30], observed.signals[:30]), now.rules, cash, 0, (small,)
    )  # compile
    (found, how), seconds = timed(lambda: values.selected(observed, now.rules, cash, seed))
    policy = now.maximiser(found)
    row = now.add(
        "fitted value iteration",
        f"{OBSERVED:,} episodes",
        now.trade(policy),
        seed=seed,
        cpu_seconds=seconds,
        degree=how.degree,
        states=how.states,
        draws=how.draws,
    )
    row["exported"] = exported(now, policy)


def by_ppo(now: Comparison, seed: int, how: ppo.Hyperparameters, name: str = "PPO") -> None:
    """Train PPO and add its row."""
    torch.set_num_threads(1)
    problem = now.problem
    learner = ppo.Learner(problem.rules, problem.market, replace(how, seed=seed), problem.faithful)
    curve = [[found["episodes"], found["mean_final_value"]] for found in learner.train()]
    policy = learner.policy()
    row = now.add(
        name,
        f"{learner.done:,} episodes",
        now.trade(policy),
        seed=seed,
        cpu_seconds=learner.cpu_seconds,
        episodes=learner.done,
        curve=curve[:: max(1, len(curve) // 100)],
    )
    row["exported"] = exported(now, policy)


def exported(now: Comparison, policy: Any) -> dict[str, float] | None:
    """Return the value that the exported policy file reaches, divided by that of `policy`; None for the
    variant `published`, whose policies are not exported."""
    if now.problem.faithful:
        return None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        export(policy, 0, folder / POLICY)
        (folder / CARD).write_text(json.dumps({"rules": now.problem.rules.as_dict()}))
        theirs = now.trade(Exported(folder), EXPORTED_PATHS)
    return asdict(measures.ratio(theirs.final, now.trade(policy, EXPORTED_PATHS).final))


# --- the report ---


def figures(variants: dict[str, Any]) -> dict[str, float]:
    """Return the measured figures of `bounds.VALUES`, each for the worst seed."""
    found: dict[str, float] = {}
    files: list[float] = []
    for name, part in variants.items():
        for label, policy in (("best", "fitted value iteration"), ("ppo", "PPO")):
            rows = [row for row in part["rows"] if row["policy"] == policy]
            if not rows:
                continue
            found[f"value_ratio_{label}_{name}"] = min(row["ratio_to_bound"]["value"] for row in rows)
            files += [row["exported"]["value"] for row in rows if row["exported"]]
            gain = min(row["gain_over_greedy"]["low"] for row in rows)
            found[f"gain_low_{name}" if label == "best" else f"ppo_gain_low_{name}"] = gain
            if label == "best":
                seconds = max(row["cpu_seconds"] for row in rows)
                found["fitting_cpu_seconds"] = max(seconds, found.get("fitting_cpu_seconds", 0.0))
                found["observed_episodes"] = OBSERVED
                if name == "published":
                    found["least_dollars"] = min(row["mean"] for row in rows)
        if name == "strict":
            found["program_ratio_strict"] = part["program_over_greedy"]
    if files:
        found["exported_ratio"] = min(files)
    return found


def told(name: str, rows: list[dict[str, Any]]) -> None:
    """Print the table of a variant."""
    say(f"\n{name}:\n")
    heads = (
        "policy",
        "knowledge",
        "seed",
        "paths",
        "mean $",
        "divided by the bound",
        "gain over greedy $",
        "Sharpe",
    )
    heads += ("drawdown", "CVaR 5 %", "turnover", "fees $", "CPU s")
    cells = []
    for row in rows:
        ratio, gain = row.get("ratio_to_bound"), row.get("gain_over_greedy")
        cells.append(
            (
                row["policy"],
                row["knowledge"],
                row.get("seed", ""),
                f"{row['paths']:,}",
                f"{row['mean']:,.0f} ± {1.96 * row['standard_error']:.0f}",
                f"{ratio['value']:.4f} [{ratio['low']:.4f}, {ratio['high']:.4f}]" if ratio else "",
                f"{gain['value']:+.1f} [{gain['low']:+.1f}, {gain['high']:+.1f}]" if gain else "",
                *(
                    f"{row[key]:{form}}" if key in row else ""
                    for key, form in (
                        ("sharpe", ".2f"),
                        ("drawdown", ".3f"),
                        ("cvar_5", ",.0f"),
                        ("turnover", ".1f"),
                        ("fees", ".1f"),
                        ("cpu_seconds", ".0f"),
                    )
                ),
            )
        )
    print_table(cells, heads, left=(0, 1))


def main() -> int:
    options = parse(sys.argv[1:])
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    started = time.monotonic()
    report: dict[str, Any] = {
        "paths": options.paths,
        "held_out_seed": HELD_OUT_SEED,
        "seeds": options.seeds,
        "source_dollars": bounds.SOURCE_DOLLARS,
        "program": asdict(values.PROGRAM) | {"episodes": values.PROGRAM_EPISODES},
        "variants": {},
    }
    budget = ppo.Hyperparameters(episodes=10**9, cpu_seconds=options.ppo_seconds)
    for name in options.variants:
        say(f"{name}:")
        now = Comparison(variant(name), options.paths)
        ratio = known_means(now)
        estimated_means(now, options.seeds)
        if "baselines" in options.only:
            without_learning(now)
        if "fitted" in options.only:
            for seed in range(options.seeds):
                best_learned(now, seed)
        if "programs" in options.only:
            solved(now, options.solver_paths)
        if "ppo" in options.only:
            for seed in range(options.seeds):
                by_ppo(now, seed, budget)
        if "source" in options.only and name == "published":
            how = replace(SOURCE, episodes=10**9, cpu_seconds=options.ppo_seconds)
            by_ppo(now, 0, how, "PPO with the source's hyperparameters")
        report["variants"][name] = {"program_over_greedy": ratio, "rows": now.rows}
    for name, part in report["variants"].items():
        told(name, part["rows"])
    report["metrics"] = figures(report["variants"])
    report["seconds"] = round(time.monotonic() - started, 1)
    return bounds.finish(bounds.VALUES, report, options.json, say)


if __name__ == "__main__":
    sys.exit(main())
