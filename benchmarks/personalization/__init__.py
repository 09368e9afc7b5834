"""Measurements of `personalization`."""

BENCHMARKS = ("quality", "serving", "scale", "faults", "api")
