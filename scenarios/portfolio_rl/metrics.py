"""Metrics of this scenario, with meaning, unit and bound."""

from __future__ import annotations

from scenarios import Metric

BOUND = "the better of greedy orders and dynamic programming, both with the true mean prices"

METRICS = (
    Metric("value_best", "Mean final value of $1,000 by the best learned policy, held-out prices", "$"),
    Metric("value_bound", f"The same by {BOUND}", "$"),
    Metric("value_greedy_estimated", "The same by greedy orders on the means of the observed episodes", "$"),
    Metric("value_hold", "The same without a trade", "$"),
    Metric("value_ratio_best_corrected", f"Best learned policy over {BOUND}", "", "higher", 0.985),
    Metric("value_ratio_best_corrected_low", "Lower end of its 95% interval"),
    Metric("value_ratio_best_corrected_high", "Upper end of its 95% interval"),
    Metric(
        "gain_over_greedy_estimated",
        "Paired gain of the best learned policy over greedy orders on the same observed episodes",
        "$",
        "higher",
        0,
    ),
    Metric("gain_over_greedy_estimated_low", "Lower end of its 95% interval", "$"),
    Metric("gain_over_greedy_estimated_high", "Upper end of its 95% interval", "$"),
    Metric("cpu_seconds_best", "Processor time in which it was learned", "s", "lower", 60),
    Metric("episodes_best", "Price episodes that it observed", "", "lower", 1000),
    Metric("value_ratio_ppo_corrected", "PPO over the same bound, worst of the seeds"),
    Metric("value_ratio_ppo_corrected_low", "Lower end of its 95% interval"),
    Metric("value_ratio_ppo_corrected_high", "Upper end of its 95% interval"),
    Metric("ppo_seeds", "Seeds of PPO"),
    Metric("sharpe_best", "Mean gain of an episode over its standard deviation, not annualized"),
    Metric("cvar_5_best", "Mean of the lowest twentieth of the final values", "$"),
    Metric("drawdown_best", "Mean of the largest fall from an earlier peak, as a share of it"),
    Metric("turnover_best", "Traded in an episode over the mean total value"),
    Metric("fees_best", "Fees of an episode", "$"),
    Metric("served_orders", "Orders that the endpoint gave in the trades through it"),
    Metric("constraint_violations", "Orders of these that broke a rule", "", "lower", 0),
    Metric(
        "served_value_ratio",
        "Final value by the endpoint's orders over that by the policy itself, same prices",
        "",
        "higher",
        0.98,
    ),
    Metric("refused", "Invalid requests, of four kinds, that were answered with no trade", "", "higher", 4),
    Metric("seconds_to_stop", "From the stop switch to the first answer without a trade", "s"),
    Metric("seconds_to_roll_back", "From the command to an earlier policy in service", "s"),
    Metric("seconds_pipeline", "From the start of the first execution to its policy in service", "s"),
)
