"""Measurements of `data_centric`."""

BENCHMARKS = ("selection", "robustness", "speed")
