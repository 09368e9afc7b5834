"""Measurements of `power_bidding`."""

BENCHMARKS = ("real_time", "lp_speed", "captures")
