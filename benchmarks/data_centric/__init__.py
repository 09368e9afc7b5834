"""Measurements of `data_centric`."""

BENCHMARKS = ("labels",)
