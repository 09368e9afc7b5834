"""The figures of these benchmarks, with their bounds and how they are aggregated over seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scenarios import Metric

SOURCE_DOLLARS = 3000
"""The AWS sample reports a mean final value of more than this number of dollars, after 500,000 episodes that
start with $1,000."""


def _values() -> list[Metric]:
    best = {"published": 0.99, "corrected": 0.985, "strict": 0.995}
    ppo = {"published": 0.975, "corrected": 0.965, "strict": 0.96}
    of = "value divided by the better of greedy and dynamic program with known means, worst seed"
    found = [
        Metric(f"value_ratio_best_{name}", f"{name}, best learned policy: {of}", "", "higher", bound)
        for name, bound in best.items()
    ]
    found += [
        Metric(f"value_ratio_ppo_{name}", f"{name}, PPO alone: {of}", "", "higher", bound)
        for name, bound in ppo.items()
    ]
    found += [
        Metric(
            f"gain_low_{name}",
            f"{name}, best learned policy's paired gain over greedy on the same observed episodes: lower end"
            " of the 95 % interval, worst seed",
            "$",
            "higher",
            1e-9,
        )
        for name in ("published", "corrected")
    ]
    found += [
        Metric(
            "exported_ratio",
            "value of an exported file divided by its policy's value, worst file",
            "",
            "higher",
            0.98,
        ),
        Metric(
            "program_ratio_strict",
            "strict: dynamic program divided by greedy, known means",
            "",
            "higher",
            1.0,
        ),
        Metric(
            "fitting_cpu_seconds",
            "time to select and fit the best learned policy, slowest fit",
            "s",
            "lower",
            60,
        ),
        Metric("observed_episodes", "episodes that the best learned policy was fitted to", "", "lower", 1000),
        Metric(
            "least_dollars",
            "mean final value of the best learned policy on published, worst seed",
            "$",
            "higher",
            SOURCE_DOLLARS,
        ),
    ]
    return found


VALUES = _values()
SPEED = [
    Metric(
        "env_steps_ratio",
        "steps per second of our vectorized core on published, mask and observation included, divided by"
        " the published code's without its prints",
        "",
        "higher",
        300,
    ),
    Metric("env_steps_ratio_joint", "the same ratio with the joint mask of 1,331 orders"),
    Metric("train_samples_per_cpu_second", "decisions that PPO trains on per CPU second"),
    Metric("train_samples_ratio", "that rate divided by sb3-contrib's MaskablePPO's", "", "higher", 10),
]
REFUSALS = [
    Metric(
        "joint_orders",
        "orders requested of exported files, for each of corrected and strict",
        "",
        "higher",
        10_000_000,
    ),
    Metric("constraint_violations", "rules that these orders broke, by an independent check", "", "lower", 0),
    Metric("refused", "kinds of invalid input that got no trade and were reported", "", "higher", 4),
]
OWN_PRICES = [
    Metric(
        "planted_signal_ratio",
        "gain of the learned policy divided by that of a rule that knows the signal; worst history",
        "",
        "higher",
        0.8,
    ),
    Metric("walks", "number of random walks on which a policy was trained and tested", "", "higher", 20),
    Metric(
        "walks_above_zero",
        "random walks where the 95 % interval of the gain over holding cash lies above zero",
        "",
        "lower",
        2,
    ),
    Metric(
        "walks_mean_gain",
        "mean gain over holding cash on random walks, with a policy refitted for each part",
        "$",
    ),
]
RAY = [
    Metric(
        "value_ratio_rllib_1",
        "RLlib on one instance: mean final value divided by the bound's; the worst seed",
    ),
    Metric(
        "value_ratio_rllib_2",
        "RLlib on two instances: mean final value divided by the bound's; the worst seed",
    ),
    Metric("rllib_2_over_1", "value_ratio_rllib_2 minus value_ratio_rllib_1, mean over the seeds"),
    Metric(
        "rllib_2_over_1_low",
        "lower end of the 95 % interval of that difference over the seeds",
        "",
        "lower",
        0,
    ),
    Metric("rllib_2_over_1_high", "upper end of the 95 % interval of that difference", "", "higher", 0),
    Metric(
        "sampling_nodes",
        "number of instances, of two, whose env runners sampled; the job with the fewest",
        "",
        "higher",
        2,
    ),
    Metric(
        "ray_vs_vectorized_ratio",
        "training decisions per second: RLlib on one instance divided by PPO in one process, on the same two"
        " cores",
    ),
    Metric(
        "value_ratio_one_process",
        "PPO in one process, same number of episodes: mean final value divided by the bound's",
    ),
    Metric("dollars_source", "RLlib with the source's hyperparameters: mean final value", "$"),
    Metric(
        "value_ratio_source",
        "RLlib with the source's hyperparameters: mean final value divided by the bound's",
    ),
]


def missed(metrics: Sequence[Metric], figures: Mapping[str, float]) -> list[str]:
    """Return a sentence for each measured figure that is not within its bound."""
    found = []
    for metric in metrics:
        value = figures.get(metric.name)
        if value is not None and not metric.reached(value):
            sign = "at least" if metric.better == "higher" else "at most"
            found.append(f"{metric.name} must be {sign} {metric.bound:g}, got {value:.6g}")
    return found


def finish(metrics: Sequence[Metric], report: dict[str, Any], path: Path | None, say: Any = print) -> int:
    """Write the report, print the figures with their bounds, and return the exit code."""
    figures: dict[str, float] = report["metrics"]
    say("\nFigures and bounds:")
    for metric in metrics:
        if (value := figures.get(metric.name)) is None:
            continue
        bound = (
            ""
            if metric.bound is None
            else f", at {'least' if metric.better == 'higher' else 'most'} {metric.bound:g}"
        )
        verdict = "" if metric.bound is None else ": reached" if metric.reached(value) else ": NOT REACHED"
        say(f"  {metric.name} {value:.5g}{bound}{verdict}")
        say(f"    {metric.meaning}")
    report["missed"] = missed(metrics, figures)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=1) + "\n")
        say(f"\nFigures in {path}.")
    return int(bool(report["missed"]))
