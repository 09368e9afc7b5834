"""Metrics of this scenario, with meaning, unit and bound."""

from __future__ import annotations

from scenarios import Metric

BOUND = "the better of greedy orders and dynamic programming, both with the true mean prices"

METRICS = (
    Metric("value_best", "Mean final value of $1,000 by the best learned policy, held-out prices", "$"),
    Metric("value_bound", f"Mean final value by {BOUND}", "$"),
    Metric(
        "value_greedy_estimated",
        "Mean final value by greedy orders with the means of the observed episodes",
        "$",
    ),
    Metric("value_hold", "Mean final value without a trade", "$"),
    Metric(
        "value_ratio_best_corrected",
        f"Value of the best learned policy divided by that of {BOUND}",
        "",
        "higher",
        0.985,
    ),
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
    Metric("cpu_seconds_best", "Processor time to learn the best policy", "s", "lower", 60),
    Metric("episodes_best", "Price episodes that the best learned policy observed", "", "lower", 1000),
    Metric("value_ratio_ppo_corrected", "Value of PPO divided by the same bound, worst seed"),
    Metric("value_ratio_ppo_corrected_low", "Lower end of its 95% interval"),
    Metric("value_ratio_ppo_corrected_high", "Upper end of its 95% interval"),
    Metric("ppo_seeds", "Seeds of PPO"),
    Metric("sharpe_best", "Mean gain of an episode divided by its standard deviation, not annualized"),
    Metric("cvar_5_best", "Mean of the lowest twentieth of the final values", "$"),
    Metric("drawdown_best", "Mean of the largest fall from an earlier peak, as a share of the peak"),
    Metric("turnover_best", "Dollars traded in an episode divided by the mean total value"),
    Metric("fees_best", "Mean fees of an episode", "$"),
    Metric("served_orders", "Orders that the endpoint returned"),
    Metric("constraint_violations", "Orders of the endpoint that broke a rule", "", "lower", 0),
    Metric(
        "served_value_ratio",
        "Final value by the endpoint's orders divided by that by the policy itself, same prices",
        "",
        "higher",
        0.98,
    ),
    Metric("refused", "Kinds of invalid requests, of four, that got no trade", "", "higher", 4),
    Metric("seconds_to_stop", "Time from the stop switch to the first response without a trade", "s"),
    Metric("seconds_to_roll_back", "Time from the command to an earlier policy in service", "s"),
    Metric("seconds_pipeline", "Time from the start of the first execution to its policy in service", "s"),
)
