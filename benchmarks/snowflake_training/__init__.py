"""Measurements of `snowflake_training`."""

BENCHMARKS = ("schemes",)
