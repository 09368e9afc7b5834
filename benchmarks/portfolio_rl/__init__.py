"""Measurements of `portfolio_rl`."""

BENCHMARKS = ("values", "speed", "refusals")
