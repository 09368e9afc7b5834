"""Measurements of `data_centric`."""

BENCHMARKS = ("labels", "selection", "robustness", "speed", "cifar")
