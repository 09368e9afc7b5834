"""Measurements of `power_bidding`."""

BENCHMARKS = ("real_time", "modes", "lp_speed", "captures", "hosting", "quest", "faults")
