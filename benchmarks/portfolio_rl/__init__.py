"""Measurements of `portfolio_rl`."""

BENCHMARKS = ("values", "speed", "refusals", "own_prices", "ray_cluster")
